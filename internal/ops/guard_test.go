package ops

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestGuard_counts_no_request_without_a_token_so_that_no_page_locks_its_operator_out(t *testing.T) {
	t.Parallel()
	g := NewGuard("secret")
	handler := g.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	ask := func(method, authorization string) int {
		r := httptest.NewRequestWithContext(t.Context(), method, "http://ingestd.internal/api/v1/payers", http.NoBody)
		r.RemoteAddr = "192.0.2.1:1"
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		} else {
			r.Header.Set("Origin", "https://evil.example") // a page can ask, and cannot send this header
			r.Header.Set("Sec-Fetch-Site", "cross-site")
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code
	}
	for i := range 3 * guessBurst {
		method := []string{http.MethodGet, http.MethodOptions, http.MethodPost}[i%3]
		if got := ask(method, ""); got != http.StatusUnauthorized {
			t.Fatalf("%s without a token: got %d", method, got)
		}
	}
	if got := ask(http.MethodGet, "Bearer secret"); got != http.StatusOK {
		t.Errorf("the operator beside such a page: got %d", got)
	}
}
