package payersim

import (
	"bytes"
	"maps"
	"slices"
	"testing"
	"time"
)

// baseTime is when tests let the simulation begin: after all instants of round 0.
var baseTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// eachLine visits everything that a source holds in a round.
func eachLine(t *testing.T, src source, round int, visit func(resourceType, id string, line []byte)) {
	t.Helper()
	for _, resourceType := range src.types() {
		pieces, err := src.plan(t.Context(), selection{resourceType: resourceType, round: round}, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pieces {
			n := 0
			err := src.write(t.Context(), p, func(line []byte) bool {
				n++
				line = bytes.TrimSuffix(line, []byte("\n"))
				visit(resourceType, src.identify(line), line)
				return true
			})
			if err != nil || n != p.lines {
				t.Fatalf("%s from %d: %d lines and error %v, planned were %d lines", resourceType, p.from, n, err, p.lines)
			}
		}
	}
}

// stateOf is everything that a source holds in a round, by Type/id.
func stateOf(t *testing.T, src source, round int) map[string]string {
	t.Helper()
	state := map[string]string{}
	eachLine(t, src, round, func(resourceType, id string, line []byte) { state[resourceType+"/"+id] = string(line) })
	return state
}

func TestGenerator_is_a_function_of_seed_and_round(t *testing.T) {
	t.Parallel()
	build := func(seed uint64, rounds int) *generator {
		g := newGenerator(50, seed, 0.2)
		for r := range rounds {
			g.advance(baseTime.AddDate(0, 0, r))
		}
		return g
	}
	a, b := build(9, 3), build(9, 6) // further rounds do not change what an earlier one held
	for round := range 4 {
		if x, y := stateOf(t, a, round), stateOf(t, b, round); !equalStates(x, y) {
			t.Errorf("round %d differs between two generators of the same seed", round)
		}
	}
	if x, y := stateOf(t, a, 0), stateOf(t, build(10, 0), 0); equalStates(x, y) {
		t.Error("two seeds give the same data")
	}
}

func equalStates(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for key, line := range a {
		if b[key] != line {
			return false
		}
	}
	return true
}

func TestGenerator_increment_is_exactly_the_difference_of_two_rounds(t *testing.T) {
	t.Parallel()
	for _, share := range []float64{0.01, 0.1, 0.37, 1} {
		g := newGenerator(60, 5, share)
		const rounds = 12
		for r := 1; r <= rounds; r++ {
			g.advance(baseTime.AddDate(0, 0, r))
		}
		for _, pair := range [][2]int{{0, 1}, {1, 2}, {4, 5}, {0, 7}, {3, 12}, {6, 6}} {
			since := baseTime.AddDate(0, 0, pair[0])
			before, after := stateOf(t, g, pair[0]), stateOf(t, g, pair[1])
			changed, deleted := map[string]string{}, map[string]bool{}
			for _, resourceType := range g.types() {
				sel := selection{resourceType: resourceType, round: pair[1], since: since}
				pieces, err := g.plan(t.Context(), sel, 7)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range pieces {
					err = g.write(t.Context(), p, func(line []byte) bool {
						line = bytes.TrimSuffix(line, []byte("\n"))
						key := resourceType + "/" + g.identify(line)
						if before[key] == string(line) {
							t.Errorf("share %v, rounds %v: %s is sent though it did not change", share, pair, key)
						}
						changed[key] = string(line)
						return true
					})
					if err != nil {
						t.Fatal(err)
					}
				}
				err = g.deletions(t.Context(), sel, func(id string) bool {
					deleted[resourceType+"/"+id] = true
					return true
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			// The client may have it all from a later round than it asks since: by an overlap.
			held := map[string]bool{}
			for round := pair[0]; round <= pair[1]; round++ {
				rebuilt := stateOf(t, g, round)
				for key := range rebuilt {
					held[key] = true
				}
				maps.Copy(rebuilt, changed)
				maps.DeleteFunc(rebuilt, func(key, _ string) bool { return deleted[key] })
				if !equalStates(rebuilt, after) {
					t.Errorf("share %v, rounds %v: the state of round %d and the increment are not what is there after", share, pair, round)
				}
			}
			for key := range deleted {
				if !held[key] {
					t.Errorf("share %v, rounds %v: %s is deleted but was not there in any of them", share, pair, key)
				}
			}
		}
	}
}

func TestGenerator_changes_the_given_share_of_resources_each_round(t *testing.T) {
	t.Parallel()
	for _, share := range []float64{0.02, 0.1, 0.5} {
		g := newGenerator(200, 11, share)
		const rounds = 5
		for r := 1; r <= rounds; r++ {
			g.advance(baseTime.AddDate(0, 0, r))
		}
		for round := 1; round <= rounds; round++ {
			before, after := stateOf(t, g, round-1), stateOf(t, g, round)
			created, updated, deleted := 0, 0, 0
			for key, line := range after {
				if old, ok := before[key]; !ok {
					created++
				} else if old != line {
					updated++
				}
			}
			for key := range before {
				if _, ok := after[key]; !ok {
					deleted++
				}
			}
			changed := float64(created+updated+deleted) / float64(len(before))
			if changed < share*0.8 || changed > share*1.2 {
				t.Errorf("share %v, round %d: %.4f of %d resources differ (%d new, %d updated, %d deleted)",
					share, round, changed, len(before), created, updated, deleted)
			}
			if slices.Contains([]int{created, updated, deleted}, 0) {
				t.Errorf("share %v, round %d: %d new, %d updated, %d deleted: one kind is missing",
					share, round, created, updated, deleted)
			}
		}
	}
}

func TestGenerator_versions_and_instants_grow(t *testing.T) {
	t.Parallel()
	g := newGenerator(30, 2, 0.4)
	for r := 1; r <= 20; r++ {
		g.advance(baseTime.AddDate(0, 0, r))
	}
	type seen struct{ version, changed int }
	last := map[[2]int]seen{}
	for round := 0; round <= 20; round++ {
		e := g.at(round)
		for k := range kindCount {
			for i := range e.total(k) {
				l, ok := e.lifeOf(k, i)
				if !ok || l.died != never {
					continue
				}
				key := [2]int{k, i}
				was, known := last[key]
				switch {
				case !known && (l.version != 1 || l.born != round):
					t.Fatalf("round %d: %s %d appears with version %d, born in round %d", round, kindNames[k], i, l.version, l.born)
				case known && l.changed == round && l.version != was.version+1:
					t.Fatalf("round %d: %s %d changed from version %d to %d", round, kindNames[k], i, was.version, l.version)
				case known && l.changed != round && l.version != was.version:
					t.Fatalf("round %d: %s %d has version %d without a change", round, kindNames[k], i, l.version)
				}
				last[key] = seen{l.version, l.changed}
			}
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	g := newGenerator(2_000, 1, 0.05)
	for r := 1; r <= 1000; r++ {
		g.advance(baseTime.Add(time.Duration(r) * time.Minute))
	}
	for b.Loop() {
		pieces, err := g.plan(b.Context(), selection{resourceType: "ExplanationOfBenefit", round: 1000}, 1000)
		if err != nil || len(pieces) == 0 {
			b.Fatal(len(pieces), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(g.at(1000).total(kindEOB)), "ns/resource")
}
