package scheduler

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

func TestPOLL9_an_export_is_judged_by_what_its_payer_used_to_take(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	for name, test := range map[string]struct {
		waited, still time.Duration
		history       []time.Duration
		timeout       time.Duration
		want          bool
	}{
		"as usual":                          {2 * hour, 2 * hour, []time.Duration{hour, 2 * hour}, 24 * hour, false},
		"three times the longest":           {6*hour + time.Minute, 2 * hour, []time.Duration{hour, 2 * hour}, 24 * hour, true},
		"but its progress moves":            {7 * hour, time.Minute, []time.Duration{hour, 2 * hour}, 24 * hour, false},
		"quick payers have ten minutes":     {9 * time.Minute, 9 * time.Minute, []time.Duration{time.Second}, 24 * hour, false},
		"and no more":                       {11 * time.Minute, 11 * time.Minute, []time.Duration{time.Second}, 24 * hour, true},
		"half the time without a history":   {13 * hour, 13 * hour, nil, 24 * hour, true},
		"less than half":                    {11 * hour, 11 * hour, nil, 24 * hour, false},
		"half the time, however slow it is": {13 * hour, 13 * hour, []time.Duration{20 * hour}, 24 * hour, true},
		"nothing to judge by":               {1000 * hour, 1000 * hour, nil, 0, false},
		"history without a timeout":         {13 * hour, 13 * hour, []time.Duration{hour}, 0, true},
	} {
		if got := stalled(test.waited, test.still, test.history, test.timeout); got != test.want {
			t.Errorf("%s: got %t, want %t", name, got, test.want)
		}
	}
}

// log is a logger whose text can be read while it is written.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

func TestPOLL9_a_stalled_export_is_warned_of_once_and_no_longer_when_it_moves(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, func(c *config.Payer) { c.Export.Timeout = 24 * time.Hour })
	execute(t, s, `INSERT INTO ingest.export (payer, kind, trigger, series, state, kicked_off_at, manifest_at, cleaned_up_at)
		VALUES ('p', 'full', 'schedule', '', 'published', now() - interval '1 minute', now(), now())`)
	var text log
	e := newEngine(t, s, Options{Logger: slog.New(slog.NewTextHandler(&text, nil))}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	wait(t, "a poll", func() bool { return number(t, s, `SELECT polls FROM ingest.export WHERE id = $1`, id) > 0 })
	execute(t, s, `UPDATE ingest.export SET kicked_off_at = now() - interval '1 hour' WHERE id = $1`, id)
	wait(t, "the judgement", func() bool { return number(t, s, `SELECT count(stalled_at) FROM ingest.export WHERE id = $1`, id) == 1 })
	polls := number(t, s, `SELECT polls FROM ingest.export WHERE id = $1`, id)
	wait(t, "more polls", func() bool { return number(t, s, `SELECT polls FROM ingest.export WHERE id = $1`, id) > polls+2 })
	if got := text.count("takes far longer"); got != 1 {
		t.Errorf("warnings: got %d, want one", got)
	}
	p.mu.Lock()
	p.progress = "60%"
	p.mu.Unlock()
	wait(t, "its progress", func() bool { return number(t, s, `SELECT count(stalled_at) FROM ingest.export WHERE id = $1`, id) == 0 })
}

func TestPOLL9_an_export_that_takes_too_long_is_ended_and_started_once_more(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, func(c *config.Payer) { c.Export.Timeout = 500 * time.Millisecond })
	e := newEngine(t, s, Options{}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	wait(t, "the clean-up", func() bool {
		return number(t, s, `SELECT count(*) FROM ingest.export WHERE cleaned_up_at IS NOT NULL`) == 1
	})
	x, err := s.Export(t.Context(), id)
	if err != nil || x.State != store.StateFailed || x.ErrorCode != "export_timeout" {
		t.Errorf("got %s: %s (%v), want failed: export_timeout", x.State, x.ErrorCode, err)
	}
	kickOffs, deleted := p.seen()
	if len(kickOffs) != 2 || !slices.Equal(deleted, []string{"1", "2"}) {
		t.Errorf("got %d kick-offs and the end of %v; want 2, and the end of each", len(kickOffs), deleted)
	}
	if got := number(t, s, `SELECT count(*) FROM ingest.watermark`); got != 0 {
		t.Error("the watermark moved")
	}
}

func TestCLN1_a_job_that_was_given_up_and_not_ended_is_ended_with_the_export(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	p.onFile = onePatient
	e := newEngine(t, s, Options{}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// What a process leaves that died before the DELETE, and a payer that did not take it then.
	execute(t, s, `UPDATE ingest.export SET old_status_urls = ARRAY[$2] WHERE id = $1`, id, p.url+"/status/lost")
	p.mu.Lock()
	p.refusesDeletes = 1
	p.mu.Unlock()
	work(t, e)
	wait(t, "the clean-up", func() bool {
		return number(t, s, `SELECT count(*) FROM ingest.export WHERE cleaned_up_at IS NOT NULL`) == 1
	})
	if _, deleted := p.seen(); !slices.Contains(deleted, "lost") || !slices.Contains(deleted, "1") {
		t.Errorf("ended at the payer: %v, want the old job and the new", deleted)
	}
}
