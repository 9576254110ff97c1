// Package fhir holds what the rest of ingestd needs to know of FHIR itself: the resource types, which member of a
// resource names its patient, a scanner that reads the key facts of an NDJSON line in one pass, and the two small
// resources that the Bulk Data protocol speaks in, OperationOutcome and the Bundle of deletions.
//
// It is a leaf: no I/O, no configuration, nothing of the other packages.
package fhir
