package payersim

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

// maxPatients keeps every index and product below in range of 64-bit arithmetic.
const maxPatients = 50_000_000

// The types that the generator makes. The order is the order of the manifest.
const (
	kindPatient = iota
	kindCoverage
	kindEOB
	kindPractitioner
	kindOrganization
	kindCount
)

var kindNames = [kindCount]string{"Patient", "Coverage", "ExplanationOfBenefit", "Practitioner", "Organization"}

// eobsPerPatient is the mean number of claims a patient starts with.
const eobsPerPatient = 12

// circle is the resolution of shares: parts per million.
const circle = 1_000_000

// kind says how many resources of a type there are at first and how they come and go. A resource stands at a fixed
// place on a circle of a million parts; each round sweeps `touch` parts further, and whoever is swept over is changed
// or, one time in `deleteOneIn`, deleted. The round of a resource's last change follows from its place by division, so
// that the state of any resource in any round costs the same whether ten rounds have passed or ten thousand.
type kind struct {
	base        int   // resources in round 0
	born        int64 // new ones a round, in parts per million of base
	touch       int64 // parts of the circle swept in a round
	deleteOneIn uint64
}

// generator is the source of seeded claims data. What lives in a round is a pure function of seed and round; only the
// instants of the changes come from the clock.
type generator struct {
	seed     uint64
	changes  int64 // parts per million
	patients int
	kinds    [kindCount]kind

	mu    sync.RWMutex
	times []int64 // times[r] is the instant of round r in ms since 1970; times[0] is unused. Append-only.
}

func newGenerator(patients int, seed uint64, changes float64) *generator {
	share := int64(changes*circle + 0.5)
	g := &generator{seed: seed, changes: share, patients: patients, times: []int64{0}}
	practitioners := max(5, patients/15)
	g.kinds = [kindCount]kind{
		// Patients who leave take their coverage and claims with them: a tenth of the share.
		kindPatient:      {base: patients, born: share / 10, touch: share * 9 / 10, deleteOneIn: 9},
		kindCoverage:     {base: patients, born: share / 10, touch: share * 8 / 10},
		kindEOB:          {base: patients * eobsPerPatient, born: share / 4, touch: share * 65 / 100, deleteOneIn: 13},
		kindPractitioner: {base: practitioners, born: share / 20, touch: share * 95 / 100},
		kindOrganization: {base: max(3, patients/60), touch: share},
	}
	return g
}

func (g *generator) types() []string { return kindNames[:] }

// fingerprint holds the instants of all rounds: they are what two runs with the same seed differ in.
func (g *generator) fingerprint(round int) string {
	sum := sha256.New()
	for _, instant := range g.at(round).times {
		sum.Write(binary.BigEndian.AppendUint64(nil, uint64(instant)))
	}
	return fmt.Sprintf("generator-1:%d:%d:%d:%x", g.seed, g.patients, g.changes, sum.Sum(nil))
}

func (g *generator) close() error { return nil }

func (g *generator) identify(line []byte) string { return scanLine(line).id }

func (g *generator) round() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.times) - 1
}

func (g *generator) advance(at time.Time) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changes == 0 {
		return 0
	}
	g.times = append(g.times, at.UnixMilli())
	return len(g.times) - 1
}

// era is the generator's data as they stand in one round.
type era struct {
	*generator
	r     int
	times []int64
}

func (g *generator) at(round int) era {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return era{generator: g, r: round, times: g.times[:round+1]}
}

// life is the state of one resource in a round.
type life struct {
	born    int // round of its creation
	version int // 1 at its creation
	changed int // round of its last change
	died    int // round of its deletion, never for a living one
}

const never = -1

// total is the number of resources of a kind that were ever created up to the era's round.
func (e era) total(k int) int { return e.kinds[k].total(int64(e.r)) }

func (k kind) total(round int64) int {
	return k.base + int(int64(k.base)*k.born/circle*round+int64(k.base)*k.born%circle*round/circle)
}

// birth is the round in which resource i was created: the first whose total exceeds i.
func (k kind) birth(i int) int {
	if i < k.base {
		return 0
	}
	rate := int64(k.base) * k.born // millionths of a resource a round
	return int((int64(i-k.base+1)*circle + rate - 1) / rate)
}

// lifeOf tells how resource i of kind k stands in the era. ok is false if it does not exist yet, or was never created
// because its patient was gone by then.
func (e era) lifeOf(k, i int) (l life, ok bool) {
	l = e.ownLife(k, i)
	if l.born > e.r {
		return l, false
	}
	if k != kindCoverage && k != kindEOB {
		return l, true
	}
	owner := e.ownLife(kindPatient, e.owner(k, i))
	if owner.died == never {
		return l, true
	}
	if owner.died <= l.born {
		return l, false
	}
	if l.died == never || owner.died < l.died {
		l.died = owner.died
	}
	return l, true
}

