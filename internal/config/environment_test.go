package config_test

import (
	"slices"
	"testing"

	"ingestd/internal/config"
)

func TestEnvironment_names_each_variable_that_holds_a_secret(t *testing.T) {
	t.Parallel()
	c := config.Config{
		Database: config.Database{URL: "env:DATABASE_URL", Password: "file:/run/password"},
		Admin:    config.Admin{Token: "env:TOKEN"},
		Payers: []config.Payer{
			{Auth: config.Auth{ClientSecret: "env:ACME_SECRET"}, FHIRURL: "https://env.example/r4"}, {Auth: config.Auth{ClientSecret: "env:TOKEN"}},
		},
		Keys:   []config.Key{{PrivateKey: "env:KEY", Passphrase: "credential:k"}},
		Notify: []config.Notify{{URL: "env:HOOK", Secret: "env:HOOK_KEY", Headers: map[string]string{"Authorization": "env:HOOK_TOKEN", "X": "y"}}},
	}
	want := []string{"ACME_SECRET", "DATABASE_URL", "HOOK", "HOOK_KEY", "HOOK_TOKEN", "KEY", "TOKEN"}
	if got := c.Environment(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
