package config_test

import (
	"strings"
	"testing"

	"ingestd/internal/config"
)

func TestShown_says_where_a_setting_comes_from_and_no_secret(t *testing.T) {
	t.Parallel()
	c := parsed(t, oneKey+`payers:
- name: p
  fhir_url: https://fhir.example.org
  auth: {client_id: c, method: client_secret_basic, client_secret: env:SECRET}
  export: {headers: {X-Key: HUNTER2}}
`)
	got := make(map[string]config.Shown)
	last := ""
	for _, s := range c.Payers[0].Shown() {
		if s.Key <= last || strings.Contains(s.Value, "HUNTER2") {
			t.Errorf("%+v stands behind %s", s, last)
		}
		last = s.Key
		got[s.Key] = s
	}
	for key, want := range map[string]config.Shown{
		"fhir_url":           {Value: "https://fhir.example.org", From: config.FromFile},
		"auth.client_secret": {Value: "env:SECRET", From: config.FromFile},
		"export.method":      {Value: "get", From: config.FromDefault},
	} {
		want.Key = key
		if got[key] != want {
			t.Errorf("got %+v, want %+v", got[key], want)
		}
	}
}
