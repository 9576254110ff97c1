package smartauth

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// İ is no i: net/http asks for another host, one that anybody may have, than the one whose name is like it in small letters.
func TestUSE5_the_token_goes_to_no_host_that_only_looks_like_the_payers(t *testing.T) {
	t.Parallel()
	var tokens atomic.Int64
	source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
		Payer: "acme", FHIRURL: "https://united.example/r4", TokenURL: "https://auth.example/token", ClientID: "c", Keys: []*Key{testKey()},
		Headers: map[string]string{"Epic-Client-ID": "gateway-key"},
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			tokens.Add(1)
			return answer(r, 200, `{"access_token":"t","expires_in":3600}`, nil), nil
		}),
	})
	wire := source.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("Epic-Client-Id") != "" {
			t.Errorf("%s got a credential", r.URL.Host)
		}
		return answer(r, 200, "", nil), nil
	}), TransportOptions{TokenOrigins: []string{"files.united.example"}})
	for _, host := range []string{"un\u0130ted.example", "files.un\u0130ted.example"} {
		get(t, t.Context(), wire, "https://"+host+"/f")
	}
	if got := tokens.Load(); got != 0 {
		t.Errorf("got %d token requests, want none", got)
	}
}

func TestDISC_no_query_of_a_location_that_cannot_be_read_is_printed(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://login.example/%zz?code=c2lnbmF0dXJl")
		w.WriteHeader(http.StatusFound)
	}))
	defer server.Close()
	base, err := url.Parse(server.URL + "/fhir")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	_, failure := discoveryClient{base: base, transport: transport, timeout: time.Minute, skew: &clockSkew{}}.discover(t.Context(), "acme")
	if failure == nil || strings.Contains(failure.Error(), "c2lnbmF0dXJl") {
		t.Errorf("got %v, want an error that does not quote the query", failure)
	}
}
