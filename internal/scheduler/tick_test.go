package scheduler

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// ticked are payers with a schedule that is due, and an hour ago was due as well.
func ticked(t *testing.T, s *store.Store, n int) []Payer {
	t.Helper()
	payers := make([]Payer, n)
	for i := range payers {
		payers[i] = Payer{Config: config.Payer{
			Name: fmt.Sprintf("p%03d", i), Enabled: true, FHIRURL: "https://payer.example/fhir", Schedule: "@every 1h",
			Export: config.Export{Level: "system", Since: "auto", FullSchedule: "@every 2400h"},
		}}
		execute(t, s, `INSERT INTO ingest.tick (payer, schedule, due_at, outcome) VALUES
			($1, 'schedule', now() - interval '150 minutes', 'registered'), ($1, 'full_schedule', now(), 'registered')`, payers[i].Config.Name)
	}
	return payers
}

// tickers are instances that share a database, each with connections of its own.
func tickers(t *testing.T, s *store.Store, n int, payers []Payer) []*ticker {
	t.Helper()
	all := make([]*ticker, n)
	for i := range all {
		own, err := store.Open(t.Context(), store.Options{URL: s.Pool().Config().ConnString(), MaxConnections: 4})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(own.Close)
		e, err := New(Options{Store: own, Payers: payers})
		if err != nil {
			t.Fatal(err)
		}
		all[i] = newTicker(e)
	}
	return all
}

