package store_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"ingestd/internal/store"
)

// version is a version of a resource as a payer may send it.
type version struct {
	resourceType, id string
	updated          string // "" for none
	subsetted        bool
	note             string
}

func (v version) line() string {
	line := patient(v.id, v.updated, v.note)
	if v.subsetted {
		line = subset(v.id, v.updated, v.note)
	}
	return strings.Replace(line, `"Patient"`, fmt.Sprintf("%q", v.resourceType), 1)
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

// key names a table of a payer.
type key struct{ payer, resourceType string }

// written is a published version, and the day that the export which wrote it was of.
type written struct {
	version

	day int
}

// model is what the tables are to hold: the latest word of each payer, by id. A table that is not in it was never published.
type model map[key]map[string]written

func (m model) clone() model {
	c := make(model, len(m))
	for k, rows := range m {
		c[k] = maps.Clone(rows)
	}
	return c
}

// said is an export of a payer, as a payer sends it.
type said struct {
	payer   string
	full    bool
	day     int // of transactionTime
	files   [][]version
	deleted []string // Type/id
}

var modelTypes = []string{"Observation", "Patient"}

// publish applies an export to the model, by the rules and none of the code: see prepare.go and publish.go. It returns how many rows
// leave as ghosts, and how many there were before that were not deleted. newest is the day of the newest export of the payer.
func (m model) publish(x said, newest int) (ghosts, before int) {
	lines := make(map[[2]string][]placed)
	for f, file := range x.files {
		for l, v := range file {
			lines[[2]string{v.resourceType, v.id}] = append(lines[[2]string{v.resourceType, v.id}], placed{v, f, l + 1})
		}
	}
	for _, resourceType := range modelTypes {
		rows, published := m[key{x.payer, resourceType}]
		next := maps.Clone(rows)
		for name, all := range lines {
			if name[0] != resourceType {
				continue
			}
			if next == nil {
				next = make(map[string]written)
			}
			live, stands := rows[name[1]]
			if !published || !stands {
				next[name[1]] = written{slices.MaxFunc(all, placed.compare).version, x.day}
			} else if winner, ok := live.yieldsTo(all, x.day); ok {
				next[name[1]] = written{winner, x.day}
			}
		}
		if next == nil {
			continue
		}
		before += len(rows)
		for id, row := range rows {
			if lines[[2]string{resourceType, id}] != nil {
				continue
			}
			switch {
			case slices.Contains(x.deleted, resourceType+"/"+id) && row.day <= x.day:
				before--
				delete(next, id)
			case x.full && x.day >= newest:
				ghosts++
				delete(next, id)
			}
		}
		m[key{x.payer, resourceType}] = next
	}
	return ghosts, before
}

// yieldsTo is the version of a resource that an export puts in the place of the published one; false where that stays.
func (live written) yieldsTo(all []placed, day int) (version, bool) {
	var staged, unchanged []placed
	for _, p := range all {
		if p.digest() == live.digest() {
			unchanged = append(unchanged, p)
		} else {
			staged = append(staged, p)
		}
	}
	if len(staged) == 0 {
		return version{}, false
	}
	best := slices.MaxFunc(staged, placed.compare)
	dated := live.updated != "" && best.updated != ""
	switch {
	case best.subsetted && !live.subsetted:
		return version{}, false // ND-8
	case dated && live.updated > best.updated:
		return version{}, false // never an older version
	case live.day > day && !(dated && best.updated > live.updated):
		return version{}, false // nor what a late export holds, where lastUpdated does not tell
	}
	if live.subsetted && !best.subsetted {
		return best.version, true // ND-8, whatever stands behind it
	}
	for _, u := range unchanged {
		if cmp.Or(strings.Compare(u.updated, best.updated), cmp.Compare(u.file, best.file), cmp.Compare(u.line, best.line)) > 0 {
			return version{}, false // a later line repeats what stands
		}
	}
	return best.version, true
}

// drawSaid draws an export. Ids and contents are few, so that they meet.
func drawSaid(rt *rapid.T) said {
	ids := []string{"a", "b", "c", "d", "e"}
	file := rapid.Custom(func(rt *rapid.T) []version {
		resourceType := rapid.SampledFrom(modelTypes).Draw(rt, "type")
		return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) version {
			return version{
				resourceType: resourceType,
				id:           rapid.SampledFrom(ids).Draw(rt, "id"),
				updated:      rapid.SampledFrom([]string{"", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"}).Draw(rt, "updated"),
				subsetted:    rapid.IntRange(0, 4).Draw(rt, "subsetted") == 0,
				note:         rapid.SampledFrom([]string{"1", "2"}).Draw(rt, "note"),
			}
		}), 0, 8).Draw(rt, "lines")
	})
	return said{
		payer: rapid.SampledFrom([]string{"p", "q"}).Draw(rt, "payer"),
		full:  rapid.Bool().Draw(rt, "full"),
		day:   rapid.SampledFrom([]int{2, 2, 2, 3, 1}).Draw(rt, "day"),
		files: rapid.SliceOfN(file, 1, 4).Draw(rt, "files"),
		deleted: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"Patient/a", "Patient/b", "Observation/a", "Observation/x"}),
			0, 3, rapid.ID[string]).Draw(rt, "deleted"),
	}
}

