package smartauth

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestDISC5_a_well_known_document_that_cannot_be_read_now_is_not_replaced_by_the_CapabilityStatement: the deprecated extension
// often names another token endpoint, and tells neither algorithms nor the syntax of scopes.
func TestDISC5_a_well_known_document_that_cannot_be_read_now_is_not_replaced_by_the_CapabilityStatement(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var broken atomic.Bool
			broken.Store(!known)
			var asked atomic.Value
			server := roundTripper(func(r *http.Request) (*http.Response, error) {
				switch {
				case r.Method == http.MethodPost:
					asked.Store(r.URL.Host)
					return answer(r, 200, `{"access_token":"t","expires_in":300}`, nil), nil
				case strings.HasSuffix(r.URL.Path, "/metadata"):
					return answer(r, 200, `{"resourceType":"CapabilityStatement","rest":[{"security":{"extension":[{"url":"`+oauthURIs+
						`","extension":[{"url":"token","valueUri":"https://old.example/token"}]}]}}]}`, nil), nil
				case broken.Load():
					return answer(r, 503, "", nil), nil
				}
				return answer(r, 200, `{"token_endpoint":"https://auth.example/token"}`, nil), nil
			})
			source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
				Payer: "acme", FHIRURL: "https://fhir.example", ClientID: "c", Keys: []*Key{testKey()}, Transport: server,
			})
			want := func(host string) {
				t.Helper()
				mustToken(t, source) // what is stale is read anew beside it
				synctest.Wait()
				source.manager.forget(source)
				mustToken(t, source)
				if got := asked.Load(); got != host {
					t.Errorf("known before: %t: the token was asked of %v, want %s", known, got, host)
				}
			}
			if !known { // better than none, until the document can be read again
				want("old.example")
				broken.Store(false)
				time.Sleep(10 * time.Minute)
				want("auth.example")
				return
			}
			want("auth.example")
			broken.Store(true)
			time.Sleep(25 * time.Hour)
			want("auth.example")
			broken.Store(false)
			time.Sleep(time.Hour)
			want("auth.example")
		})
	}
}
