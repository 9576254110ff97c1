package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ingestd/internal/payersim"
	"ingestd/internal/testpg"
)

// pooledSessions are fewer than two instances use at once, so that they change hands.
const pooledSessions = 5

func TestPooler_by_transactions_carries_two_instances_through_ticks_a_death_a_cancel_and_a_reload(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	bouncer := testpg.NewBouncer(t, pooledSessions)
	s.pooled = bouncer.URL(s.url)
	payers := make([]payer, 6)
	for i := range payers {
		payers[i] = s.payer(fmt.Sprintf("p%d", i), payersim.Options{
			Patients: 4, Seed: uint64(300 + i), LinesPerFile: 60, Faults: payersim.Faults{BytesPerSecond: 60_000},
		})
	}
	added := s.payer("added", payersim.Options{Patients: 3, Seed: 310})
	slow := s.payer("slow", payersim.Options{Patients: 3, Seed: 311, LinesPerFile: 60, Faults: payersim.Faults{BytesPerSecond: 2000}})
	const extra = "schedule: \"@every 20s\"\nexport: {since: never}\nlimits: {downloads: 2, poll_min: 200ms, poll_max: 1s}"
	s.configure("workers: {chunk: 64KiB}", payers, extra)
	first := s.start("serve")
	s.wait("the first instance", func() bool { return s.leader() != "" })
	second := s.start("serve")
	s.wait("loads on both", func() bool { return len(s.loading()) == 2 })
	s.kill(first)
	s.wait("the work of the dead one to be taken over, or nothing of it to be left", func() bool {
		return strings.Contains(second.log.String(), takeOver) ||
			s.number(`SELECT count(DISTINCT payer) FROM ingest.export WHERE state = 'published'`) == int64(len(payers))
	})
	third := s.start("serve")
	s.wait("all publishes", func() bool {
		return s.number(`SELECT count(DISTINCT payer) FROM ingest.export WHERE state = 'published'`) == int64(len(payers))
	})
	published := s.number(`SELECT count(*) FROM ingest.export WHERE state = 'published'`)
	s.wait("exports of another tick", func() bool {
		return s.number(`SELECT count(*) FROM ingest.export WHERE state = 'published'`) > published
	})

	s.configure("workers: {chunk: 64KiB}", slices.Concat(payers, []payer{added, slow}), extra)
	for _, d := range []*process{second, third} {
		s.hangUp(d, exchanged, 1)
	}
	if out, err := s.run("run", "added", "--detach"); err != nil && s.published("added") == 0 {
		t.Logf("a tick was faster than the run by hand: %s, %v", out, err)
	}
	s.wait("a publish of the payer that was added", func() bool { return s.published("added") >= 1 })
	s.wait("the slow export to be loading", func() bool {
		return s.number(`SELECT count(*) FROM ingest.export WHERE payer = 'slow' AND state = 'loading'`) == 1
	})
	id := s.number(`SELECT id FROM ingest.export WHERE payer = 'slow' AND state = 'loading'`)
	if out, err := s.run("exports", "cancel", decimal(id)); err != nil {
		t.Errorf("cancel: %s, %v", out, err)
	}
	s.wait("its clean-up", func() bool {
		return s.number(`SELECT count(*) FROM ingest.export WHERE id = $1 AND state = 'canceled' AND cleaned_up_at IS NOT NULL`, id) == 1
	})
	for _, args := range [][]string{{"status"}, {"exports", "list"}, {"exports", "show", decimal(id)}, {"instances", "list"}, {"audit", "list"}, {"migrate", "status"}} {
		if out, err := s.run(args...); err != nil || out == "" {
			t.Errorf("%s: got %q, %v", strings.Join(args, " "), out, err)
		}
	}
	s.stop(second)
	s.stop(third)
	for _, p := range slices.Concat(payers, []payer{added}) {
		s.compare(p.name, held(t, p.sim))
	}
	if n := s.number(`SELECT count(*) FROM ingest.export WHERE state IN ('failed', 'held')`); n != 0 {
		t.Errorf("%d exports did not come to a good end:\n%s", n, s.dump())
	}
	for _, d := range []*process{first, second, third} {
		for _, sign := range []string{"prepared statement", "SQLSTATE", "cached plan"} {
			if strings.Contains(d.log.String(), sign) {
				t.Errorf("the log tells of a %q", sign)
			}
		}
	}
	n := bouncer.Transactions(t, s.url)
	t.Logf("%d transactions went through the pooler, over %d sessions", n, pooledSessions)
	if n < 200 {
		t.Errorf("%d transactions went through the pooler: the control connections do not", n)
	}
}

func TestServe_says_that_a_pooler_by_transactions_needs_a_direct_connection_beside_it(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	direct := s.url
	s.url = testpg.NewBouncer(t, pooledSessions).URL(direct)
	s.configure("", nil, "")
	for _, args := range [][]string{{"serve"}, {"serve", "--skip-migrations"}, {"status"}, {"migrate", "up"}} {
		_, err := s.run(args...)
		if err == nil || !strings.Contains(err.Error(), "database.url: it leads to a connection pooler") || !strings.Contains(err.Error(), "set database.direct_url") {
			t.Errorf("%s: got %v", strings.Join(args, " "), err)
		}
	}
}