func TestTick_of_many_instances_that_look_at_once_starts_one_export(t *testing.T) {
	t.Parallel()
	const payers, instances, looks = 150, 8, 2
	s := newStore(t)
	all := tickers(t, s, instances, ticked(t, s, payers))
	var group errgroup.Group
	for _, instance := range all {
		group.Go(func() error {
			for range looks {
				if _, err := instance.look(t.Context()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for what, sql := range map[string]string{
		"exports":                   `SELECT count(*) FROM ingest.export`,
		"payers with an export":     `SELECT count(DISTINCT payer) FROM ingest.export`,
		"kick-offs":                 `SELECT count(*) FROM river.river_job WHERE kind = 'start_export'`,
		"ticks that started one":    `SELECT count(*) FROM ingest.tick WHERE outcome = 'started'`,
		"exports of the last tick":  `SELECT count(*) FROM ingest.export WHERE due_at > now() - interval '1 hour' AND due_at <= now()`,
		"ticks of their own export": `SELECT count(*) FROM ingest.tick AS t JOIN ingest.export AS e ON e.id = t.export_id AND e.due_at = t.due_at`,
	} {
		if n := number(t, s, sql); n != payers {
			t.Errorf("%d %s, want %d", n, what, payers)
		}
	}
	if n := number(t, s, `SELECT count(*) FROM ingest.tick`); n != 3*payers {
		t.Errorf("%d ticks, want two registrations and one tick a payer", n)
	}
}

func TestTick_that_another_instance_acted_on_is_left_alone_until_the_next(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	all := tickers(t, s, 2, ticked(t, s, 1))
	for range 2 {
		for _, instance := range all {
			if _, err := instance.look(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		execute(t, s, `UPDATE ingest.export SET state = 'failed', finished_at = now()`)
	}
	if n := number(t, s, `SELECT count(*) FROM ingest.export`); n != 1 {
		t.Errorf("%d exports, want one", n)
	}
	execute(t, s, `UPDATE ingest.tick SET due_at = due_at - interval '1 hour' WHERE schedule = 'schedule'`)
	for _, instance := range all {
		instance.timetables["p000"].forget() // as if its time had come
		if _, err := instance.look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := number(t, s, `SELECT count(*) FROM ingest.export`); n != 2 {
		t.Errorf("%d exports after the next tick, want two", n)
	}
}

func TestTick_goes_by_the_databases_clock_and_forgets_what_a_wrong_one_recorded(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	payers := ticked(t, s, 1)
	execute(t, s, `INSERT INTO ingest.tick (payer, schedule, due_at, outcome) VALUES
		('p000', 'schedule', now() + interval '1 year', 'started'), ('p000', 'full_schedule', now() + interval '30 minutes', 'started')`)
	instance := tickers(t, s, 1, payers)[0]
	clock := instance.engine.clock
	clock.read, clock.at = time.Now().AddDate(0, 0, 10), time.Now() // what it has read before the clock was set right
	if _, err := instance.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := number(t, s, `SELECT count(*) FROM ingest.export`); n != 1 {
		t.Errorf("%d exports, want the one that was due: a tick of the next year keeps it", n)
	}
	if n := number(t, s, `SELECT count(*) FROM ingest.tick WHERE due_at > now()`); n != 1 {
		t.Errorf("%d ticks lie in the future, want the one that a small jump explains", n)
	}
	if d := time.Since(clock.Now()).Abs(); d > time.Minute {
		t.Errorf("the clock is still %s off", d)
	}
}

func TestTick_that_is_too_late_is_noted_as_missed(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	payers := ticked(t, s, 2)
	payers[0].Config.Schedule, payers[0].Config.CatchUp = "@every 100h", time.Minute
	execute(t, s, `UPDATE ingest.tick SET due_at = now() - interval '2000 hours' WHERE schedule = 'schedule'`)
	due := mustSchedule(t, payers[0].Config, "@every 100h").latestDue(time.Now().Add(-200*time.Hour), time.Now())
	if time.Since(due) < 2*time.Minute {
		t.Skip("the tick of this hundred hours has just come")
	}
	if _, err := tickers(t, s, 1, payers)[0].look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := number(t, s, `SELECT count(*) FROM ingest.tick WHERE payer = 'p000' AND outcome = 'missed' AND export_id IS NULL AND due_at = $1`, due); n != 1 {
		t.Errorf("%d ticks are noted as missed, want one", n)
	}
	if n := number(t, s, `SELECT count(*) FROM ingest.export WHERE payer = 'p001'`); n != 1 || number(t, s, `SELECT count(*) FROM ingest.export`) != 1 {
		t.Error("want an export of the payer that makes up whatever was missed, and of no other")
	}
}

func TestTick_of_a_full_schedule_has_its_turn_after_the_export_that_runs(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	payers := ticked(t, s, 1)
	instance := tickers(t, s, 1, payers)[0]
	look := func() {
		t.Helper()
		if _, err := instance.look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	look()
	execute(t, s, `UPDATE ingest.tick SET due_at = now() - interval '4800 hours' WHERE schedule = 'full_schedule'`)
	instance.timetables["p000"].forget()
	look()
	look()
	if n := number(t, s, `SELECT count(*) FROM ingest.export`); n != 1 {
		t.Fatalf("%d exports, want the one that runs", n)
	}
	execute(t, s, `UPDATE ingest.export SET state = 'failed', finished_at = now()`)
	look()
	if n := number(t, s, `SELECT count(*) FROM ingest.tick AS t JOIN ingest.export AS e ON e.id = t.export_id
		WHERE t.schedule = 'full_schedule' AND t.outcome = 'started'`); n != 1 {
		t.Errorf("%d full exports, want one", n)
	}
}

func TestTicker_follows_a_change_of_the_payers(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	instance := tickers(t, s, 1, nil)[0]
	p := config.Payer{Name: "p", Enabled: true, Schedule: "0 2 * * *"}
	follow := func(payers map[string]Payer) *timetable {
		t.Helper()
		if err := instance.follow(payers); err != nil {
			t.Fatal(err)
		}
		return instance.timetables["p"]
	}
	first := follow(map[string]Payer{"p": {Config: p}})
	p.FHIRURL = "https://elsewhere.example"
	if follow(map[string]Payer{"p": {Config: p}}) != first {
		t.Error("what the schedule does not depend on has made another timetable")
	}
	p.Schedule = "0 3 * * *"
	if follow(map[string]Payer{"p": {Config: p}}) == first {
		t.Error("another schedule has the old timetable")
	}
	if follow(nil) != nil {
		t.Error("a payer that is gone is still looked at")
	}
}

func TestClock_does_not_follow_the_hosts(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	c := newEngine(t, s, Options{}).clock
	if d := time.Since(c.Now()).Abs(); d > time.Minute {
		t.Errorf("before it was read, it is %s off the host's", d)
	}
	if _, back, err := c.look(t.Context()); err != nil || back {
		t.Errorf("the first look: set back %v, %v", back, err)
	}
	c.read = c.read.Add(-time.Hour)
	if _, back, err := c.look(t.Context()); err != nil || back {
		t.Errorf("a jump forward is called one back: %v, %v", back, err)
	}
	c.read = c.read.Add(time.Hour)
	if d := time.Since(c.Now()); d > -59*time.Minute {
		t.Errorf("it says %s, want what the database said and not what the host says", c.Now())
	}
	if _, back, err := c.look(t.Context()); err != nil || !back {
		t.Errorf("a jump back: %v, %v", back, err)
	}
}
