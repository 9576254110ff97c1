package scheduler

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// The simulation: a year of virtual time, in which instances that drive the real timetables die and come back, and look at
// a table of ticks that obeys the rules of ingest.tick. What the real claim does under contention, TestTick_... proves on
// Postgres.

// simulation is a fleet and its table of ticks.
type simulation struct {
	random  *rand.Rand
	now     time.Time
	payers  []config.Payer
	ticks   map[string][]decision // what was claimed, in the order of its due time; by payer and schedule
	claimed map[string]time.Time  // the first claim
	busy    map[string]time.Time  // until when an export of the payer runs
	fleet   []*simulatedInstance
	// Of the whole fleet: since when nobody lives, and between which times nobody did.
	dark    time.Time
	outages [][2]time.Time
	deaths  int
	doubled int
}

// simulatedInstance is one instance; it knows what it has looked up, until it dies.
type simulatedInstance struct {
	tables []*timetable // in the order of the payers
	wake   time.Time    // when it looks, or, where it is dead, comes back
	dead   bool
	dies   time.Time
}

func (s *simulation) start(t *testing.T, i *simulatedInstance) {
	t.Helper()
	i.dead, i.wake = false, s.now
	i.dies = s.now.Add(s.between(time.Hour, 6*24*time.Hour))
	i.tables = make([]*timetable, 0, len(s.payers))
	for _, p := range s.payers {
		table, err := newTimetable(p)
		if err != nil {
			t.Fatal(err)
		}
		i.tables = append(i.tables, table)
	}
	if !s.dark.IsZero() {
		s.outages = append(s.outages, [2]time.Time{s.dark, s.now})
		s.dark = time.Time{}
	}
}

func (s *simulation) die(i *simulatedInstance) {
	i.dead, i.tables = true, nil
	i.wake = s.now.Add(s.between(time.Second, 4*24*time.Hour))
	s.deaths++
	if !slices.ContainsFunc(s.fleet, func(i *simulatedInstance) bool { return !i.dead }) {
		s.dark = s.now
	}
}

func (s *simulation) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.random.Int64N(int64(most-least)))
}

// look is what an instance does when it looks; it may die between a decision and its claim.
func (s *simulation) look(i *simulatedInstance) {
	var due []decision
	for n, table := range i.tables {
		if !table.mayBeDue(s.now) {
			continue
		}
		p := s.payers[n]
		known := store.TickState{Last: make(map[store.Schedule]time.Time), Active: s.now.Before(s.busy[p.Name])}
		for _, which := range []store.Schedule{store.ScheduleIncremental, store.ScheduleFull} {
			if ticks := s.ticks[p.Name+" "+string(which)]; len(ticks) > 0 {
				known.Last[which] = ticks[len(ticks)-1].due
			}
		}
		if ended := s.busy[p.Name]; !ended.After(s.now) {
			known.FinishedAt = ended
		}
		due = append(due, table.decide(known, s.now)...)
	}
	for n, d := range due {
		if s.random.IntN(2000) == 0 {
			s.die(i)
			return
		}
		s.claim(d)
		if s.random.IntN(50) == 0 && n%2 == 0 { // another instance has read the same, and comes second
			s.claim(d)
		}
	}
	i.wake = s.now.Add(15 * time.Minute)
	for _, table := range i.tables {
		if wake := table.wake(s.now); !wake.IsZero() && wake.Before(i.wake) {
			i.wake = wake
		}
	}
}

// claim is ClaimTickTx with what follows in its transaction.
func (s *simulation) claim(d decision) {
	key := d.payer + " " + string(d.schedule)
	ticks := s.ticks[key]
	if len(ticks) > 0 && !ticks[len(ticks)-1].due.Before(d.due) {
		s.doubled++
		return
	}
	if d.outcome == store.TickStarted {
		if s.now.Before(s.busy[d.payer]) {
			if d.schedule == store.ScheduleFull {
				return // has its turn later
			}
			d.outcome = store.TickSkipped
		} else {
			s.busy[d.payer] = s.now.Add(s.between(time.Minute, 10*time.Minute))
		}
	}
	s.ticks[key] = append(ticks, d)
	s.claimed[fmt.Sprint(key, d.due.Unix())] = s.now
}

// run lets the fleet live until the given time.
func (s *simulation) run(t *testing.T, until time.Time) {
	t.Helper()
	for {
		next := s.fleet[0]
		for _, i := range s.fleet[1:] {
			if i.wake.Before(next.wake) {
				next = i
			}
		}
		if next.wake.After(until) {
			return
		}
		s.now = next.wake
		switch {
		case next.dead:
			s.start(t, next)
			s.look(next)
		case s.now.After(next.dies):
			s.die(next)
		default:
			s.look(next)
		}
	}
}

// plannedPayer is a payer with what an independent calculation says of its schedules.
type plannedPayer struct {
	config.Payer
	expected map[store.Schedule][]time.Time
}

