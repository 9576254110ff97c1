package export

import (
	"net/http"
	"testing"

	"ingestd/internal/config"
)

func TestKICK7_a_request_is_known_for_ours(t *testing.T) {
	t.Parallel()
	client := func(change func(*config.Export)) *Client {
		payer := config.Payer{Name: "p", FHIRURL: "https://fhir.example/r4", Export: config.Export{
			Level: "group", GroupID: "a b/c", Method: "get", Types: []string{"Patient", "Coverage"},
			TypeFilters: []string{"Coverage?status=active,draft"},
		}}
		if change != nil {
			change(&payer.Export)
		}
		c, err := New(Options{Payer: payer, Authorized: http.DefaultTransport, Plain: http.DefaultTransport})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const since = "2026-01-02T03:04:05Z"
	ours := "https://gateway.example/other/Group/a%20b%2Fc/$export?_type=Coverage,Patient&_since=2026-01-02T03%3A04%3A05Z" +
		"&_typeFilter=Coverage%3Fstatus%3Dactive%2Cdraft&allowPartialManifests=true"
	for name, test := range map[string]struct {
		said        string
		change      func(*config.Export)
		same, known bool
	}{
		"the same behind a gateway": {ours, nil, true, true},
		"in several _type": {
			"https://x.example/Group/a%20b%2Fc/%24export?_type=Patient&_type=Coverage&_since=2026-01-02T03:04:05Z" +
				"&_typeFilter=Coverage%3Fstatus%3Dactive%2Cdraft", nil, true, true,
		},
		"nothing":         {"", nil, false, false},
		"no URL":          {"%zz", nil, false, false},
		"a POST":          {ours, func(e *config.Export) { e.Method = "post" }, false, false},
		"another level":   {"https://fhir.example/r4/$export?_type=Coverage,Patient&_since=" + since, nil, false, true},
		"another group":   {"https://fhir.example/r4/Group/b/$export?_type=Coverage,Patient&_since=" + since, nil, false, true},
		"another _since":  {"https://fhir.example/r4/Group/a%20b%2Fc/$export?_type=Coverage,Patient&_since=2025-01-01T00:00:00Z", nil, false, true},
		"system of group": {ours, func(e *config.Export) { e.Level = "system" }, false, true},
	} {
		same, known := client(test.change).Asked(KickOffRequest{Since: since}, test.said)
		if same != test.same || known != test.known {
			t.Errorf("%s: got same %t, known %t; want %t, %t", name, same, known, test.same, test.known)
		}
	}
}
