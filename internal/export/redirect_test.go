package export

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ingestd/internal/config"
)

func TestFILE3_redirects(t *testing.T) {
	t.Parallel()
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("X-Key") != "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = w.Write([]byte(twoPatients))
	}))
	defer store.Close()
	p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/loop":
			w.Header().Set("Location", "/loop")
			w.WriteHeader(http.StatusFound)
		case r.URL.Path == "/file":
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		case r.URL.Path == "/nowhere":
			w.WriteHeader(http.StatusFound)
		case strings.HasPrefix(r.URL.Path, "/hop/"):
			w.Header().Set("Location", map[string]string{
				"/hop/301": "302", "/hop/302": "303", "/hop/303": "/hop/307", "/hop/307": "/hop/308", "/hop/308": store.URL,
			}[r.URL.Path])
			var status int
			_, _ = fmt.Sscanf(r.URL.Path, "/hop/%d", &status)
			w.WriteHeader(status)
		}
	}, func(o *Options) { o.Payer.Export.Headers = map[string]string{"X-Key": "k"} })
	f := p.file()
	f.URL = p.URL + "/hop/301"
	if got, _, err := fetch(t.Context(), p.client, f); err != nil || got != twoPatients {
		t.Errorf("five redirects to a store: got %q, %v", got, err)
	}
	for _, path := range []string{"/loop", "/file"} {
		f.URL = p.URL + path
		_, err := p.client.Open(t.Context(), f)
		wantError(t, err, CodeRedirectRefused, ActionFail)
	}
	f.URL = p.URL + "/nowhere"
	_, err := p.client.Open(t.Context(), f)
	wantError(t, err, CodeUnexpectedStatus, ActionFail)
}

func TestUSE5_redirects(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ from, location, want string }{
		{"https://payer.example/f", "https://payer.example/g", "token"},
		{"https://payer.example/f", "https://files.payer.example/g", "none"},
		{"https://payer.example/f", "https://payer.example:8443/g", "none"},
		{"https://payer.example/f", "http://payer.example/g", "token"}, // raised: only the payer's own host
		{"https://payer.example/f", "http://127.0.0.1/g", "refused"},
		{"https://payer.example/f", "http://evil.example/g", "refused"},
		{"https://payer.example/f", "https://u:p@evil.example/g", "refused"},
	} {
		var tokens []string
		hop := 0
		handler := func(token string) recorded {
			return func(w http.ResponseWriter, _ *http.Request) {
				tokens = append(tokens, token)
				if hop++; hop == 1 {
					w.Header().Set("Location", test.location)
					w.WriteHeader(http.StatusTemporaryRedirect)
				}
			}
		}
		c, err := New(Options{
			Payer: config.Payer{FHIRURL: "https://payer.example/r4"}, Authorized: handler("token"), Plain: handler("none"),
		})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = fetch(t.Context(), c, File{URL: test.from, RequiresAccessToken: true})
		switch {
		case test.want == "refused":
			wantError(t, err, CodeRedirectRefused, ActionFail)
		case err != nil || len(tokens) != 2 || tokens[1] != test.want:
			t.Errorf("%s: got %q, %v, want %s", test.location, tokens, err, test.want)
		}
	}
}

func TestUSE5_aKickOffIsNotRedirectedElsewhere(t *testing.T) {
	t.Parallel()
	p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://evil.example/$export", http.StatusTemporaryRedirect)
	})
	_, err := p.client.KickOff(t.Context(), KickOffRequest{})
	wantError(t, err, CodeRedirectRefused, ActionFail)
	p = newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2" {
			http.Redirect(w, r, "/v2", http.StatusFound)
			return
		}
		accepted(w, r)
	})
	if _, err := p.client.KickOff(t.Context(), KickOffRequest{}); err != nil {
		t.Errorf("GET to the same origin: got %v", err)
	}
	_, err = p.client.KickOff(t.Context(), KickOffRequest{Patients: []string{"1"}})
	wantError(t, err, CodeRedirectRefused, ActionFail) // 302 would turn the POST into a GET
}
