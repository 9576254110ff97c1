package smartauth_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
)

// kickOff starts an export with a token, as the least request that a payer authorizes.
func kickOff(t *testing.T, source *smartauth.Source, base string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/$export?_type=Patient", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/fhir+json")
	request.Header.Set("Prefer", "respond-async")
	response, err := source.Transport(nil, smartauth.TransportOptions{}).RoundTrip(request)
	if err != nil {
		t.Fatalf("kick-off: %v", err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestSource_works_with_the_simulated_payer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		algorithm, syntax string
		offset            time.Duration
	}{
		{"RS384", "v1", 0},
		{"ES384", "v2", 0},
		{"RS256", "", 4 * time.Minute},
		{"ES256", "", -4 * time.Minute},
		{"ES512", "v1", 10 * time.Minute},
	} {
		t.Run(fmt.Sprintf("%s %s %s", test.algorithm, test.syntax, test.offset), func(t *testing.T) {
			t.Parallel()
			key, err := smartauth.GenerateKey(test.algorithm, "")
			if err != nil {
				t.Fatal(err)
			}
			simulator, err := payersim.New(payersim.Options{
				Patients: 1, ScopeSyntax: test.syntax, ClockOffset: test.offset, Algorithms: []string{test.algorithm},
				Clients: []payersim.Client{{ID: "https://ingestd.example/client", JWKSFunc: func(context.Context) ([]byte, error) {
					return smartauth.NewJWKS(key)
				}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(simulator)
			t.Cleanup(func() {
				server.Close()
				_ = simulator.Close()
			})
			manager := smartauth.NewManager(smartauth.ManagerOptions{})
			t.Cleanup(manager.Close)
			source, err := manager.Source(smartauth.Registration{
				Payer: "sim", FHIRURL: server.URL + "/fhir", ClientID: "https://ingestd.example/client",
				Keys: []*smartauth.Key{key}, Types: []string{"Patient"},
			})
			if err != nil {
				t.Fatal(err)
			}
			token, err := source.Token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(token.MissingTypes) > 0 {
				t.Errorf("missing types: %v", token.MissingTypes)
			}
			if status := kickOff(t, source, server.URL+"/fhir"); status != http.StatusAccepted {
				t.Errorf("kick-off: got HTTP %d, want 202", status)
			}
			simulator.RevokeTokens()
			if status := kickOff(t, source, server.URL+"/fhir"); status == http.StatusUnauthorized {
				t.Error("kick-off after the token was revoked: got HTTP 401, want a replay with a new token")
			}
		})
	}
}