// moment is what the model held at an instant.
type moment struct {
	at    time.Time
	model model
}

func TestStore_and_its_history_hold_what_a_model_holds_after_any_history_of_exports(t *testing.T) {
	t.Parallel()
	if err := flag.Set("rapid.checks", "12"); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		s := newStore(t)
		defer s.Close()
		now := make(model)
		newest := make(map[string]int)
		past := []moment{{clock(rt, s), now.clone()}}
		for range rapid.IntRange(1, 6).Draw(rt, "exports") {
			x := drawSaid(rt)
			next := now.clone()
			ghosts, before := next.publish(x, newest[x.payer])
			if runSaid(t, rt, s, x, ghosts, before) {
				now, newest[x.payer] = next, max(newest[x.payer], x.day)
			}
			compareWithModel(rt, s, now)
			past = append(past, moment{clock(rt, s), now.clone()})
		}
		for _, m := range past {
			compareWithPast(rt, s, m)
		}
	})
}

// runSaid makes, loads and publishes an export. It reports whether it was published: what is held is released or rejected.
func runSaid(t *testing.T, rt *rapid.T, s *store.Store, x said, ghosts, before int) bool {
	t.Helper()
	var made []testFile
	total := 0
	for _, file := range x.files {
		f := testFile{store.FileOutput, "", make([]string, len(file)), -1}
		for i, v := range file {
			f.resourceType, f.lines[i] = v.resourceType, v.line()
		}
		total += len(file)
		made = append(made, f)
	}
	if len(x.deleted) > 0 {
		made = append(made, testFile{store.FileDeleted, "Bundle", []string{bundleOf(x.deleted)}, -1})
	}
	n := store.NewExport{Payer: x.payer, Kind: store.KindIncremental}
	if x.full {
		n.Kind, n.RemovesGhosts = store.KindFull, true
	}
	e := begin(t, s, n, made...)
	completeAt(t, s, e, time.Date(2026, 1, x.day, 0, 0, 0, 0, time.UTC))
	chunk := rapid.SampledFrom([]int{0, 1, 300}).Draw(rt, "chunk")
	for ordinal, file := range made {
		loadWithCrashes(t, rt, s, e, ordinal, file, chunk)
	}

	options := permissive
	options.History = "all"
	options.GhostMaxShare = rapid.SampledFrom([]float64{1, 0.3}).Draw(rt, "ghost_max_share")
	held := float64(ghosts) > options.GhostMaxShare*float64(before)
	state := publishWithCrashes(t, rt, s, e.ID, options)
	if held != (state == store.StateHeld) {
		rt.Fatalf("export %d is %s; %d of %d rows would leave, %g may", e.ID, state, ghosts, before, options.GhostMaxShare)
	}
	if held {
		release := rapid.Bool().Draw(rt, "release")
		err := s.InTx(t.Context(), func(tx pgx.Tx) error {
			if release {
				return s.ReleaseTx(t.Context(), tx, e.ID, "operator")
			}
			return s.CancelTx(t.Context(), tx, e.ID, "rejected")
		})
		if err != nil {
			rt.Fatal(err)
		}
		if release {
			state = publishWithCrashes(t, rt, s, e.ID, options)
		}
	}
	ended := get(t, s, e.ID)
	sum := ended.Inserted + ended.Updated + ended.Unchanged + ended.Superseded
	if state == store.StatePublished && (sum != ended.Lines || ended.Lines != int64(total) || ended.Ghosts != int64(ghosts)) {
		rt.Fatalf("export %d: %d lines were sent, and %d rows were to leave; the ledger is %+v", e.ID, total, ghosts, ended.Ledger)
	}
	if err := s.DropStaging(t.Context(), e.ID); err != nil {
		rt.Fatal(err)
	}
	return state == store.StatePublished
}

