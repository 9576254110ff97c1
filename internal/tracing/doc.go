// Package tracing sends OpenTelemetry traces by OTLP over HTTP: one trace per export, whichever instances work on it.
//
// The jobs of an export run minutes or days apart, on any instance, so that no context leads from one to the next. The trace's
// identifier, and that of its root span, follow from the export's number and the time at which it was recorded instead: each job
// begins its spans below the same root, without anything being stored or handed on. The root itself is sent when the export has been
// cleaned up, with the times of the whole. Whether a trace is sampled follows from its identifier too, and so it is sent whole or not at
// all, provided that all instances have the same ratio.
//
// Spans hold numbers, names of the configuration, codes and states. They hold no URL, no resource and nothing that a payer said.
// Nothing of a trace is sent to payers: there is no traceparent header.
package tracing
