package scheduler

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

func TestLoadFile_of_a_payer_with_10000_files_does_not_starve_others(t *testing.T) {
	t.Parallel()
	const files = 10_000
	s := newStore(t)
	large := newPayer(t, func(p *config.Payer) { p.Name, p.Limits.Downloads = "large", 4 })
	var list strings.Builder
	large.files = make(map[string]string, files)
	for i := range files {
		name := fmt.Sprintf("f%d", i)
		large.files[name] = fmt.Sprintf(`{"resourceType":"Patient","id":"%s"}`, name)
		fmt.Fprintf(&list, `,{"type":"Patient","url":"%s/file/%s"}`, large.url, name)
	}
	// The list of outputs goes on behind the one file that this payer has anyway.
	large.members = `}` + strings.TrimSuffix(list.String(), "}")
	large.onFile = func(w http.ResponseWriter) { _, _ = io.WriteString(w, "") }
	small := newPayer(t, func(p *config.Payer) { p.Name, p.Limits.Downloads = "small", 1 })
	small.onFile = func(w http.ResponseWriter) { _, _ = io.WriteString(w, strings.Join(patients(3), "")) }
	e := newEngine(t, s, Options{Downloads: 2}, large, small)
	first, err := e.Start(t.Context(), "large", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	loaded := func() int {
		return number(t, s, `SELECT count(*) FROM ingest.export_file WHERE export_id = $1 AND state = 'loaded'`, first)
	}
	wait(t, "the large export to be at it", func() bool { return loaded() > 100 })
	if n := number(t, s, `SELECT count(*) FROM ingest.export_file WHERE state = 'queued'`); n > 4 {
		t.Errorf("%d files of the payer are in work, want limits.downloads, 4, at most", n)
	}
	second, err := e.Start(t.Context(), "small", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the small export", func() bool { return state(t, s, second) == store.StatePublished })
	n := loaded()
	t.Logf("the small export was published while %d of %d files of the large one were loaded", n, files)
	if n >= files {
		t.Error("the small export waited for all of the large one")
	}
	if err := e.Cancel(t.Context(), first, store.Actor{Name: "a test"}); err != nil {
		t.Fatal(err)
	}
}
