package daemon

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
)

// levels writes findings as check=level, in their order.
func levels(findings []smartauth.Finding) string {
	texts := make([]string, 0, len(findings))
	for _, f := range findings {
		texts = append(texts, fmt.Sprintf("%s=%s", f.Check, f.Level))
	}
	return strings.Join(texts, " ")
}

// clinic is a payer with a key that it knows, and a published set.
type clinic struct {
	key   *smartauth.Key
	other *smartauth.Key
	file  string
}

func newClinic(t *testing.T) clinic {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pem")
	key := writeKey(t, file, "k")
	other, err := smartauth.GenerateKey("ES384", "k")
	if err != nil {
		t.Fatal(err)
	}
	return clinic{key: key, other: other, file: file}
}

func TestDoctor_tells_what_stands_between_a_payer_and_its_export(t *testing.T) {
	t.Parallel()
	const healthy = "dns=ok tls=warn discovery=ok clock=ok jwks=ok jwks=ok token=ok scopes=ok capability=ok probe=ok"
	for _, test := range []struct {
		name string
		// served is the set at jwks.url, "" for the right one.
		wrongJWKS  bool
		registered string // the client id that the payer knows
		scopes     string
		types      string
		metadata   int // the status of /metadata, 0 for the simulator's answer
		level      string
		want       string
		detail     string // of a finding that is not ok
		fix        string
	}{
		{name: "healthy", want: healthy, detail: "without TLS", fix: "https"},
		{
			name: "the published set has another key", wrongJWKS: true,
			want:   "dns=ok tls=warn discovery=ok clock=ok jwks=ok jwks=fail token=ok scopes=ok capability=ok probe=ok",
			detail: "is not the one that signs", fix: "Publish the current public key",
		},
		{
			name: "the payer does not know the client", registered: "somebody-else",
			want:   "dns=ok tls=warn discovery=ok clock=ok jwks=ok jwks=ok token=fail capability=ok",
			detail: "invalid_client", fix: "client_id",
		},
		{
			name: "fewer scopes are granted", scopes: "system/Patient.rs",
			want:   "dns=ok tls=warn discovery=ok clock=ok jwks=ok jwks=ok token=ok scopes=fail capability=ok probe=ok",
			detail: "not granted: Coverage", fix: "export.types",
		},
		{
			name: "a type that the server does not declare", types: "[Patient, Observation]",
			want:   "dns=ok tls=warn discovery=ok clock=ok jwks=ok jwks=ok token=ok scopes=ok capability=warn probe=ok",
			detail: "does not declare Observation", fix: "export.types",
		},
		{
			name: "no CapabilityStatement", metadata: http.StatusUnauthorized,
			want:   "dns=ok tls=warn discovery=ok clock=ok jwks=ok jwks=ok token=ok scopes=ok capability=warn probe=ok",
			detail: "cannot be read", fix: "if exports work",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t)
			published := c.key
			if test.wrongJWKS {
				published = c.other
			}
			keySet := httptest.NewTLSServer(smartauth.NewJWKSHandler(func() []*smartauth.Key { return []*smartauth.Key{published} }, 0))
			t.Cleanup(keySet.Close)
			registered, types := "ingestd", "[Patient, Coverage]"
			if test.registered != "" {
				registered = test.registered
			}
			if test.types != "" {
				types = test.types
			}
			simulator, err := payersim.New(payersim.Options{Patients: 2, Clients: []payersim.Client{
				{ID: registered, JWKS: jwksOf(t, c.key), Scopes: test.scopes},
			}})
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if test.metadata != 0 && strings.HasSuffix(r.URL.Path, "/metadata") {
					w.WriteHeader(test.metadata)
					return
				}
				simulator.ServeHTTP(w, r)
			}))
			t.Cleanup(func() {
				server.CloseClientConnections()
				server.Close()
				if err := simulator.Close(); err != nil {
					t.Error(err)
				}
			})
			roots := x509.NewCertPool()
			roots.AddCert(keySet.Certificate())
			configured := parse(t, `
database: {url: "postgres://localhost/x"}
jwks: {url: "%s/.well-known/jwks.json"}
keys: [{id: k, private_key: "file:%s"}]
payers: [{name: one, fhir_url: "%s/fhir", auth: {client_id: ingestd}, export: {types: %s}}]
`, keySet.URL, c.file, server.URL, types)
			doctor, err := NewDoctor(t.Context(), DoctorOptions{
				Options: Options{Config: configured}, JWKSRoots: roots, AllowPrivate: true,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer doctor.Close()
			findings := doctor.Examine(t.Context(), configured.Payers[0])
			if got := levels(findings); got != test.want {
				t.Errorf("got  %s\nwant %s\n%+v", got, test.want, findings)
			}
			if !slices.ContainsFunc(findings, func(f smartauth.Finding) bool {
				return f.Level != smartauth.LevelOK && strings.Contains(f.Detail, test.detail) && strings.Contains(f.Fix, test.fix)
			}) {
				t.Errorf("no finding tells %q with the fix %q: %+v", test.detail, test.fix, findings)
			}
			for _, f := range findings {
				if (f.Level == smartauth.LevelOK) != (f.Fix == "") {
					t.Errorf("%s is %s, with the fix %q", f.Check, f.Level, f.Fix)
				}
			}
		})
	}
}

