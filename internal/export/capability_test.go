package export

import (
	"strings"
	"testing"
)

func TestDISC7_capability(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, rest, want string
	}{
		{"by the guide", `{"operation":[{"name":"export","definition":"http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export"}],
			"resource":[{"type":"Patient","operation":[{"name":"export","definition":"http://hl7.org/fhir/uv/bulkdata/OperationDefinition/patient-export|2.0"}]},
			{"type":"Group","operation":[{"name":"$export"}]}]}`, "system patient group"},
		{"all at the root", `{"operation":[{"name":"patient-export"},{"name":"group-export","definition":"x"}]}`, "patient group"},
		{"a versioned name", `{"resource":[{"type":"Group","operation":[{"name":"group-export-v2"}]}]}`, "group"},
		{"something else", `{"operation":[{"name":"everything"}],"resource":[{"type":"Claim","operation":[{"name":"export"}]}]}`, ""},
	} {
		p := newPayer(t, answer(200, nil, `{"resourceType":"CapabilityStatement","fhirVersion":"4.0.1","software":{"name":"S","version":"1"},
			"instantiates":["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"],"rest":[`+test.rest+`]}`))
		got, err := p.client.Capability(t.Context())
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		var levels []string
		if got.System {
			levels = append(levels, "system")
		}
		if got.Patient {
			levels = append(levels, "patient")
		}
		if got.Group {
			levels = append(levels, "group")
		}
		if strings.Join(levels, " ") != test.want || got.FHIRVersion != "4.0.1" || got.Software != "S 1" || !got.BulkData {
			t.Errorf("%s: got %+v, want %s", test.name, got, test.want)
		}
		if request := p.seen()[0]; request.URL.Path != "/fhir/metadata" || request.Header.Get("Authorization") != "" {
			t.Errorf("%s: got %s with %v", test.name, request.URL, request.Header)
		}
	}
}

func TestDISC7_metadata_may_begin_with_a_byte_order_mark(t *testing.T) {
	t.Parallel()
	p := newPayer(t, answer(200, nil, "\ufeff"+`{"resourceType":"CapabilityStatement","fhirVersion":"4.0.1"}`))
	if got, err := p.client.Capability(t.Context()); err != nil || got.FHIRVersion != "4.0.1" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestDISC7_metadataThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for status, code := range map[int]string{401: CodeUnauthorized, 500: CodePayerError, 404: "capability_refused", 403: "capability_refused"} {
		p := newPayer(t, answer(status, nil, ""))
		_, err := p.client.Capability(t.Context())
		wantError(t, err, code, map[string]Action{CodePayerError: ActionRetry}[code])
	}
	for _, body := range []string{"<html>", "{}", `{"resourceType":"Bundle"}`, ""} {
		p := newPayer(t, answer(200, nil, body))
		_, err := p.client.Capability(t.Context())
		wantError(t, err, "not_a_capability_statement", ActionRetry)
	}
}
