package config_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ingestd/internal/config"
)

func TestNotify_takes_URLs_that_are_written_out_and_never_prints_them(t *testing.T) {
	t.Parallel()
	c, err := config.Parse("x", []byte(`
database: {url: env:DATABASE_URL}
notify:
  - {name: chat, url: "https://hooks.example.org/services/HUNTER2?x=HUNTER2", headers: {X-Key: HUNTER2}}
  - {name: local, url: "http://127.0.0.1:9000/HUNTER2", template: slack, timeout: 1s}
payers: []
`))
	if err != nil {
		t.Fatal(err)
	}
	chat, local := c.Notify[0], c.Notify[1]
	if chat.Template != "json" || chat.Timeout != 10*time.Second || local.Template != "slack" || local.Timeout != time.Second {
		t.Errorf("got %+v and %+v, want the defaults where nothing is written", chat, local)
	}
	dump, err := c.Dump()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(dump), "HUNTER2") {
		t.Errorf("the dump prints a secret:\n%s", dump)
	}
}

func TestNotify_finds_the_files_of_headers_beside_the_configuration(t *testing.T) {
	t.Parallel()
	const name = "testdata/good/full.yaml"
	c, err := config.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		t.Fatal(err)
	}
	want := "file:" + filepath.Join(dir, "hooks/pager")
	if got := c.Notify[1].Headers["Authorization"]; got != want {
		t.Errorf("the header is %s, want %s", got, want)
	}
}
