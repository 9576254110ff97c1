package payersim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// exportRequest is a kick-off's parameters, read and checked.
type exportRequest struct {
	types   []string // nil: none named
	since   time.Time
	until   time.Time
	partial bool     // the client takes pages of the manifest while the export runs
	ignored []string // parameters left aside because the client prefers handling=lenient
}

// parameters are a kick-off's raw values by name, from the query or the Parameters resource.
type parameters map[string][]string

const maxParametersBytes = 1 << 20

// unsupported are the parameters that Bulk Data 3.0 names and this payer does not implement; lenient handling ignores
// them.
var unsupported = []string{
	"_typeFilter", "_elements", "patient", "includeAssociatedData", "organizeOutputBy",
}

var errParameters = errors.New("the body must be a Parameters resource")

// queryParameters reads a GET kick-off. A repeated parameter is refused: some servers read only the first and drop the
// rest without a word, so a client must not send it (KICK-4).
func queryParameters(r *http.Request) (parameters, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, errors.New("the query cannot be read")
	}
	out := parameters{}
	for name, list := range values {
		if len(list) > 1 {
			return nil, fmt.Errorf("parameter %q appears %d times; put its values into one, separated by commas", name, len(list))
		}
		out[name] = list
		if name == "_type" {
			out[name] = strings.Split(list[0], ",")
		}
	}
	return out, nil
}

// valueMembers are the members of a Parameters entry that carry each parameter's value. Bulk Data 3.0,
// OperationDefinitions.
var valueMembers = map[string]string{
	"_type": "valueString", "_outputFormat": "valueString", "_since": "valueInstant", "_until": "valueInstant",
	"allowPartialManifests": "valueBoolean",
}

// bodyParameters reads a POST kick-off: one entry a value, never commas (KICK-4).
func bodyParameters(w http.ResponseWriter, r *http.Request) (parameters, error) {
	if r.URL.RawQuery != "" {
		return nil, errors.New("a POST kick-off takes its parameters from the body, not from the query")
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/fhir+json" {
		return nil, errors.New("a POST kick-off needs Content-Type application/fhir+json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxParametersBytes))
	if err != nil {
		return nil, errParameters
	}
	var doc struct {
		ResourceType string                       `json:"resourceType"`
		Parameter    []map[string]json.RawMessage `json:"parameter"`
	}
	if err := json.Unmarshal(body, &doc); err != nil || doc.ResourceType != "Parameters" {
		return nil, errParameters
	}
	out := parameters{}
	for i, entry := range doc.Parameter {
		var name, value string
		if json.Unmarshal(entry["name"], &name) != nil || name == "" {
			return nil, fmt.Errorf("entry %d of the Parameters has no name", i)
		}
		if member, known := valueMembers[name]; known {
			if member == "valueBoolean" { // true and false are their own text
				entry[member] = json.RawMessage(`"` + string(entry[member]) + `"`)
			}
			if len(entry) != 2 || json.Unmarshal(entry[member], &value) != nil {
				return nil, fmt.Errorf("parameter %q needs a %s and nothing else", name, member)
			}
		}
		if name == "_type" && strings.Contains(value, ",") {
			return nil, errors.New(`parameter "_type" in a Parameters resource has one value an entry, no commas`)
		}
		if name != "_type" && out[name] != nil && valueMembers[name] != "" {
			return nil, fmt.Errorf("parameter %q appears more than once", name)
		}
		out[name] = append(out[name], value)
	}
	return out, nil
}

// instantForm is FHIR's instant: to the second at least, and with a time zone.
var instantForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$`)

// read checks the parameters against what the payer holds. Errors name the parameter.
func (p parameters) read(held []string, now time.Time, lenient bool) (exportRequest, error) {
	var req exportRequest
	names := make([]string, 0, len(p))
	for name := range p {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := req.set(name, p[name], held, lenient); err != nil {
			return req, err
		}
	}
	if req.since.After(now) {
		return req, errors.New(`parameter "_since" lies in the future`)
	}
	if !req.until.IsZero() && !req.until.After(req.since) {
		return req, errors.New(`parameter "_until" is not later than "_since"`)
	}
	return req, nil
}

func (req *exportRequest) set(name string, values, held []string, lenient bool) error {
	switch name {
	case "_type":
		for _, value := range values {
			switch {
			case slices.Contains(req.types, value):
			case slices.Contains(held, value):
				req.types = append(req.types, value)
			case lenient && isTypeName(value):
				req.ignored = append(req.ignored, "_type="+value)
			default:
				return fmt.Errorf("parameter \"_type\": this server does not export the resource type %q", value)
			}
		}
		return nil
	case "_since", "_until":
		instant, err := time.Parse(time.RFC3339Nano, values[0])
		if err != nil || !instantForm.MatchString(values[0]) {
			return fmt.Errorf("parameter %q is no instant with a time zone", name)
		}
		if name == "_since" {
			req.since = instant
		} else {
			req.until = instant
		}
		return nil
	case "allowPartialManifests":
		if values[0] != "true" && values[0] != "false" {
			return fmt.Errorf("parameter %q is true or false", name)
		}
		req.partial = values[0] == "true"
		return nil
	case "_outputFormat":
		if !slices.Contains([]string{"application/fhir+ndjson", "application/ndjson", "ndjson"}, values[0]) {
			return fmt.Errorf("parameter %q: this server exports application/fhir+ndjson", name)
		}
		return nil
	}
	if lenient && slices.Contains(unsupported, name) {
		req.ignored = append(req.ignored, name)
		return nil
	}
	return fmt.Errorf("parameter %q is not supported", name)
}