// simulatedPayers makes payers with random expressions, timezones and jitter.
func simulatedPayers(t *testing.T, random *rand.Rand, n int, from, to time.Time) []plannedPayer {
	t.Helper()
	watches := make(map[string]wallWatch)
	for _, zone := range zones {
		watches[zone] = watch(t, zone, from, to)
	}
	payers := make([]plannedPayer, n)
	for i := range payers {
		p := config.Payer{Name: fmt.Sprintf("p%03d", i), Enabled: true, Timezone: zones[random.IntN(len(zones))]}
		if random.IntN(3) == 0 {
			p.Jitter = time.Duration(1+random.IntN(30)) * time.Minute
		}
		planned := plannedPayer{expected: make(map[store.Schedule][]time.Time)}
		x := randomExpression(random)
		if i%40 != 0 { // a payer that is asked every hour is rare
			x.hours = append(x.hours, random.IntN(24))[:1]
			x.minutes = x.minutes[:1+random.IntN(len(x.minutes))/2]
		}
		p.Schedule = x.String()
		planned.expected[store.ScheduleIncremental] = watches[p.Timezone].ticks(x)
		if random.IntN(3) == 0 {
			x := randomExpression(random)
			x.hours, x.days = []int{random.IntN(24)}, []int{1 + random.IntN(28)}
			p.Export.FullSchedule = x.String()
			planned.expected[store.ScheduleFull] = watches[p.Timezone].ticks(x)
		}
		for _, ticks := range planned.expected {
			for n := range ticks {
				ticks[n] = ticks[n].Add(jitter(p))
			}
		}
		planned.Payer = p
		payers[i] = planned
	}
	return payers
}

// With the race detector, or -short, it is some payers and some months: see simulatedSize.
func TestSimulation_a_year_of_a_fleet_that_dies_and_comes_back_runs_each_tick_once_or_makes_it_up_once(t *testing.T) {
	t.Parallel()
	const seed = 2026
	random := rand.New(rand.NewPCG(seed, 0))
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	payers, days := simulatedSize()
	to := from.AddDate(0, 0, days)
	began := time.Now()

	planned := simulatedPayers(t, random, payers, from, to)
	s := &simulation{
		random: random, now: from, ticks: make(map[string][]decision), claimed: make(map[string]time.Time), busy: make(map[string]time.Time),
	}
	for _, p := range planned {
		s.payers = append(s.payers, p.Payer)
	}
	for range 5 {
		i := &simulatedInstance{}
		s.fleet = append(s.fleet, i)
		s.start(t, i)
	}
	s.run(t, to.Add(-time.Second)) // up to which the wall was watched
	for _, i := range s.fleet {    // what came due while nobody lived at the end is looked at once more
		if i.dead {
			s.start(t, i)
		}
		s.look(i)
	}

	total, madeUp, skipped := 0, 0, 0
	for _, p := range planned {
		for _, which := range slices.Sorted(maps.Keys(p.expected)) {
			a := account(t, s, p, which, from)
			total, madeUp, skipped = total+a.ticks, madeUp+a.madeUp, skipped+a.skipped
		}
	}
	var dark time.Duration
	for _, o := range s.outages {
		dark += o[1].Sub(o[0])
	}
	t.Logf("seed %d: %d payers, %d days, %d ticks, of which %d were made up by a later one and %d met a running export; %d deaths, "+
		"%d outages of the whole fleet, %s in all; %d claims came second; %s", seed, payers, days, total, madeUp, skipped, s.deaths, len(s.outages),
		dark.Round(time.Minute), s.doubled, time.Since(began).Round(time.Millisecond))
	if s.deaths == 0 || s.doubled == 0 || total == 0 {
		t.Errorf("the simulation tried nothing")
	}
	if days == 365 && (len(s.outages) == 0 || madeUp == 0) {
		t.Errorf("nothing had to be made up")
	}
}

type accounts struct{ ticks, madeUp, skipped int }

// account compares what was claimed of one schedule with what an independent calculation expects: each tick was acted on once, or
// is made up by the next that was; nothing else was; and where an instance lived all the time, at its very time.
func account(t *testing.T, s *simulation, p plannedPayer, which store.Schedule, from time.Time) accounts {
	t.Helper()
	var a accounts
	expected, claimed := p.expected[which], s.ticks[p.Name+" "+string(which)]
	if len(claimed) == 0 || claimed[0].outcome != store.TickRegistered {
		t.Fatalf("%s %s: the schedule was not registered first", p.Name, which)
	}
	for len(expected) > 0 && !expected[0].After(from) {
		expected = expected[1:]
	}
	for _, d := range claimed[1:] {
		n := sort.Search(len(expected), func(i int) bool { return expected[i].After(d.due) })
		if n == 0 || !expected[n-1].Equal(d.due) {
			t.Fatalf("%s %s %q in %s: acted on %s, which is no tick, or was one already", p.Name, which, p.Schedule, p.Timezone, d.due)
		}
		at := s.claimed[fmt.Sprint(p.Name+" "+string(which), d.due.Unix())]
		if at.Before(d.due) {
			t.Fatalf("%s %s: %s was acted on before it was due, at %s", p.Name, which, d.due, at)
		}
		for _, missed := range expected[:n-1] { // made up by this one: nobody lived, or an export ran until then
			a.madeUp++
			if which == store.ScheduleIncremental && !s.darkAt(missed) {
				t.Fatalf("%s %q in %s: %s was not acted on, though an instance lived", p.Name, p.Schedule, p.Timezone, missed)
			}
		}
		if which == store.ScheduleIncremental && at.Sub(d.due) > 15*time.Minute && !s.darkAt(d.due) {
			t.Fatalf("%s: %s was acted on at %s, though an instance lived", p.Name, d.due, at)
		}
		if d.outcome == store.TickSkipped {
			a.skipped++
		}
		a.ticks += n
		expected = expected[n:]
	}
	for _, left := range expected {
		if left.Before(s.now) {
			t.Fatalf("%s %s %q in %s: %s was never acted on, at %s", p.Name, which, p.Schedule, p.Timezone, left, s.now)
		}
	}
	return a
}

// darkAt reports whether nobody lived at a time, or whoever did died of the tick.
func (s *simulation) darkAt(t time.Time) bool {
	return slices.ContainsFunc(s.outages, func(o [2]time.Time) bool { return !t.Before(o[0]) && !t.After(o[1]) })
}