func TestDoctor_asks_nothing_more_of_a_server_that_cannot_be_reached(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	configured := parse(t, `
database: {url: "postgres://localhost/x"}
keys: [{id: k, private_key: "file:%s"}]
payers: [{name: one, fhir_url: "%s/fhir", auth: {client_id: ingestd}}]
`, c.file, untrusted.URL)
	doctor, err := NewDoctor(t.Context(), DoctorOptions{Options: Options{Config: configured}})
	if err != nil {
		t.Fatal(err)
	}
	defer doctor.Close()
	findings := doctor.Examine(t.Context(), configured.Payers[0])
	if got := levels(findings); got != "dns=ok tls=fail jwks=warn" {
		t.Errorf("got %s, want the failure of TLS once, and what does not depend on it", got)
	}
}

func TestDoctor_does_not_wait_long_for_a_server_that_never_answers_and_says_so(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	t.Cleanup(func() {
		close(over)
		silent.Close()
	})
	configured := parse(t, `
database: {url: "postgres://localhost/x"}
payers: [{name: one, fhir_url: "%s/fhir", auth: {method: none}}]
`, silent.URL)
	doctor, err := NewDoctor(t.Context(), DoctorOptions{Options: Options{Config: configured}, Patience: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer doctor.Close()
	began := time.Now()
	findings := doctor.Examine(t.Context(), configured.Payers[0])
	last := findings[len(findings)-1]
	if last.Check != "probe" || last.Level != smartauth.LevelFail || !strings.Contains(last.Detail, "does not answer within 1s") {
		t.Errorf("got %+v, want a failure of the probe that says how long it waited", findings)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %s", took)
	}
}

func TestDoctor_tells_of_a_payer_that_cannot_be_set_up(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	configured := parse(t, `
database: {url: "postgres://localhost/x"}
keys: [{id: k, private_key: "file:%s"}]
payers: [{name: one, fhir_url: "https://one.example/fhir", auth: {client_id: ingestd}}]
`, c.file)
	doctor, err := NewDoctor(t.Context(), DoctorOptions{Options: Options{Config: configured}})
	if err != nil {
		t.Fatal(err)
	}
	defer doctor.Close()
	p := configured.Payers[0]
	p.TLS.CAFile = filepath.Join(t.TempDir(), "gone.pem") // it was there when the configuration was checked
	findings := doctor.Examine(t.Context(), p)
	if got := levels(findings); got != "setup=fail" || !strings.Contains(findings[0].Fix, p.Source) {
		t.Errorf("got %+v, want where the payer stands", findings)
	}
}

func TestCapability_reads_which_levels_are_offered(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, level string
		statement   map[string]any
		want        smartauth.Level
		detail      string
	}{
		{"another level only", "system", map[string]any{"rest": []any{map[string]any{"resource": []any{map[string]any{
			"type": "Group", "operation": []any{map[string]any{"name": "group-export"}},
		}}}}}, smartauth.LevelWarn, "at level group, not at level system"},
		{"none", "system", map[string]any{}, smartauth.LevelWarn, "no export operation at all"},
		{"without a name", "system", map[string]any{"fhirVersion": "4.0.1", "rest": []any{map[string]any{
			"operation": []any{map[string]any{"name": "export"}},
		}}}, smartauth.LevelOK, "a server without a name, FHIR 4.0.1, without a word of the Bulk Data guide, exports at level system"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.statement["resourceType"] = "CapabilityStatement"
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/fhir+json")
				if err := json.NewEncoder(w).Encode(test.statement); err != nil {
					t.Error(err)
				}
			}))
			t.Cleanup(server.Close)
			c := parse(t, `
database: {url: "postgres://localhost/x"}
payers: [{name: one, fhir_url: "%s/fhir", auth: {method: none}, export: {level: %s}}]
`, server.URL, test.level)
			l := openLinks(t, c, NewSecrets(nil))
			made, err := l.to(c.Payers[0])
			if err != nil {
				t.Fatal(err)
			}
			defer made.transport.CloseIdleConnections()
			findings := capability(t.Context(), made.client, c.Payers[0])
			if len(findings) != 1 || findings[0].Level != test.want || !strings.Contains(findings[0].Detail, test.detail) {
				t.Errorf("got %+v, want %s and %q", findings, test.want, test.detail)
			}
		})
	}
}

