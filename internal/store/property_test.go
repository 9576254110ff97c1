package store_test

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ingestd/internal/store"
)

// version is a version of a Patient as a payer may send it.
type version struct {
	id        string
	updated   string // "" for none
	subsetted bool
	note      string
}

func (v version) line() string {
	if v.subsetted {
		return subset(v.id, v.updated, v.note)
	}
	return patient(v.id, v.updated, v.note)
}

func (v version) digest() [sha256.Size]byte { return sha256.Sum256([]byte(v.line())) }

// placed is a version with its place in an export.
type placed struct {
	version

	file, line int
}

// compare orders the lines of an export: complete before incomplete resources, then by lastUpdated, file and line.
func (p placed) compare(other placed) int {
	complete := func(v placed) int {
		if v.subsetted {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(complete(p), complete(other)), strings.Compare(p.updated, other.updated),
		cmp.Compare(p.file, other.file), cmp.Compare(p.line, other.line))
}

// model is what the table of Patients is to hold: the latest word of the payer, by id.
type model map[string]version

// publish applies an export to the model, by the rules and none of the code: see prepare.go and publish.go.
func (m model) publish(files [][]version, deleted []string, ghosts bool) {
	lines := make(map[string][]placed)
	for f, file := range files {
		for l, v := range file {
			lines[v.id] = append(lines[v.id], placed{v, f, l + 1})
		}
	}
	first := len(m) == 0
	for _, id := range slices.Sorted(maps.Keys(lines)) {
		if next, ok := m.winner(id, lines[id], first); ok {
			m[id] = next
		}
	}
	for _, id := range deleted {
		if _, held := lines[id]; !held {
			delete(m, id)
		}
	}
	if ghosts {
		maps.DeleteFunc(m, func(id string, _ version) bool { return lines[id] == nil })
	}
}

// winner is the version of a resource that an export puts in the place of what is published; false where that stays.
func (m model) winner(id string, all []placed, first bool) (version, bool) {
	live, stands := m[id]
	if first || !stands {
		return slices.MaxFunc(all, placed.compare).version, true
	}
	var staged, unchanged []placed
	for _, p := range all {
		if p.digest() == live.digest() {
			unchanged = append(unchanged, p)
		} else {
			staged = append(staged, p)
		}
	}
	if len(staged) == 0 {
		return live, false
	}
	best := slices.MaxFunc(staged, placed.compare)
	switch {
	case best.subsetted && !live.subsetted:
		return live, false // ND-8
	case live.updated != "" && best.updated != "" && live.updated > best.updated:
		return live, false // never an older version
	}
	for _, u := range unchanged {
		if cmp.Or(strings.Compare(u.updated, best.updated), cmp.Compare(u.file, best.file), cmp.Compare(u.line, best.line)) > 0 {
			return live, false // a later line repeats what stands
		}
	}
	return best.version, true
}

// versions draws the lines of a file. Ids and contents are few, so that they meet.
func versions(rt *rapid.T, label string) []version {
	return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) version {
		return version{
			id:        rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(rt, "id"),
			updated:   rapid.SampledFrom([]string{"", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"}).Draw(rt, "updated"),
			subsetted: rapid.IntRange(0, 4).Draw(rt, "subsetted") == 0,
			note:      rapid.SampledFrom([]string{"1", "2"}).Draw(rt, "note"),
		}
	}), 0, 8).Draw(rt, label)
}

