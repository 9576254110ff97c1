package smartauth

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestTOK2_scopes_follow_from_types_in_the_servers_syntax(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		d    Discovery
		want scopeSyntax
	}{
		{"nothing declared", Discovery{}, scopesV1},
		{"v1", Discovery{Capabilities: []string{"permission-v1"}}, scopesV1},
		{"v2", Discovery{Capabilities: []string{"permission-v2"}}, scopesV2},
		{"both", Discovery{Capabilities: []string{"permission-v2", "permission-v1"}}, scopesV1},
		{"only v2 scopes listed", Discovery{Scopes: []string{"system/*.rs"}}, scopesV2},
		{"both listed", Discovery{Scopes: []string{"system/*.rs", "system/*.read"}}, scopesV1},
	} {
		if got := test.d.scopeSyntax(); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
	types := []string{"Patient", "Coverage", "Patient"}
	if got := deriveScopes(types, scopesV1); !slices.Equal(got, []string{"system/Patient.read", "system/Coverage.read"}) {
		t.Errorf("v1: got %v", got)
	}
	if got := deriveScopes(types, scopesV2); !slices.Equal(got, []string{"system/Patient.rs", "system/Coverage.rs"}) {
		t.Errorf("v2: got %v", got)
	}
	if got := deriveScopes(nil, scopesV1); !slices.Equal(got, []string{"system/*.read"}) {
		t.Errorf("all types: got %v", got)
	}
}

func TestTOK2_the_other_syntax_is_tried_once_and_remembered(t *testing.T) {
	t.Parallel()
	p := newPayer(t, testKey())
	p.scopes = func(asked string) (any, string) {
		if asked != "system/Patient.rs" {
			return nil, "invalid_scope"
		}
		return asked, ""
	}
	source := newTestSource(t, newTestManager(t, ManagerOptions{}), p.registration(testKey()))
	source.Invalidate(mustToken(t, source))
	token := mustToken(t, source)
	if got := p.tokenRequests(); got != 3 {
		t.Errorf("requests: got %d, want 3: v1 refused, v2, v2 again", got)
	}
	if len(token.MissingTypes) != 0 {
		t.Errorf("missing: got %v, want none", token.MissingTypes)
	}
}

func TestTOK2_scopes_that_no_syntax_mends_are_refused_after_two_attempts(t *testing.T) {
	t.Parallel()
	for name, verbatim := range map[string][]string{"derived": nil, "verbatim": {"system/*.*"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPayer(t, testKey())
			p.scopes = func(string) (any, string) { return nil, "invalid_scope" }
			registration := p.registration(testKey())
			registration.Scopes = verbatim
			_, err := newTestSource(t, newTestManager(t, ManagerOptions{}), registration).Token(t.Context())
			if failure := asError(t, err); failure.Code != "invalid_scope" || !strings.Contains(failure.Hint, "auth.scopes") {
				t.Errorf("got %v, hint %q", failure, failure.Hint)
			}
			want := 2
			if verbatim != nil {
				want = 1
			}
			if got := p.tokenRequests(); got != want {
				t.Errorf("requests: got %d, want %d", got, want)
			}
		})
	}
}

func TestTOK2_scopes_that_no_backend_service_can_have_are_a_configuration_error(t *testing.T) {
	t.Parallel()
	for scope, ok := range map[string]bool{
		"system/Patient.read": true, "system/*.*": true, "clientCreds": true, "system/Observation.rs?category=laboratory": true,
		"https://example.org/scope": true, "patient/Patient.read": false, "user/*.rs": false, "openid": false, "launch/patient": false,
		"offline_access": false, "": false, "system/A.read system/B.read": false,
	} {
		_, err := NewManager(ManagerOptions{}).Source(Registration{
			Payer: "acme", FHIRURL: "https://fhir.example", ClientID: "c", Keys: []*Key{testKey()}, Scopes: []string{scope},
		})
		if (err == nil) != ok {
			t.Errorf("%q: got %v, want accepted: %t", scope, err, ok)
		}
		if err != nil && strings.HasPrefix(scope, "patient/") && !strings.Contains(err.Error(), "person who signs in") {
			t.Errorf("%q: the error does not say why: %v", scope, err)
		}
	}
}

