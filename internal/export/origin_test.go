package export

import (
	"net/http"
	"strings"
	"testing"

	"ingestd/internal/config"
	"ingestd/internal/fhir"
	"ingestd/internal/outbound"
)

// İ is no i: net/http asks for another host, one that anybody may have, than the one whose name is like it in small letters.
func TestFILE2_the_token_goes_to_no_host_that_only_looks_like_the_payers(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"un\u0130ted.example", "un%C4%B0ted.example", "files.un\u0130ted.example"} {
		sent := ""
		handler := func(token string) recorded {
			return func(http.ResponseWriter, *http.Request) { sent = token }
		}
		c, err := New(Options{
			Payer: config.Payer{
				FHIRURL: "https://united.example/r4", DownloadHosts: []config.DownloadHost{{Host: "files.united.example", Token: true}},
			},
			Authorized: handler("token"), Plain: handler("none"),
		})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = fetch(t.Context(), c, File{URL: "https://" + host + "/f", RequiresAccessToken: true})
		if sent != "" {
			t.Errorf("%s: a request was sent, with %s", host, sent)
		}
		wantError(t, err, CodeFileToken, ActionFail)
	}
}

func TestUSE5_no_query_of_a_location_that_cannot_be_read_is_printed(t *testing.T) {
	t.Parallel()
	for _, location := range []string{"https://store.example/%zz?sig=c2lnbmF0dXJl", "https://store.example:x/?sig=c2lnbmF0dXJl", "//[::1?sig=c2lnbmF0dXJl"} {
		p := newPayer(t, answer(http.StatusFound, map[string]string{"Location": location}, ""))
		_, _, err := fetch(t.Context(), p.client, p.file())
		if text := wantError(t, err, outbound.CodeConnection, ActionRetry).Operator(); strings.Contains(text, "c2lnbmF0dXJl") {
			t.Errorf("got %q, which quotes the query", text)
		}
	}
}

func TestOperator_repeats_no_credential_that_a_payer_echoes(t *testing.T) {
	t.Parallel()
	const opaque = "9f86d081884c7d659a2feaa0c55ad015"
	for _, said := range []string{
		"token eyJhbGciOiJSUzM4NCJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl is over", "got Authorization: Bearer " + opaque, `{"authorization":"bearer ` + opaque + `"}`,
		strings.Repeat(opaque, 2) + " is unknown",
	} {
		e := &Error{Outcome: &fhir.Outcome{Issues: []fhir.Issue{{Severity: "error", Diagnostics: "Patient/5f0c1a52-5d3c-4e3e-9a5b-0d5a3d0f1b2c: " + said}}}}
		text := e.Operator()
		if strings.Contains(text, "eyJ") || strings.Contains(text, opaque) || strings.Contains(text, "c2lnbmF0dXJl") {
			t.Errorf("got %q, which holds a credential", text)
		}
		if !strings.Contains(text, "Patient/5f0c1a52-5d3c-4e3e-9a5b-0d5a3d0f1b2c") {
			t.Errorf("got %q, which no longer says of what", text)
		}
	}
}
