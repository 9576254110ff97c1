package page

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"ingestd/internal/export"
	"ingestd/internal/fhir"
)

func TestPage_and_API_without_a_token_repeat_no_words_of_a_payer(t *testing.T) {
	t.Parallel()
	failure := &export.Error{
		Phase: export.PhaseKickOff, Code: export.CodeKickOffRefused, Status: 400, Detail: "the payer refuses the request",
		Outcome: &fhir.Outcome{Issues: []fhir.Issue{{Severity: "error", Code: "invalid", Text: "no patient Esme Weatherwax"}}},
	}
	odd := &export.Error{Phase: export.PhaseStatus, Code: export.CodeJobFailed, Detail: "with plain text", Excerpt: "Esme Weatherwax"}
	for _, token := range []string{"", "secret"} {
		s := newSite(t, token, "p", "q")
		for _, failed := range [][2]string{{"p", failure.Operator()}, {"q", odd.Operator()}} {
			s.execute(`INSERT INTO ingest.export (payer, state, kind, trigger, series, created_at, finished_at, error_code, error)
				VALUES ($1, 'failed', 'full', 'manual', 's', now(), now(), 'kickoff_refused', $2)`, failed[0], failed[1])
		}
		for _, path := range []string{
			"/api/v1/payers", "/api/v1/exports/1", "/api/v1/exports/2", "/api/v1/exports", "/", "/payers/p", "/exports/1", "/exports/2", "/exports/1/retry",
			"/exports/2/release", "/audit", "/metrics",
		} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			if token != "" {
				request.Header.Set("Authorization", "Bearer "+token)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err != nil || response.StatusCode >= http.StatusInternalServerError {
				t.Fatalf("%s: %d, %v", path, response.StatusCode, err)
			}
			holds := strings.Contains(string(body), "Weatherwax")
			if token == "" && holds {
				t.Errorf("%s tells anybody on the host what the payer said", path)
			}
			if path == "/api/v1/exports/1" && (holds != (token != "") || !strings.Contains(string(body), "the payer refuses the request")) {
				t.Errorf("%s, with token %q: got %s", path, token, body)
			}
		}
	}
}