func TestTOK4_types_that_were_not_granted_are_named(t *testing.T) {
	t.Parallel()
	types := []string{"Patient", "Coverage"}
	for _, test := range []struct {
		name     string
		verbatim []string
		granted  any
		want     []string
	}{
		{"absent is as asked", nil, nil, nil},
		{"the same", nil, "system/Patient.read system/Coverage.read", nil},
		{"another order and syntax", nil, "system/Coverage.rs  system/Patient.cruds", nil},
		{"letters in the wrong order", nil, "system/Coverage.sr system/Patient.rs", nil},
		{"v1 wildcard", nil, "system/*.read", nil},
		{"v2 wildcard", nil, "system/*.rs", nil},
		{"all permissions", nil, "system/*.*", nil},
		{"an array", nil, []string{"system/Patient.read"}, []string{"Coverage"}},
		{"one less", nil, "system/Patient.read", []string{"Coverage"}},
		{"write only", nil, "system/Patient.write system/Coverage.read", []string{"Patient"}},
		{"narrowed by a query", nil, "system/Patient.rs?active=true system/Coverage.rs", []string{"Patient"}},
		{"another context", nil, "user/Patient.read system/Coverage.read", []string{"Patient"}},
		{"empty is nothing", nil, "", types},
		{"words of the server's own", nil, "bulk-data", types},
		{"asked for words", []string{"clientCreds"}, "clientCreds", nil},
		{"asked for words, nothing said", []string{"clientCreds"}, nil, nil},
		{"asked for words, given scopes", []string{"clientCreds"}, "system/Patient.read", []string{"Coverage"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPayer(t, testKey())
			p.scopes = func(string) (any, string) { return test.granted, "" }
			registration := p.registration(testKey())
			registration.Types, registration.Scopes = types, test.verbatim
			token := mustToken(t, newTestSource(t, newTestManager(t, ManagerOptions{}), registration))
			if !slices.Equal(token.MissingTypes, test.want) {
				t.Errorf("granted %v: missing %v, want %v", test.granted, token.MissingTypes, test.want)
			}
		})
	}
}

func TestSource_refuses_registrations_that_cannot_work(t *testing.T) {
	t.Parallel()
	valid := func() Registration {
		return Registration{Payer: "acme", FHIRURL: "https://fhir.example/r4", ClientID: "c", Keys: []*Key{testKey()}}
	}
	for _, test := range []struct {
		name   string
		change func(*Registration)
		want   string
	}{
		{"valid", func(*Registration) {}, ""},
		{"no payer", func(r *Registration) { r.Payer = "" }, "name"},
		{"http", func(r *Registration) { r.FHIRURL = "http://fhir.example" }, "https is required"},
		{"http on loopback", func(r *Registration) { r.FHIRURL = "http://127.0.0.1:8180/fhir" }, ""},
		{"no client id", func(r *Registration) { r.ClientID = "" }, "client_id"},
		{"no key", func(r *Registration) { r.Keys = nil }, "needs a key"},
		{"nil key", func(r *Registration) { r.Keys = []*Key{nil} }, "nil"},
		{"KEY-3: one kid twice", func(r *Registration) { r.Keys = append(r.Keys, testRSAKey()); r.Kid = "test-rsa" }, "two keys"},
		{"unknown method", func(r *Registration) { r.Method = "tls_client_auth" }, "expected private_key_jwt"},
		{"no secret", func(r *Registration) { r.Method = MethodClientSecretBasic }, "client_secret"},
		{"http token_url", func(r *Registration) { r.TokenURL = "http://auth.example" }, "token_url"},
		{"none needs nothing", func(r *Registration) { r.Method, r.Keys, r.ClientID = MethodNone, nil, "" }, ""},
		{"secret", func(r *Registration) {
			r.Method, r.ClientSecret = MethodClientSecretPost, func(context.Context) (string, error) { return "", nil }
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			registration := valid()
			test.change(&registration)
			_, err := newTestManager(t, ManagerOptions{}).Source(registration)
			if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestSource_without_authorization_adds_nothing(t *testing.T) {
	t.Parallel()
	source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
		Payer: "open", FHIRURL: "https://fhir.example", Method: MethodNone, Headers: map[string]string{"X-Gateway": "g"},
	})
	wire := source.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("X-Gateway") != "g" {
			t.Errorf("headers: got %v, want the payer's and no token", r.Header)
		}
		return answer(r, http.StatusUnauthorized, "", nil), nil
	}), TransportOptions{})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://fhir.example/Patient", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := wire.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if token := mustToken(t, source); !token.IsZero() {
		t.Errorf("got %v, want no token", token)
	}
}

func TestTOK4_what_a_grant_for_all_types_covers_is_told_type_by_type(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		verbatim []string
		granted  any
		want     []string // of Patient, Coverage
		types    []string // that the registration names
	}{
		{"types are named by now", nil, "system/Patient.read", []string{"Patient"}, []string{"Patient"}},
		{"absent is as asked", nil, nil, []string{"Patient", "Coverage"}, nil},
		{"the wildcard", nil, "system/*.rs", []string{"Patient", "Coverage"}, nil},
		{"a list", nil, "system/Patient.read system/Claim.read", []string{"Patient"}, nil},
		{"narrowed by a query", nil, "system/Patient.read system/Coverage.rs?type=x", []string{"Patient"}, nil},
		{"empty is nothing", nil, "", nil, nil},
		{"words of the server's own", nil, "bulk-data", []string{"Patient", "Coverage"}, nil},
		{"asked for words", []string{"clientCreds"}, "clientCreds", []string{"Patient", "Coverage"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPayer(t, testKey())
			p.scopes = func(string) (any, string) { return test.granted, "" }
			registration := p.registration(testKey())
			registration.Types, registration.Scopes = test.types, test.verbatim
			covers, err := newTestSource(t, newTestManager(t, ManagerOptions{}), registration).Covers(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, resourceType := range []string{"Patient", "Coverage"} {
				if covers(resourceType) {
					got = append(got, resourceType)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("granted %v: got %v, want %v", test.granted, got, test.want)
			}
		})
	}
}
