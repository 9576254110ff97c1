package daemon

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
)

func TestDoctor_probes_whether_the_server_takes_the_token_and_starts_nothing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		with, without int // what a read is answered with
		level         smartauth.Level
		detail        string
	}{
		{"taken", 404, 401, smartauth.LevelOK, "takes the token: HTTP 404 with it, 401 without"},
		{"taken, and gone", 410, 403, smartauth.LevelOK, "HTTP 410 with it, 403 without"},
		{"no reads", 404, 404, smartauth.LevelOK, "no reads to try it with"},
		{"refused", 401, 401, smartauth.LevelFail, "refuses the token (HTTP 401)"},
		{"may not read", 403, 401, smartauth.LevelWarn, "does not let the token read Coverage"},
		{"busy", 429, 401, smartauth.LevelWarn, "busy (HTTP 429)"},
		{"broken", 500, 401, smartauth.LevelWarn, "not well, or busy (HTTP 500)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "key.pem")
			key := writeKey(t, file, "k")
			simulator, err := payersim.New(payersim.Options{Patients: 1, Clients: []payersim.Client{{ID: "ingestd", JWKS: jwksOf(t, key)}}})
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var others []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/Coverage/ingestd-doctor") && r.Method == http.MethodGet {
					w.WriteHeader(map[bool]int{true: test.with, false: test.without}[r.Header.Get("Authorization") != ""])
					return
				}
				if strings.Contains(r.URL.Path, "$") || r.Method != http.MethodGet && r.URL.Path != "/auth/token" {
					mu.Lock()
					others = append(others, r.Method+" "+r.URL.Path)
					mu.Unlock()
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
			c := parse(t, `
database: {url: "postgres://localhost/x"}
keys: [{id: k, private_key: "file:%s"}]
payers: [{name: one, fhir_url: "%s/fhir", auth: {client_id: ingestd}, export: {types: [Coverage]}}]
`, file, server.URL)
			doctor, err := NewDoctor(t.Context(), DoctorOptions{Options: Options{Config: c}})
			if err != nil {
				t.Fatal(err)
			}
			defer doctor.Close()
			findings := doctor.Examine(t.Context(), c.Payers[0])
			last := findings[len(findings)-1]
			if last.Check != "probe" || last.Level != test.level || !strings.Contains(last.Detail, test.detail) ||
				(last.Fix == "") != (test.level == smartauth.LevelOK) {
				t.Errorf("got %+v, want %s and %q", last, test.level, test.detail)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, other := range others {
				if !strings.HasSuffix(other, "token") {
					t.Errorf("the doctor asked for %s", other)
				}
			}
		})
	}
}

func TestDoctor_compares_the_parameters_with_the_payers_definition(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		parameters, export string
		level              smartauth.Level
		detail             string
	}{
		{"_type _since", "types: [Patient]", smartauth.LevelOK, "takes _since, _type"},
		{"_type _since", "types: [Patient], type_filters: ['Patient?active=true']", smartauth.LevelWarn, "and not _typeFilter"},
		{"_type", "types: [Patient]", smartauth.LevelWarn, "and not _since"},
		{"_type", "types: [Patient], since: never", smartauth.LevelOK, "takes _type"},
		{"", "types: [Patient]", "", ""},
	} {
		var own string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/fhir/metadata":
				fmt.Fprintf(w, `{"resourceType":"CapabilityStatement","fhirVersion":"4.0.1",
					"implementationGuide":["http://hl7.org/fhir/uv/bulkdata/ImplementationGuide/hl7.fhir.uv.bulkdata|2.0.0"],
					"rest":[{"operation":[{"name":"export","definition":%q}],"resource":[{"type":"Patient"}]}]}`, own)
			case "/fhir/OperationDefinition/own":
				var list []string
				for name := range strings.FieldsSeq(test.parameters) {
					list = append(list, fmt.Sprintf(`{"name":%q,"use":"in"}`, name))
				}
				fmt.Fprintf(w, `{"resourceType":"OperationDefinition","parameter":[%s]}`, strings.Join(list, ","))
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		}))
		t.Cleanup(server.Close)
		own = server.URL + "/fhir/OperationDefinition/own"
		c := parse(t, `
database: {url: "postgres://localhost/x"}
payers: [{name: one, fhir_url: "%s/fhir", auth: {method: none}, export: {%s}}]
`, server.URL, test.export)
		doctor, err := NewDoctor(t.Context(), DoctorOptions{Options: Options{Config: c}})
		if err != nil {
			t.Fatal(err)
		}
		findings := doctor.Examine(t.Context(), c.Payers[0])
		doctor.Close()
		var told smartauth.Finding
		for _, f := range findings {
			if f.Check == "parameters" {
				told = f
			}
			if f.Check == "capability" && !strings.Contains(f.Detail, "Bulk Data guide 2.0.0") {
				t.Errorf("the guide's version is not told: %+v", f)
			}
		}
		if told.Level != test.level || !strings.Contains(told.Detail, test.detail) {
			t.Errorf("%s, %s: got %+v, want %s and %q", test.parameters, test.export, told, test.level, test.detail)
		}
	}
}
