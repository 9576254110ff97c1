package config_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"ingestd/internal/config"
)

func TestDump_is_read_as_the_same_configuration(t *testing.T) {
	t.Parallel()
	for _, name := range files(t, "testdata/good/*.yaml") {
		c, err := config.Load(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		dump, err := c.Dump()
		if err != nil {
			t.Fatal(err)
		}
		again, err := config.Parse("dump", dump)
		if err != nil {
			t.Errorf("%s: the dump is not read: %v\n%s", name, err, dump)
			continue
		}
		if want, got := comparable(c), comparable(again); !reflect.DeepEqual(want, got) {
			t.Errorf("%s: the dump is read differently:\ngot  %+v\nwant %+v\n%s", name, got, want, dump)
		}
	}
}

// comparable is a configuration without the places where its parts stand, and with its header values left out.
func comparable(c *config.Config) config.Config {
	copied := *c
	copied.Files, copied.Include = nil, nil
	copied.Keys, copied.Payers = nil, nil
	for _, k := range c.Keys {
		k.Source = ""
		copied.Keys = append(copied.Keys, k)
	}
	copied.Notify = nil
	for _, n := range c.Notify {
		n.Source, n.Headers = "", emptied(n.Headers)
		if len(n.Events) == 0 {
			n.Events = nil
		}
		copied.Notify = append(copied.Notify, n)
	}
	for _, p := range c.Payers {
		p.Source = ""
		p.Export.Headers = emptied(p.Export.Headers)
		copied.Payers = append(copied.Payers, normal(p))
	}
	return copied
}

// emptied is headers without their values.
func emptied(headers map[string]string) map[string]string {
	names := make(map[string]string)
	for name := range headers {
		names[name] = ""
	}
	return names
}

// normal writes empty lists as none: they mean the same.
func normal(p config.Payer) config.Payer {
	for _, list := range []*[]string{
		&p.Auth.Scopes, &p.Export.Types, &p.Export.TypeFilters, &p.Export.Elements, &p.Export.IncludeAssociatedData, &p.Export.Patients,
	} {
		if len(*list) == 0 {
			*list = nil
		}
	}
	if len(p.DownloadHosts) == 0 {
		p.DownloadHosts = nil
	}
	return p
}

func TestSecret_prints_no_secret_by_any_way(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ secret, want string }{
		{"", ""},
		{"env:DATABASE_URL", "env:DATABASE_URL"},
		{"file:/etc/ingestd/token", "file:/etc/ingestd/token"},
		{"embedded:/var/lib/ingestd/postgres", "embedded:/var/lib/ingestd/postgres"},
		{"postgres://ingestd:HUNTER2@db.example/fhir", "postgres://ingestd:xxxxx@db.example/fhir"},
		{"postgresql://db.example/fhir?user=ingestd&password=HUNTER2", "postgresql://db.example/fhir"},
		{"postgres://ingestd:HUNTER2@db1:5432,db2:5432/fhir", "postgres://ingestd:xxxxx@db1:5432,db2:5432/fhir"},
		// A password whose / was not escaped: what stands before it reads as a port, or is none.
		{"postgres://ingestd:12/HUNTER2@db.example/fhir", "[redacted]"},
		{"postgres://ingestd:/HUNTER2@db.example/fhir", "[redacted]"},
		{"postgres://ingestd:/HUNTER2%40@db.example/fhir", "[redacted]"},
		{"postgres:HUNTER2", "[redacted]"},
		{"host=db.example password=HUNTER2", "[redacted]"},
		{"https://HUNTER2@db.example/", "[redacted]"},
		{"HUNTER2", "[redacted]"},
		{"-----BEGIN PRIVATE KEY-----\nHUNTER2\n-----END PRIVATE KEY-----", "[redacted]"},
	} {
		secret := config.Secret(test.secret)
		if got := secret.String(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
		var log strings.Builder
		slog.New(slog.NewJSONHandler(&log, nil)).Info("a secret", "secret", secret, "config", config.Database{URL: secret})
		asJSON, err := json.Marshal(config.Database{URL: secret})
		if err != nil {
			t.Fatal(err)
		}
		asYAML, err := yaml.Marshal(config.Database{URL: secret})
		if err != nil {
			t.Fatal(err)
		}
		dump, err := (&config.Config{Database: config.Database{URL: secret}}).Dump()
		if err != nil {
			t.Fatal(err)
		}
		for way, text := range map[string]string{
			"%v": fmt.Sprintf("%v", secret), "%+v": fmt.Sprintf("%+v", config.Database{URL: secret}),
			"%#v": fmt.Sprintf("%#v", config.Database{URL: secret}), "%q": fmt.Sprintf("%q", secret), "%x": fmt.Sprintf("%x", secret),
			"slog": log.String(), "JSON": string(asJSON), "YAML": string(asYAML), "Dump": string(dump),
		} {
			if strings.Contains(text, "HUNTER2") || strings.Contains(text, fmt.Sprintf("%x", "HUNTER2")) {
				t.Errorf("%s prints the secret: %s", way, text)
			}
		}
	}
}
