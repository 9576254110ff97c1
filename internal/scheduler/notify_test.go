package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"ingestd/internal/config"
	"ingestd/internal/notify"
	"ingestd/internal/store"
)

// hook is a target of notifications.
type hook struct {
	url string

	mu     sync.Mutex
	events []notify.Event
	bodies []string
	// refuses is how many requests it answers with 500.
	refuses int
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.refuses > 0 {
			h.refuses--
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		var event notify.Event
		if err := json.Unmarshal(body, &event); err != nil {
			t.Errorf("%v: %s", err, body)
		}
		h.events, h.bodies = append(h.events, event), append(h.bodies, string(body))
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	h.url = server.URL
	return h
}

func (h *hook) got() []notify.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]notify.Event(nil), h.events...)
}

func (h *hook) of(kind notify.Kind) (events []notify.Event) {
	for _, e := range h.got() {
		if e.Event == kind {
			events = append(events, e)
		}
	}
	return events
}

func notifier(t *testing.T, targets ...config.Notify) *notify.Sender {
	t.Helper()
	for i := range targets {
		if targets[i].Timeout == 0 {
			targets[i].Timeout = 5 * time.Second
		}
	}
	s, err := notify.New(notify.Options{Targets: targets})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// told waits until every notification has been delivered.
func told(t *testing.T, s *store.Store) {
	t.Helper()
	wait(t, "the deliveries", func() bool {
		return number(t, s, `SELECT count(*) FROM river.river_job WHERE kind = 'notify' AND state <> 'completed'`) == 0
	})
}

func TestNotify_tells_a_failure_once_whatever_fails_after_it_and_then_that_it_is_over(t *testing.T) {
	t.Parallel()
	s, h, other := newStore(t), newHook(t), newHook(t)
	h.refuses = 3
	p := newPayer(t, func(p *config.Payer) { p.FreshnessSLO = time.Hour })
	p.onKickOff = func(w http.ResponseWriter, n int) bool {
		if n > 3 {
			return true
		}
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"x","diagnostics":"Jane Doe"}]}`)
		return false
	}
	p.onFile = func(w http.ResponseWriter) { fmt.Fprint(w, strings.Join(patients(3), "")) }
	targets := []config.Notify{
		{Name: "hook", URL: config.Secret(h.url + "/?key=s3cret")},
		{Name: "other", URL: config.Secret(other.url), Events: []string{"recovered"}},
		{Name: "nobody", URL: config.Secret(other.url), Payers: []string{"q"}},
	}
	var engines []*Engine
	for range 3 {
		e := newEngine(t, s, Options{Tuning: Tuning{Notifier: notifier(t, targets...)}}, p)
		engines = append(engines, e)
		work(t, e)
	}
	for i, want := range []store.State{store.StateFailed, store.StateFailed, store.StateFailed, store.StatePublished, store.StatePublished} {
		id, err := engines[i%3].Start(t.Context(), "p", RunOptions{Full: true})
		if err != nil {
			t.Fatal(err)
		}
		wait(t, "the end of the export", func() bool { return !state(t, s, id).Active() })
		if got := state(t, s, id); got != want {
			t.Fatalf("export %d is %s, want %s", i+1, got, want)
		}
		told(t, s)
	}
	events := h.got()
	if len(events) != 2 || events[0].Event != notify.Failed || events[1].Event != notify.Recovered {
		t.Fatalf("told %+v, want one failure and one recovery", events)
	}
	failed, recovered := events[0], events[1]
	if failed.Code != "kickoff_refused" || failed.Payer != "p" || failed.Export.ID != 1 || failed.Version != 1 || failed.ID == 0 ||
		failed.FreshnessSLOSeconds != 3600 || failed.LastSuccess != nil || failed.OccurredAt.IsZero() {
		t.Errorf("the failure is %+v", failed)
	}
	if recovered.Export.ID != 4 || recovered.Export.Inserted != 3 || len(recovered.Incidents) != 1 ||
		recovered.Incidents[0].ID != failed.Incident || recovered.Incidents[0].Exports != 3 {
		t.Errorf("the recovery is %+v", recovered)
	}
	if got := other.got(); len(got) != 1 || got[0].Event != notify.Recovered {
		t.Errorf("a target that wants recoveries was told %+v", got)
	}
	for _, body := range h.bodies {
		if strings.Contains(body, "Jane") || strings.Contains(body, "http") {
			t.Errorf("told what the payer said, or a URL: %s", body)
		}
	}
	if n := number(t, s, `SELECT count(*) FROM river.river_job WHERE kind = 'notify' AND errors::text LIKE '%s3cret%'`); n != 0 {
		t.Error("a URL stands in the errors of a job")
	}
}

func TestNotify_tells_each_export_that_is_held(t *testing.T) {
	t.Parallel()
	s, h := newStore(t), newHook(t)
	p := newPayer(t, func(p *config.Payer) { p.Load.RemoveGhosts, p.Load.GhostMaxShare = true, 0.1 })
	count := 10
	p.onFile = func(w http.ResponseWriter) { fmt.Fprint(w, strings.Join(patients(count), "")) }
	e := newEngine(t, s, Options{Tuning: Tuning{Notifier: notifier(t, config.Notify{Name: "hook", URL: config.Secret(h.url)})}}, p)
	work(t, e)
	export := func(want store.State) int64 {
		t.Helper()
		id, err := e.Start(t.Context(), "p", RunOptions{Full: true})
		if err != nil {
			t.Fatal(err)
		}
		wait(t, "the end of the export", func() bool { return state(t, s, id) == want })
		return id
	}
	export(store.StatePublished)
	count = 4
	first := export(store.StateHeld)
	if err := e.Reject(t.Context(), first, store.Actor{Name: "ops"}); err != nil {
		t.Fatal(err)
	}
	second := export(store.StateHeld)
	told(t, s)
	held := h.of(notify.Held)
	if len(held) != 2 || held[0].Export.ID != first || held[1].Export.ID != second || held[0].Export.Ghosts != 6 || held[0].Export.Rows != 10 ||
		held[0].LastSuccess == nil || held[0].Code != store.HeldCode || held[0].Hint == "" {
		t.Errorf("told %+v, want both exports that are held, with numbers", held)
	}
	if err := e.Release(t.Context(), second, store.Actor{Name: "ops"}); err != nil {
		t.Fatal(err)
	}
	wait(t, "the publish", func() bool { return state(t, s, second) == store.StatePublished })
	told(t, s)
	if got := h.of(notify.Recovered); len(got) != 1 || got[0].Export.Ghosts != 6 || got[0].Incidents[0].Exports != 2 {
		t.Errorf("told %+v, want that it is over", got)
	}
}

func TestNotify_tells_once_that_data_are_stale(t *testing.T) {
	t.Parallel()
	s, h := newStore(t), newHook(t)
	late := newPayer(t, func(p *config.Payer) { p.Name, p.FreshnessSLO = "late", time.Hour })
	fresh := newPayer(t, func(p *config.Payer) { p.Name, p.FreshnessSLO = "fresh", time.Hour })
	never := newPayer(t, func(p *config.Payer) { p.Name, p.FreshnessSLO = "never", time.Hour })
	unheard := newPayer(t, func(p *config.Payer) { p.Name, p.FreshnessSLO = "unheard", time.Hour })
	off := newPayer(t, func(p *config.Payer) { p.Name, p.FreshnessSLO, p.Enabled = "off", time.Hour, false })
	free := newPayer(t, func(p *config.Payer) { p.Name = "free" })
	late.onFile = func(w http.ResponseWriter) { fmt.Fprint(w, strings.Join(patients(1), "")) }
	const row = `INSERT INTO ingest.export (payer, state, kind, trigger, series, created_at, finished_at, cleaned_up_at)
		VALUES ($1, $2, $3, 'manual', '', now() - $4::interval, now() - $4::interval, now())`
	for _, x := range []struct{ payer, state, kind, age string }{
		{"late", "published", "full", "2 hours"},
		{"late", "published", "backfill", "1 minute"},
		{"late", "failed", "full", "1 minute"},
		{"fresh", "published", "full", "3 hours"},
		{"fresh", "published", "full", "30 minutes"},
		{"never", "failed", "full", "2 hours"},
		{"off", "published", "full", "2 hours"},
		{"free", "published", "full", "2 hours"},
	} {
		execute(t, s, row, x.payer, x.state, x.kind, x.age)
	}
	o := Options{Tuning: Tuning{Notifier: notifier(t, config.Notify{Name: "hook", URL: config.Secret(h.url)})}, ReapInterval: time.Second}
	var engines []*Engine
	for range 2 {
		e := newEngine(t, s, o, late, fresh, never, unheard, off, free)
		engines = append(engines, e)
		work(t, e)
	}
	stale := func() int { return number(t, s, `SELECT count(*) FROM ingest.incident WHERE event = 'stale'`) }
	wait(t, "both stale payers", func() bool { return stale() == 2 })
	var group sync.WaitGroup
	for _, e := range append(engines, engines...) {
		group.Go(func() {
			if err := e.tellStale(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	told(t, s)
	got := h.of(notify.Stale)
	if len(got) != 2 || got[0].Payer == got[1].Payer {
		t.Fatalf("told %+v, want late and never, once each", got)
	}
	for _, event := range got {
		if event.Payer != "late" && event.Payer != "never" || (event.LastSuccess != nil) != (event.Payer == "late") {
			t.Errorf("told %+v", event)
		}
	}
	id, err := engines[0].Start(t.Context(), "late", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	told(t, s)
	if got := h.of(notify.Recovered); len(got) != 1 || got[0].Payer != "late" || got[0].Incidents[0].Event != notify.Stale {
		t.Errorf("told %+v, want that late has recovered", got)
	}
	if n := stale(); n != 2 {
		t.Errorf("%d incidents, want the two", n)
	}
}

func TestNotify_of_a_target_that_hangs_keeps_no_export_and_no_other_target_waiting(t *testing.T) {
	t.Parallel()
	s, h := newStore(t), newHook(t)
	release := make(chan struct{})
	var hanging int
	var mu sync.Mutex
	hang := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		hanging++
		mu.Unlock()
		<-release
	}))
	defer hang.Close()
	defer close(release)
	var payers []*payer
	for i := range 12 {
		p := newPayer(t, func(p *config.Payer) { p.Name = fmt.Sprintf("p%d", i) })
		p.onKickOff = func(w http.ResponseWriter, _ int) bool {
			w.WriteHeader(http.StatusBadRequest)
			return false
		}
		payers = append(payers, p)
	}
	good := newPayer(t, func(p *config.Payer) { p.Name = "good" })
	good.onFile = func(w http.ResponseWriter) { fmt.Fprint(w, strings.Join(patients(1), "")) }
	e := newEngine(t, s, Options{Control: 2, Downloads: 1, Tuning: Tuning{Notifier: notifier(t,
		config.Notify{Name: "hangs", URL: config.Secret(hang.URL), Timeout: 30 * time.Second},
		config.Notify{Name: "hook", URL: config.Secret(h.url)})}}, append(payers, good)...)
	stop := work(t, e)
	defer stop()
	for _, p := range payers {
		if _, err := e.Start(t.Context(), p.Config.Name, RunOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, "all events at the other target", func() bool { return len(h.of(notify.Failed)) == len(payers) })
	id, err := e.Start(t.Context(), "good", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	mu.Lock()
	defer mu.Unlock()
	if hanging == 0 || hanging > notifyPerTarget {
		t.Errorf("%d requests hang, want %d at most", hanging, notifyPerTarget)
	}
}

func TestNotify_is_given_up_after_a_day_and_left_to_others_where_the_target_is_not_known(t *testing.T) {
	t.Parallel()
	s, h := newStore(t), newHook(t)
	seen := &seenNotified{}
	e := newEngine(t, s, Options{Observer: seen, Tuning: Tuning{Notifier: notifier(t, config.Notify{Name: "hook", URL: config.Secret(h.url)})}})
	w := newNotifyWorker(e)
	add := func(age string) int64 {
		var id int64
		err := s.InTx(t.Context(), func(tx pgx.Tx) (err error) {
			if id, err = s.AddNotificationTx(t.Context(), tx, "p", "stale", []byte(`{"event": "stale"}`)); err != nil {
				return err
			}
			_, err = tx.Exec(t.Context(), `UPDATE ingest.notification SET occurred_at = now() - $2::interval WHERE id = $1`, id, age)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	job := func(id int64, target string, age time.Duration) *river.Job[notifyArgs] {
		row := &rivertype.JobRow{ID: id, Attempt: 1, CreatedAt: time.Now().Add(-age)}
		return &river.Job[notifyArgs]{JobRow: row, Args: notifyArgs{Notification: id, Target: target}}
	}
	old, recent := add("25 hours"), add("23 hours")
	if err := w.Work(t.Context(), job(old, "hook", 0)); err != nil || len(h.got()) != 0 || seen.text() != "hook given_up" {
		t.Errorf("an old one: got %v, told %v, counted %s", err, h.got(), seen.text())
	}
	if err := w.Work(t.Context(), job(recent, "hook", 0)); err != nil || len(h.got()) != 1 || seen.text() != "hook given_up hook delivered" {
		t.Errorf("a recent one: got %v, told %v, counted %s", err, h.got(), seen.text())
	}
	var snoozed *river.JobSnoozeError
	if err := w.Work(t.Context(), job(recent, "new", 0)); !errors.As(err, &snoozed) {
		t.Errorf("a target that others may know: got %v, want that it is put off", err)
	}
	if err := w.Work(t.Context(), job(recent, "new", time.Hour)); err != nil {
		t.Errorf("a target that was removed: got %v, want that it ends", err)
	}
	if err := w.Work(t.Context(), job(recent+1, "hook", 0)); err != nil {
		t.Errorf("a notification that is gone: got %v, want that it ends", err)
	}
	if n, err := s.PruneNotifications(t.Context(), 24*time.Hour); err != nil || n != 1 {
		t.Fatalf("pruned %d: %v", n, err)
	}
	if n := number(t, s, `SELECT count(*) FROM ingest.notification`); n != 1 {
		t.Errorf("%d notifications are left, want the recent one", n)
	}
}

// seenNotified is an Observer that remembers deliveries.
type seenNotified struct {
	nobody

	mu   sync.Mutex
	seen []string
}

func (o *seenNotified) Notified(target, result string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = append(o.seen, target+" "+result)
}

func (o *seenNotified) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.seen, " ")
}
