package scheduler

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// lose breaks the connection of a kick-off that the payer has accepted.
func lose(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// busy refuses a kick-off because of running exports.
func busy(w http.ResponseWriter, running string) {
	w.Header().Set("Retry-After", "0")
	if running != "" {
		w.Header().Set("Content-Location", running)
	}
	w.WriteHeader(http.StatusTooManyRequests)
}

// onePatient is the file of a payer with one Patient.
func onePatient(w http.ResponseWriter) { fmt.Fprint(w, patients(1)[0]) }

func TestKICK7_an_export_whose_acceptance_was_lost_is_gone_on_with(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		request    string // of the manifest, behind the base
		kickOffs   int
		watermarks int
		lose       func(http.ResponseWriter)
	}{
		"and known to be ours":      {"/fhir/$export", 2, 1, lose},
		"by a gateway":              {"/fhir/$export", 2, 1, func(w http.ResponseWriter) { w.WriteHeader(http.StatusGatewayTimeout) }},
		"of which nobody says what": {"", 2, 0, lose},
		"unless it is another one":  {"/fhir/Patient/$export?_type=Coverage", 3, 1, lose},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			p := newPayer(t, nil)
			ours := p.request
			if p.request = ""; test.request != "" {
				p.request = p.url + test.request
			}
			p.onFile = onePatient
			p.onKickOff = func(w http.ResponseWriter, n int) bool {
				switch n {
				case 1:
					test.lose(w)
				case 2:
					busy(w, p.url+"/status/1, https://elsewhere.example/status/1")
				default: // the other one has ended; this one is ours
					p.mu.Lock()
					p.request = ours
					p.mu.Unlock()
					return true
				}
				return false
			}
			e := newEngine(t, s, Options{}, p)
			id, err := e.Start(t.Context(), "p", RunOptions{})
			if err != nil {
				t.Fatal(err)
			}
			stop := work(t, e)
			wait(t, "the clean-up", func() bool {
				return number(t, s, `SELECT count(*) FROM ingest.export WHERE state = 'published' AND cleaned_up_at IS NOT NULL`) == 1
			})
			stop()
			kickOffs, deleted := p.seen()
			if len(kickOffs) != test.kickOffs {
				t.Errorf("kick-offs: got %d, want %d", len(kickOffs), test.kickOffs)
			}
			want := []string{"1"}
			if test.kickOffs == 3 {
				want = []string{"3"} // not the one that was somebody else's
			}
			if !slices.Equal(deleted, want) {
				t.Errorf("ended at the payer: got %v, want %v", deleted, want)
			}
			if got := number(t, s, `SELECT count(*) FROM fhir.patient WHERE export_id = $1`, id); got != 1 {
				t.Errorf("patients: got %d, want 1", got)
			}
			if got := number(t, s, `SELECT count(*) FROM ingest.watermark`); got != test.watermarks {
				t.Errorf("watermarks: got %d, want %d", got, test.watermarks)
			}
		})
	}
}

func TestKICK7_a_kick_off_whose_process_died_counts_as_lost(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	p.onFile = onePatient
	p.onKickOff = func(w http.ResponseWriter, _ int) bool {
		busy(w, p.url+"/status/7")
		return false
	}
	e := newEngine(t, s, Options{}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// What a process leaves behind that is killed between the payer's answer and its own commit.
	if inDoubt, err := s.BeginKickOff(t.Context(), id, 0, nil); err != nil || inDoubt {
		t.Fatalf("BeginKickOff: %t, %v", inDoubt, err)
	}
	work(t, e)
	wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	if kickOffs, _ := p.seen(); len(kickOffs) != 1 {
		t.Errorf("kick-offs: got %d, want 1", len(kickOffs))
	}
}

func TestKICK8_a_running_export_that_nobody_here_started_is_waited_for(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	p.onFile = onePatient
	p.onKickOff = func(w http.ResponseWriter, n int) bool {
		if n <= 2 {
			busy(w, p.url+"/status/of-somebody-else")
		}
		return n > 2
	}
	e := newEngine(t, s, Options{}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	wait(t, "the clean-up", func() bool { _, deleted := p.seen(); return len(deleted) > 0 })
	if kickOffs, deleted := p.seen(); len(kickOffs) != 3 || !slices.Equal(deleted, []string{"3"}) {
		t.Errorf("got %d kick-offs and the end of %v, want 3 and the end of our own alone", len(kickOffs), deleted)
	}
}

func TestCLN2_an_old_export_of_ours_that_blocks_the_next_is_ended(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	p.onFile = onePatient
	p.onKickOff = func(w http.ResponseWriter, n int) bool {
		_, deleted := p.seen()
		if n > 1 && !slices.Contains(deleted, "1") {
			busy(w, p.url+"/status/1")
			return false
		}
		return true
	}
	e := newEngine(t, s, Options{}, p)
	first, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stop := work(t, e)
	wait(t, "the clean-up", func() bool {
		return number(t, s, `SELECT count(*) FROM ingest.export WHERE cleaned_up_at IS NOT NULL`) == 1
	})
	stop()
	p.mu.Lock()
	p.deleted = nil // the payer forgot the DELETE
	p.mu.Unlock()

	e = newEngine(t, s, Options{}, p)
	second, err := e.Start(t.Context(), "p", RunOptions{Full: true})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	wait(t, "the second publish", func() bool { return state(t, s, second) == store.StatePublished })
	if _, deleted := p.seen(); deleted[0] != "1" {
		t.Errorf("ended at the payer: %v, want export %d's job first", deleted, first)
	}
}

func TestKICK6_the_job_of_an_export_that_is_over_is_not_loaded_again(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, func(c *config.Payer) { c.Limits.PollMax = 200 * time.Millisecond })
	p.onFile = onePatient
	p.onKickOff = func(w http.ResponseWriter, n int) bool {
		if n == 2 { // a cache answers
			w.Header().Set("Content-Location", p.url+"/status/1")
			w.WriteHeader(http.StatusAccepted)
			return false
		}
		return true
	}
	for n := 1; n <= 2; n++ {
		e := newEngine(t, s, Options{}, p)
		id, err := e.Start(t.Context(), "p", RunOptions{Full: true})
		if err != nil {
			t.Fatal(err)
		}
		stop := work(t, e)
		wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
		stop()
	}
	kickOffs, _ := p.seen()
	if got := number(t, s, `SELECT count(DISTINCT status_url) FROM ingest.export`); got != 2 || len(kickOffs) != 3 {
		t.Errorf("got %d jobs for two exports, and %d kick-offs; want 2 and 3", got, len(kickOffs))
	}
}