func TestDoctor_connects_to_no_address_of_the_operators_network_that_a_payer_names(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	inside, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var reached atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := inside.Accept()
			if err != nil {
				return
			}
			reached.Add(1)
			_ = conn.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(inside.Addr().String())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/smart-configuration") {
			http.NotFound(w, r)
			return
		}
		_, _ = fmt.Fprintf(w, `{"token_endpoint": "https://0.0.0.0:%s/token"}`, port) // no host's address, and this host's to Linux
	}))
	t.Cleanup(server.Close)
	configured := parse(t, `
database: {url: "postgres://localhost/x"}
keys: [{id: k, private_key: "file:%s"}]
payers: [{name: one, fhir_url: "%s/fhir", auth: {client_id: ingestd}}]
`, c.file, server.URL)
	doctor, err := NewDoctor(t.Context(), DoctorOptions{Options: Options{Config: configured}})
	if err != nil {
		t.Fatal(err)
	}
	defer doctor.Close()
	findings := doctor.Examine(t.Context(), configured.Payers[0])
	_ = inside.Close()
	<-done
	if n := reached.Load(); n != 0 {
		t.Errorf("%d connections were made: %+v", n, findings)
	}
	if !slices.ContainsFunc(findings, func(f smartauth.Finding) bool {
		return f.Check == "tls" && f.Level == smartauth.LevelFail && strings.Contains(f.Detail, "refused to connect")
	}) {
		t.Errorf("no finding says that it was refused: %+v", findings)
	}
}

func TestDoctor_gets_no_token_of_another_payer_for_one_that_names_its_token_endpoint(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	simulator, err := payersim.New(payersim.Options{Patients: 2, Clients: []payersim.Client{{ID: "ingestd", JWKS: jwksOf(t, c.key)}}})
	if err != nil {
		t.Fatal(err)
	}
	victim := httptest.NewServer(simulator)
	t.Cleanup(func() {
		victim.CloseClientConnections()
		victim.Close()
		if err := simulator.Close(); err != nil {
			t.Error(err)
		}
	})
	var stolen atomic.Int64
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			stolen.Add(1)
		}
		_, _ = fmt.Fprintf(w, `{"token_endpoint": %q}`, victim.URL+"/auth/token")
	}))
	t.Cleanup(evil.Close)
	configured := parse(t, `
database: {url: "postgres://localhost/x"}
keys: [{id: k, private_key: "file:%s"}]
payers:
  - {name: evil, fhir_url: "%s/fhir", auth: {client_id: ingestd}}
  - {name: honest, fhir_url: "%s/fhir", auth: {client_id: ingestd}}
`, c.file, evil.URL, victim.URL)
	doctor, err := NewDoctor(t.Context(), DoctorOptions{Options: Options{Config: configured}})
	if err != nil {
		t.Fatal(err)
	}
	defer doctor.Close()
	findings := doctor.Examine(t.Context(), configured.Payers[0])
	if stolen.Load() != 0 || !slices.ContainsFunc(findings, func(f smartauth.Finding) bool {
		return f.Check == "token" && f.Level == smartauth.LevelFail && strings.Contains(f.Detail, smartauth.CodeForeignEndpoint)
	}) {
		t.Errorf("%d requests with a token: %+v", stolen.Load(), findings)
	}
}
