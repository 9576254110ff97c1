package scheduler

import (
	"io"
	"net/http"
	"testing"

	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/store"
)

// pinned makes clients for kept settings, as the daemon does, and notes which.
func pinned(made *[]config.Payer) func(config.Payer) (Payer, error) {
	return func(p config.Payer) (Payer, error) {
		*made = append(*made, p)
		client, err := export.New(export.Options{Payer: p, Authorized: http.DefaultTransport, Plain: http.DefaultTransport})
		return Payer{Config: p, Client: client}, err
	}
}

func TestReconfigure_leaves_a_running_export_its_settings_and_gives_the_next_the_new_ones(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, func(p *config.Payer) { p.Export.Types = []string{"Patient"} })
	var made []config.Payer
	e := newEngine(t, s, Options{Pin: pinned(&made)}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	x, err := s.Export(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := e.payerOf(t.Context(), x); err != nil || got.Client != p.Client {
		t.Errorf("before: got %+v, %v", got, err)
	}
	next := newPayer(t, func(c *config.Payer) {
		c.FHIRURL, c.Export.Types, c.Limits.PollMax = p.Config.FHIRURL, []string{"Coverage"}, 7e9
	})
	reconfigure := func(e *Engine, payers ...Payer) {
		t.Helper()
		if err := e.Reconfigure(t.Context(), payers, Tuning{}); err != nil {
			t.Fatal(err)
		}
	}
	reconfigure(e, next.Payer)
	for range 2 { // the second time without asking for it again
		got, err := e.payerOf(t.Context(), x)
		if err != nil || got.Config.Export.Types[0] != "Patient" || got.Config.Limits.PollMax != 7e9 || len(made) != 1 {
			t.Errorf("after a change: got %+v, %v, %d clients", got.Config, err, len(made))
		}
	}
	if got, _ := e.roster.payer("p"); got.Client != next.Client {
		t.Error("the next export would have the old settings")
	}
	reconfigure(e)
	if got, err := e.payerOf(t.Context(), x); err != nil || got.Config.Export.Types[0] != "Patient" {
		t.Errorf("after the removal: got %+v, %v", got.Config, err)
	}
	if _, err := e.Start(t.Context(), "p", RunOptions{}); !isA[*UnknownPayerError](err) {
		t.Errorf("a removed payer is exported: %v", err)
	}

	// Another instance, or this one after a restart, knows the settings from the database; but it leaves them to those that
	// have the payer, whose secrets it may lack.
	other := newEngine(t, s, Options{Pin: pinned(&made)})
	if err := s.Announce(t.Context(), store.Instance{ID: "a", Payers: map[string]string{"p": "1"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.payerOf(t.Context(), x); !isA[*ElsewhereError](err) {
		t.Errorf("while another has the payer: got %v", err)
	}
	if err := s.Retire(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if got, err := other.payerOf(t.Context(), x); err != nil || got.Config.FHIRURL != p.Config.FHIRURL {
		t.Errorf("when nobody has it: got %+v, %v", got.Config, err)
	}
	x.Settings = ""
	if _, err := other.payerOf(t.Context(), x); !isA[*UnknownPayerError](err) {
		t.Errorf("without kept settings: got %v", err)
	}
}

func TestReconfigure_starts_and_stops_schedules(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e := newEngine(t, s, Options{})
	work(t, e)
	p := newPayer(t, func(p *config.Payer) { p.Schedule = "@every 1s" })
	if err := e.Reconfigure(t.Context(), []Payer{p.Payer}, Tuning{}); err != nil {
		t.Fatal(err)
	}
	ticks := func() int { return number(t, s, `SELECT count(*) FROM ingest.tick WHERE outcome <> 'registered'`) }
	wait(t, "a tick of the new payer", func() bool { return ticks() > 0 })
	broken := newPayer(t, func(p *config.Payer) { p.Name, p.Schedule = "broken", "never" })
	if err := e.Reconfigure(t.Context(), []Payer{broken.Payer}, Tuning{}); err == nil {
		t.Error("a schedule that cannot be read is accepted")
	}
	if _, known := e.roster.payer("p"); !known {
		t.Error("a refused configuration has removed a payer")
	}
	if err := e.Reconfigure(t.Context(), nil, Tuning{}); err != nil {
		t.Fatal(err)
	}
	next := newTicker(e)
	if err := next.follow(e.roster.all()); err != nil || len(next.timetables) != 0 {
		t.Errorf("schedules are left: %v, %v", next.timetables, err)
	}
}

func TestReconfigure_exchanges_what_needs_no_restart(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	p.onFile = func(w http.ResponseWriter) { _, _ = io.WriteString(w, patients(1)[0]) }
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	h := newHook(t)
	tuning := Tuning{
		Indexes:  []store.Index{{Name: "later", Types: []string{"Patient"}, Columns: "last_updated"}},
		Notifier: notifier(t, config.Notify{Name: "hook", URL: config.Secret(h.url)}),
	}
	if err := e.Reconfigure(t.Context(), []Payer{p.Payer}, tuning); err != nil {
		t.Fatal(err)
	}
	execute(t, s, `INSERT INTO ingest.incident (payer, event) VALUES ('p', 'failed')`)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	wait(t, "the index", func() bool {
		return number(t, s, `SELECT count(*) FROM pg_indexes WHERE tablename = 'patient__p' AND indexdef LIKE '%(last_updated)'`) == 1
	})
	wait(t, "the notification", func() bool { return len(h.got()) == 1 })
}
