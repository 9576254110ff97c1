package e2e

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ingestd/internal/payersim"
)

// at is what a payer's configuration holds beside its profile: who the client is there, and a pace for tests.
const at = `profile: PROFILE
timezone: UTC
export: {level: LEVEL, types: [Patient, Coverage, ExplanationOfBenefit, Practitioner, Organization], since_overlap: 0s}
limits: {poll_min: 100ms, poll_max: 1s, requests_per_second: 0}`

func TestRun_ends_with_equal_data_at_every_server_that_can_be_imitated(t *testing.T) {
	t.Parallel()
	for _, imitated := range payersim.Profiles() {
		t.Run(imitated.Name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			client := payersim.Client{ID: "ingestd-test", JWKS: s.jwks}
			auth := ""
			if imitated.Secret {
				secret := filepath.Join(s.dir, "secret")
				if err := os.WriteFile(secret, []byte("a:b%c"), 0o600); err != nil {
					t.Fatal(err)
				}
				client = payersim.Client{ID: "ingestd-test", Secret: "a:b%c"}
				auth = "client_secret: \"file:" + secret + "\", "
			}
			if imitated.Name == "ab2d" {
				client.ExactScope = "clientCreds"
			}
			sim, err := payersim.New(payersim.Options{
				Patients: 30, Seed: 11, Changes: 0.2, Profile: imitated.Name, Clients: []payersim.Client{client},
			})
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(sim)
			t.Cleanup(func() {
				server.CloseClientConnections()
				server.Close()
				if err := sim.Close(); err != nil {
					t.Error(err)
				}
			})
			level := "group, group_id: \"42\""
			if imitated.Name == "azure" || imitated.Name == "smart" || imitated.Name == "hapi" {
				level = "system"
			}
			s.configure("", []payer{{name: "acme", sim: sim, url: server.URL}},
				strings.NewReplacer("PROFILE", imitated.Name, "LEVEL", level).Replace(at))
			if auth != "" {
				text, err := os.ReadFile(s.config)
				if err != nil {
					t.Fatal(err)
				}
				changed := strings.Replace(string(text), "auth: {", "auth: {"+auth, 1)
				if err := os.WriteFile(s.config, []byte(changed), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for round := range 3 {
				args := []string{}
				if round == 2 {
					args = append(args, "--full")
				}
				if got := s.runJSON("acme", args...); got.Lines == 0 || got.Quarantined != 0 {
					t.Errorf("round %d: got %+v", round, got)
				}
				s.compare("acme", held(t, sim))
			}
		})
	}
}
