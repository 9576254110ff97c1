package smartauth

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// A payer that gives ingestd the client id that it has at another payer, and whose discovery names that one's token endpoint, would get
// a token for the other's data: the assertion is right, and the token goes to the FHIR base whose discovery led there.
func TestUSE5_a_discovery_that_names_another_payers_token_endpoint_gets_no_token_of_it(t *testing.T) {
	t.Parallel()
	victim := newPayer(t, testKey())
	var stolen atomic.Pointer[string]
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/smart-configuration") {
			_, _ = fmt.Fprintf(w, `{"token_endpoint": %q}`, victim.server.URL+"/auth/token")
			return
		}
		if token := r.Header.Get("Authorization"); token != "" {
			stolen.Store(&token)
		}
	}))
	t.Cleanup(evil.Close)
	honest := victim.registration(testKey())
	honest.Payer = "honest"
	mixed := honest
	mixed.Payer, mixed.FHIRURL = "evil", evil.URL+"/fhir"
	for _, order := range [][]Registration{{mixed, honest}, {honest, mixed}} {
		m := newTestManager(t, ManagerOptions{})
		sources := make(map[string]*Source)
		for _, registration := range order {
			sources[registration.Payer] = newTestSource(t, m, registration)
		}
		for _, registration := range order {
			token, err := sources[registration.Payer].Token(t.Context())
			if registration.Payer == "honest" {
				if err != nil || token.IsZero() {
					t.Errorf("the honest payer's token: %v", err)
				}
				continue
			}
			if err == nil {
				t.Errorf("the other one got token %d", token.serial)
			}
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, mixed.FHIRURL+"/Patient", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			if response, err := sources["evil"].Transport(nil, TransportOptions{}).RoundTrip(request); err == nil {
				_ = response.Body.Close()
			}
		}
	}
	m := newTestManager(t, ManagerOptions{}) // the other payer comes later
	source := newTestSource(t, m, mixed)
	mustToken(t, source)
	mustToken(t, newTestSource(t, m, honest))
	if token, err := source.Token(t.Context()); err == nil {
		t.Errorf("it goes on with token %d, which is the other payer's, too", token.serial)
	}
	if token := stolen.Load(); token != nil {
		t.Errorf("it was sent %q", *token)
	}
}