func TestStore_holds_what_a_model_holds_after_any_history_of_exports(t *testing.T) {
	t.Parallel()
	if err := flag.Set("rapid.checks", "25"); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		s := newStore(t)
		defer s.Close()
		held := make(model)
		published := false
		for n := range rapid.IntRange(1, 5).Draw(rt, "exports") {
			full := rapid.Bool().Draw(rt, "full")
			files := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) []version { return versions(rt, "lines") }), 1, 3).Draw(rt, "files")
			deleted := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "x"}), 0, 2, rapid.ID[string]).Draw(rt, "deleted")
			chunk := rapid.SampledFrom([]int{0, 1, 300}).Draw(rt, "chunk")
			export := store.NewExport{Kind: store.KindIncremental}
			if full {
				export = store.NewExport{Kind: store.KindFull, RemovesGhosts: true}
			}
			var made []testFile
			total := 0
			for _, file := range files {
				lines := make([]string, len(file))
				for i, v := range file {
					lines[i] = v.line()
				}
				total += len(file)
				made = append(made, output("Patient", lines...))
			}
			if len(deleted) > 0 {
				made = append(made, testFile{store.FileDeleted, "Bundle", []string{bundle(deleted)}, -1})
			}
			e := begin(t, s, export, made...)
			for ordinal, file := range made {
				loadWithCrashes(t, rt, s, e, ordinal, file, chunk)
			}
			if rapid.Bool().Draw(rt, "publish twice") { // its first transaction is lost
				lost := errors.New("lost")
				if _, err := publishThen(t, s, e.ID, permissive, lost); !errors.Is(err, lost) {
					rt.Fatalf("export %d: publish: %v", n, err)
				}
			}
			ended, err := publish(t, s, e.ID, permissive)
			if err != nil {
				rt.Fatalf("export %d: publish: %v", n, err)
			}
			if sum := ended.Inserted + ended.Updated + ended.Unchanged + ended.Superseded; sum != ended.Lines || ended.Lines != int64(total) {
				rt.Fatalf("export %d: %d lines were sent; the ledger is %+v", n, total, ended.Ledger)
			}
			if err := s.DropStaging(t.Context(), e.ID); err != nil {
				rt.Fatalf("export %d: %v", n, err)
			}
			if !published && total == 0 && len(deleted) == 0 {
				continue // there is no table yet
			}
			held.publish(files, deleted, full)
			published = published || total > 0
			if !published {
				continue
			}
			compareWithModel(t, rt, s, n, held)
		}
	})
}

// loadWithCrashes loads a file over connections that break and processes that die, from checkpoint to checkpoint.
func loadWithCrashes(t *testing.T, rt *rapid.T, s *store.Store, e store.Export, ordinal int, file testFile, chunk int) {
	t.Helper()
	for _, cut := range rapid.SliceOfN(rapid.IntRange(1, 8), 0, 2).Draw(rt, "cuts") {
		if cut < len(file.lines) {
			if _, err := loadFile(t, s, e, ordinal, &lines{text: file.lines, cut: cut}, chunk); err == nil {
				rt.Fatalf("file %d: a load that was cut off at line %d did not say so", ordinal, cut)
			}
		}
	}
	if _, err := loadFile(t, s, e, ordinal, &lines{text: file.lines}, chunk); err != nil {
		rt.Fatalf("file %d: %v", ordinal, err)
	}
	loaded(t, s, e, ordinal)
}

func compareWithModel(t *testing.T, rt *rapid.T, s *store.Store, n int, want model) {
	t.Helper()
	found, err := s.Pool().Query(t.Context(), `SELECT id, encode(digest, 'hex') FROM fhir.patient`)
	if err != nil {
		rt.Fatal(err)
	}
	defer found.Close()
	got := make(map[string]string)
	for found.Next() {
		var id, digest string
		if err := found.Scan(&id, &digest); err != nil {
			rt.Fatal(err)
		}
		got[id] = digest
	}
	if err := found.Err(); err != nil {
		rt.Fatal(err)
	}
	for id, v := range want {
		if sum := v.digest(); got[id] != fmt.Sprintf("%x", sum[:16]) {
			rt.Fatalf("export %d: %s: got digest %q, want that of %s", n, id, got[id], v.line())
		}
	}
	if len(got) != len(want) {
		rt.Fatalf("export %d: the table holds %v, the model %v", n, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// bundle is a line of a deleted file.
func bundle(ids []string) string {
	entries := make([]string, len(ids))
	for i, id := range ids {
		entries[i] = `{"request":{"method":"DELETE","url":"Patient/` + id + `"}}`
	}
	return `{"resourceType":"Bundle","type":"transaction","entry":[` + strings.Join(entries, ",") + `]}`
}
