package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"ingestd/internal/fhir"
)

// PhaseCapability is the request for the CapabilityStatement, which belongs to no export.
const PhaseCapability Phase = "capability"

// maxCapability bounds a CapabilityStatement. Those of large servers reach several MiB.
const maxCapability = 32 << 20

// Capability is what a payer's CapabilityStatement says about exports. Servers declare less, and other things, than they
// do: it is good for warnings and for nothing else (DISC-7).
type Capability struct {
	FHIRVersion string
	// Software is the server's name and version.
	Software string
	// System, Patient and Group say at which levels an export operation is declared.
	System, Patient, Group bool
	// BulkData is true where the server claims to follow the Bulk Data guide, in whatever version.
	BulkData bool
	// GuideVersion is the version of the guide that it claims, empty where it does not say.
	GuideVersion string
	// Definitions are the canonical URLs of the export operations' definitions, by level: system, patient, group.
	Definitions map[string]string
	// Types are the resource types that the server declares, sorted.
	Types []string
}

// Capability reads the payer's CapabilityStatement, without a token, as anybody may (Bulk Data 3.0, Server Capability
// Documentation).
func (c *Client) Capability(ctx context.Context) (Capability, error) {
	u := c.base.JoinPath("metadata")
	response, _, err := c.do(ctx, call{
		phase:  PhaseCapability,
		method: http.MethodGet,
		url:    u,
		header: http.Header{"Accept": {"application/fhir+json"}, "Accept-Encoding": {"gzip"}},

		idempotent: true,
	})
	if err != nil {
		return Capability{}, err
	}
	if response.StatusCode != http.StatusOK {
		return Capability{}, c.refused(PhaseCapability, response, false)
	}
	defer drain(response)
	data, err := readBounded(response, maxCapability)
	if err == nil {
		var capability Capability
		if capability, err = parseCapability(data); err == nil {
			return capability, nil
		}
	}
	if ctx.Err() != nil {
		return Capability{}, fmt.Errorf("%s: %w", PhaseCapability, context.Cause(ctx))
	}
	return Capability{}, &Error{
		Phase: PhaseCapability, Code: CodeNoCapability, Status: response.StatusCode, Action: ActionRetry, Err: err,
		Detail: "the server's metadata is no CapabilityStatement but " + describe(response.Header.Get("Content-Type"), data),
		Hint:   "check fhir_url",
	}
}

func parseCapability(data []byte) (Capability, error) {
	type operation struct {
		Name       string `json:"name"`
		Definition string `json:"definition"`
	}
	var statement struct {
		ResourceType string   `json:"resourceType"`
		FHIRVersion  string   `json:"fhirVersion"`
		Instantiates []string `json:"instantiates"`
		Guides       []string `json:"implementationGuide"`
		Software     struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"software"`
		Rest []struct {
			Operation []operation `json:"operation"`
			Resource  []struct {
				Type      string      `json:"type"`
				Operation []operation `json:"operation"`
			} `json:"resource"`
		} `json:"rest"`
	}
	var wrongType *json.UnmarshalTypeError // what could be read is worth having
	if err := json.Unmarshal(bytes.TrimPrefix(data, []byte(byteOrderMark)), &statement); err != nil && !errors.As(err, &wrongType) {
		return Capability{}, fmt.Errorf("read the CapabilityStatement: %w", err)
	}
	if statement.ResourceType != "CapabilityStatement" {
		return Capability{}, errors.New("another resource")
	}
	capability := Capability{
		FHIRVersion: fhir.Printable(statement.FHIRVersion, 40),
		Software:    fhir.Printable(statement.Software.Name+" "+statement.Software.Version, 200),
		Definitions: make(map[string]string),
	}
	for _, guide := range slices.Concat(statement.Instantiates, statement.Guides) {
		if strings.Contains(strings.ToLower(guide), "bulkdata") {
			capability.BulkData = true
			if _, version, ok := strings.Cut(guide, "|"); ok && capability.GuideVersion == "" {
				capability.GuideVersion = fhir.Printable(version, 40)
			}
		}
	}
	types := make(map[string]bool)
	note := func(resourceType string, operations []operation) {
		for _, o := range operations {
			level, ok := exportLevel(resourceType, o.Name, o.Definition)
			capability.System = capability.System || ok && level == "system"
			capability.Patient = capability.Patient || ok && level == "patient"
			capability.Group = capability.Group || ok && level == "group"
			if ok && o.Definition != "" && capability.Definitions[level] == "" {
				capability.Definitions[level] = o.Definition
			}
		}
	}
	for _, rest := range statement.Rest {
		note("", rest.Operation)
		for _, resource := range rest.Resource {
			note(resource.Type, resource.Operation)
			if fhir.KnownType(resource.Type) {
				types[resource.Type] = true
			}
		}
	}
	capability.Types = slices.Sorted(maps.Keys(types))
	return capability, nil
}

// exportLevel tells an export operation by its definition or, where that says nothing, by its name: servers call it
// export, $export, patient-export, group-export, or by a versioned name.
func exportLevel(resourceType, name, definition string) (string, bool) {
	canonical, _, _ := strings.Cut(definition, "|")
	if u, err := url.Parse(canonical); err == nil {
		canonical = u.Path
	}
	text := strings.ToLower(name + " " + canonical[strings.LastIndexByte(canonical, '/')+1:])
	if !strings.Contains(text, "export") {
		return "", false
	}
	switch {
	case resourceType == "Patient", strings.Contains(text, "patient"):
		return "patient", true
	case resourceType == "Group", strings.Contains(text, "group"):
		return "group", true
	case resourceType == "":
		return "system", true
	}
	return "", false
}
