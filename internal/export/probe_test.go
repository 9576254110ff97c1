package export

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"ingestd/internal/config"
)

func TestProbe_reads_a_resource_that_does_not_exist_and_nothing_else(t *testing.T) {
	t.Parallel()
	p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(map[bool]int{true: 404, false: 401}[r.Header.Get("Authorization") != ""])
	})
	for withToken, want := range map[bool]int{true: 404, false: 401} {
		if got, err := p.client.Probe(t.Context(), "Patient", withToken); got != want || err != nil {
			t.Errorf("with the token %v: got %d, %v; want %d", withToken, got, err, want)
		}
	}
	for _, r := range p.seen() {
		if r.Method != http.MethodGet || r.RequestURI != "/fhir/Patient/ingestd-doctor" || r.Header.Get("Prefer") != "" {
			t.Errorf("got %s %s with Prefer %q, want a mere read", r.Method, r.RequestURI, r.Header.Get("Prefer"))
		}
	}
	p.Close()
	if _, err := p.client.Probe(t.Context(), "Patient", true); err == nil {
		t.Error("got no error from a server that is gone")
	}
}

func TestExportParameters_are_read_from_the_payers_own_definition(t *testing.T) {
	t.Parallel()
	const definition = `{"resourceType":"OperationDefinition","parameter":[{"name":"_since","use":"in"},{"name":"_type"},
		{"name":"return","use":"out"},{"name":"_since","use":"in"}]}`
	p := newPayer(t, answer(200, nil, definition))
	own := p.URL + "/fhir/OperationDefinition/export"
	for _, test := range []struct {
		definition string
		want       []string
		requests   int
	}{
		{own, []string{"_since", "_type"}, 1},
		{own + "|1.0", []string{"_since", "_type"}, 1},
		{"http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export", nil, 0},
		{p.URL + "/fhir/$export", nil, 0}, // a canonical URL may be anything; this one would start an export
		{p.URL + "/fhir/OperationDefinition/../$export", nil, 0},
		{p.URL + "/fhir/OperationDefinition/..", nil, 0},
		{own + "?x=y", nil, 0},
		{p.URL + "/other/OperationDefinition/export", nil, 0},
		{"::", nil, 0},
	} {
		before := len(p.seen())
		got, err := p.client.ExportParameters(t.Context(), test.definition)
		if err != nil || !slices.Equal(got, test.want) || len(p.seen())-before != test.requests {
			t.Errorf("%s: got %v, %v after %d requests; want %v after %d", test.definition, got, err, len(p.seen())-before, test.want, test.requests)
		}
	}
	for _, handler := range []http.HandlerFunc{
		answer(404, nil, ""), answer(200, nil, "<html>"), answer(200, nil, `{"resourceType":"Bundle"}`),
		answer(200, nil, `{"resourceType":"OperationDefinition","text":"`+strings.Repeat("x", maxOperationDefinition)+`"}`),
	} {
		p := newPayer(t, handler)
		if got, err := p.client.ExportParameters(t.Context(), p.URL+"/fhir/OperationDefinition/export"); err == nil {
			t.Errorf("got %v and no error", got)
		}
	}
}

func TestParametersOf_are_those_that_exports_send(t *testing.T) {
	t.Parallel()
	c := newClient(t, "https://payer.example/fhir", func(o *Options) {
		o.Payer.Export = config.Export{Level: "system", Types: []string{"Patient"}, PartialManifests: true}
	})
	for since, want := range map[bool]string{true: "[_since _type allowPartialManifests]", false: "[_type allowPartialManifests]"} {
		if got := fmt.Sprint(c.ParametersOf(since)); got != want {
			t.Errorf("incremental %v: got %s, want %s", since, got, want)
		}
	}
}