// ownLife is the life of a resource apart from its patient's.
func (e era) ownLife(k, i int) life {
	kd := &e.kinds[k]
	l := life{born: kd.birth(i), version: 1, died: never}
	l.changed = l.born
	if kd.touch == 0 || l.born >= e.r {
		return l
	}
	place := (int64(i)*618_033 + int64(e.hash(k, -1, 0)%circle)) % circle
	first := max(0, (int64(l.born)*kd.touch-place+circle-1)/circle)
	end := int64(e.r) * kd.touch
	if first*circle+place >= end {
		return l
	}
	last := (end - place - 1) / circle
	if kd.deleteOneIn > 0 {
		for sweep := first; sweep <= last; sweep++ {
			if e.hash(k, i, uint64(sweep)+1)%kd.deleteOneIn == 0 {
				l.died = int((sweep*circle+place)/kd.touch) + 1
				last = sweep - 1
				break
			}
		}
	}
	if last >= first {
		l.version += int(last - first + 1)
		l.changed = int((last*circle+place)/kd.touch) + 1
	}
	return l
}

// owner is the index of the patient whom a coverage or claim is about.
func (e era) owner(k, i int) int {
	if k == kindCoverage {
		return i
	}
	h := e.hash(kindEOB, i, 0)
	eob := &e.kinds[kindEOB]
	if i >= eob.base {
		// A new claim is about anyone who was a member when it was made.
		return int(h % uint64(e.kinds[kindPatient].total(int64(eob.birth(i)))))
	}
	if h&3 == 0 { // a quarter is scattered, so that patients differ in the number of their claims
		return int((h >> 8) % uint64(e.patients))
	}
	return i / eobsPerPatient
}

// instant is when, in ms since 1970, resource i changed in the given round; round 0 stands for a day before the
// simulation.
func (e era) instant(k, i, round int) int64 {
	if round > 0 {
		return e.times[round]
	}
	return baseStart + int64(e.hash(k, i, 1<<40)%(baseDays*24*3600))*1000
}

// The instants of round 0 lie in the days from baseStart on: after every date that a claim bears, before every
// simulation.
var baseStart = time.Date(2025, 10, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

const baseDays = 90

func kindOf(resourceType string) int {
	for k, name := range kindNames {
		if name == resourceType {
			return k
		}
	}
	return never
}

// each calls yield with the index and state of every resource of the selection from index from on.
func (e era) each(ctx context.Context, k int, sel selection, from int, yield func(i int, l life) bool) error {
	for i := from; i < e.total(k); i++ {
		if i%4096 == 0 && ctx.Err() != nil {
			return fmt.Errorf("walk generated data: %w", ctx.Err())
		}
		l, ok := e.lifeOf(k, i)
		if !ok || l.died != never || !sel.holds(e.instant(k, i, l.changed)) {
			continue
		}
		if !yield(i, l) {
			return nil
		}
	}
	return nil
}

func (g *generator) plan(ctx context.Context, sel selection, linesPerPiece int) ([]piece, error) {
	k := kindOf(sel.resourceType)
	if k == never {
		return nil, nil
	}
	var pieces []piece
	lines := 0
	err := g.at(sel.round).each(ctx, k, sel, 0, func(i int, _ life) bool {
		if lines%linesPerPiece == 0 {
			pieces = append(pieces, piece{selection: sel, from: i, first: lines, bytes: -1})
		}
		pieces[len(pieces)-1].lines++
		lines++
		return true
	})
	return pieces, err
}

func (g *generator) write(ctx context.Context, p piece, yield func(line []byte) bool) error {
	k := kindOf(p.resourceType)
	e := g.at(p.round)
	buf := make([]byte, 0, 16<<10)
	left := p.lines
	if left == 0 {
		return nil
	}
	return e.each(ctx, k, p.selection, p.from, func(i int, l life) bool {
		buf = append(e.render(buf[:0], k, i, l), '\n')
		left--
		return yield(buf) && left > 0
	})
}

func (g *generator) deletions(ctx context.Context, sel selection, yield func(id string) bool) error {
	k := kindOf(sel.resourceType)
	if k == never {
		return nil
	}
	e := g.at(sel.round)
	since := sel.since.UnixMilli()
	for i := range e.total(k) {
		if i%4096 == 0 && ctx.Err() != nil {
			return fmt.Errorf("walk generated data: %w", ctx.Err())
		}
		l, ok := e.lifeOf(k, i)
		// Also who was born after `since`: a client that asks with an overlap has it from an export of that time.
		if !ok || l.died == never || e.times[l.died] <= since {
			continue
		}
		if !yield(string(e.appendID(nil, k, i))) {
			return nil
		}
	}
	return nil
}