// publishWithCrashes publishes an export whose first publishes are cut off, at any moment or just before their commit, and returns the
// state that it is in then.
func publishWithCrashes(t *testing.T, rt *rapid.T, s *store.Store, id int64, o store.PublishOptions) store.State {
	t.Helper()
	lost := errors.New("lost")
	for _, after := range rapid.SliceOfN(rapid.IntRange(0, 40), 0, 2).Draw(rt, "publishes cut off after ms") {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(after)*time.Millisecond)
		if after == 40 {
			cancel()
			ctx, cancel = context.WithCancel(t.Context())
		}
		lease, err := s.LockExport(t.Context(), id)
		if err != nil {
			rt.Fatal(err)
		}
		_, err = s.Publish(ctx, lease, id, o, func(context.Context, pgx.Tx) error {
			if after == 40 {
				return lost
			}
			return nil
		})
		cancel()
		lease.Release(t.Context())
		awaitEnd(t, rt, s, id)
		if state := get(t, s, id).State; state != store.StatePublishing {
			return state
		}
		if err == nil {
			rt.Fatalf("export %d is not published, and no error said so", id)
		}
	}
	if _, err := publish(t, s, id, o); err != nil && !isA[*store.HeldError](err) {
		rt.Fatalf("publish export %d: %v", id, err)
	}
	return get(t, s, id).State
}

// awaitEnd waits until a publish that was cut off has ended in the database, too.
func awaitEnd(t *testing.T, rt *rapid.T, s *store.Store, id int64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		lease, err := s.LockExport(t.Context(), id)
		if err == nil {
			lease.Release(t.Context())
			return
		}
		if !errors.Is(err, store.ErrLocked) || time.Now().After(deadline) {
			rt.Fatal(err)
		}
	}
}

// clock is what time it is in the database.
func clock(rt *rapid.T, s *store.Store) (at time.Time) {
	if err := s.Pool().QueryRow(context.Background(), `SELECT clock_timestamp()`).Scan(&at); err != nil {
		rt.Fatal(err)
	}
	return at
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

// compareWithModel compares the tables with the model, by the digests of the lines.
func compareWithModel(rt *rapid.T, s *store.Store, m model) {
	for _, resourceType := range modelTypes {
		want := make(map[string]string)
		for k, rows := range m {
			for id, v := range rows {
				if k.resourceType == resourceType {
					sum := v.digest()
					want[k.payer+" "+id] = fmt.Sprintf("%x", sum[:16])
				}
			}
		}
		got := pairs(rt, s, `SELECT payer || ' ' || id, encode(digest, 'hex') FROM fhir.`+strings.ToLower(resourceType))
		if !maps.Equal(got, want) {
			rt.Fatalf("%s: the table holds\n%v, the model\n%v", resourceType, got, want)
		}
	}
}

// compareWithPast compares what the payers said at an instant with the model of then, by content.
func compareWithPast(rt *rapid.T, s *store.Store, m moment) {
	for _, resourceType := range modelTypes {
		want := make(map[string]string)
		for k, rows := range m.model {
			for id, v := range rows {
				if k.resourceType == resourceType {
					want[k.payer+" "+id] = canonical(rt, v.line())
				}
			}
		}
		got := pairs(rt, s, `SELECT payer || ' ' || id, resource::text FROM fhir.as_of($1, $2)`, resourceType, m.at)
		for name, text := range got {
			got[name] = canonical(rt, text)
		}
		if !maps.Equal(got, want) {
			rt.Fatalf("%s at %s: the history tells\n%v, the model\n%v", resourceType, m.at, got, want)
		}
	}
}

// pairs runs a query for names and values, each name once; none where there is no table yet.
func pairs(rt *rapid.T, s *store.Store, sql string, args ...any) map[string]string {
	found := make(map[string]string)
	var name, value string
	rows, err := s.Pool().Query(context.Background(), sql, args...)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error {
			if _, twice := found[name]; twice {
				return fmt.Errorf("%s is there twice", name)
			}
			found[name] = value
			return nil
		})
	}
	if err != nil && store.SQLState(err) != "42P01" {
		rt.Fatalf("%s: %v", sql, err)
	}
	return found
}

func canonical(rt *rapid.T, text string) string {
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		rt.Fatal(err)
	}
	plain, err := json.Marshal(value)
	if err != nil {
		rt.Fatal(err)
	}
	return string(plain)
}

// bundle is a line of a deleted file, of Patients.
func bundle(ids []string) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = "Patient/" + id
	}
	return bundleOf(names)
}

func bundleOf(names []string) string {
	entries := make([]string, len(names))
	for i, name := range names {
		entries[i] = `{"request":{"method":"DELETE","url":"` + name + `"}}`
	}
	return `{"resourceType":"Bundle","type":"transaction","entry":[` + strings.Join(entries, ",") + `]}`
}
