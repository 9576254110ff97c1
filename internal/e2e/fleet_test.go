package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/payersim"
)

// fleetPayers are due in the same second.
const fleetPayers = 40

// takeOver is what a surviving instance says when it goes on with a dead one's work.
const takeOver = "taken over from an instance that is gone"

func TestFleet_of_three_loses_its_leader_and_a_loader_and_publishes_everything_once(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	payers := make([]payer, fleetPayers)
	for i := range payers {
		payers[i] = s.payer(fmt.Sprintf("p%02d", i), payersim.Options{
			Patients: 4, Seed: uint64(100 + i), LinesPerFile: 60, Faults: payersim.Faults{BytesPerSecond: 60_000},
		})
	}
	s.configure("workers: {chunk: 64KiB}", payers, `
schedule: "@every 30s"
export: {since: never}
limits: {downloads: 2, poll_min: 200ms, poll_max: 1s}
`)
	leader := s.start("serve")
	s.wait("the leader", func() bool { return s.leader() != "" })
	first := s.leader()
	loader, survivor := s.start("serve"), s.start("serve")
	s.wait("the schedules to be known", func() bool {
		return s.number(`SELECT count(DISTINCT payer) FROM ingest.tick WHERE outcome = 'registered'`) == fleetPayers
	})
	s.wait("all payers to be due in one second", func() bool {
		return s.number(`SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM ingest.export GROUP BY due_at) AS x`) == fleetPayers
	})
	// Instances are told apart by the names that the job engine gives them, which tell when they began.
	s.wait("loads on all three", func() bool { return len(s.loading()) == 3 })
	names := s.loading()

	s.kill(leader)
	killed := time.Now()
	s.wait("loads of the second", func() bool { return s.loads(names[1]) > 0 })
	s.kill(loader)
	orphans := s.loads(names[0]) + s.loads(names[1])
	if orphans == 0 {
		t.Error("the dead instances loaded nothing: it proves nothing")
	}
	s.wait("another leader", func() bool { return s.leader() != first && s.leader() != "" })
	elected := time.Since(killed)
	s.wait("the first take-over", func() bool { return strings.Contains(survivor.log.String(), takeOver) })
	taken := time.Since(killed)
	s.wait("all publishes", func() bool {
		return s.number(`SELECT count(DISTINCT payer) FROM ingest.export WHERE state = 'published'`) == fleetPayers
	})
	t.Logf("after kill -9 of the leader, and of a loader: another leader after %s, the first of their work taken over after %s "+
		"(%d jobs were running), all %d payers published after %s", elected.Round(100*time.Millisecond), taken.Round(100*time.Millisecond),
		orphans, fleetPayers, time.Since(killed).Round(100*time.Millisecond))
	if taken > 45*time.Second {
		t.Errorf("the take-over took %s, want it within 45 s of the leader's end", taken)
	}
	s.stop(survivor)

	for _, p := range payers {
		s.compare(p.name, held(t, p.sim))
	}
	if n := s.number(`SELECT count(*) FROM ingest.export WHERE state IN ('failed', 'held', 'canceled')`); n != 0 {
		t.Errorf("%d exports did not come to a good end:\n%s", n, s.dump())
	}
	if n := s.number(`SELECT count(*) FROM ingest.export WHERE state = 'published' AND lines <> inserted + unchanged`); n != 0 {
		t.Errorf("%d exports staged lines twice:\n%s", n, s.dump())
	}
	s.eachTickOnce(payers)
}

// eachTickOnce wants an export for each tick that started one, no two for one tick, and a kick-off for each export: or one more
// for each of its jobs that was enqueued again, because its process may have ended between the payer's answer and its commit.
func (s *site) eachTickOnce(payers []payer) {
	s.t.Helper()
	var kickOffs int64
	for _, p := range payers {
		kickOffs += p.sim.Stats().KickOffs
	}
	exports := s.number(`SELECT count(*) FROM ingest.export`)
	for _, check := range []struct {
		what string
		got  int64
	}{
		{"distinct ticks of exports", s.number(`SELECT count(*) FROM (SELECT DISTINCT payer, due_at FROM ingest.export) AS x`)},
		{"ticks that started an export", s.number(`SELECT count(*) FROM ingest.tick WHERE outcome = 'started'`)},
	} {
		if check.got != exports {
			s.t.Errorf("%d %s for %d exports, want as many:\n%s", check.got, check.what, exports, s.dump())
		}
	}
	repeated := s.number(`SELECT coalesce(sum(generation), 0) FROM ingest.export`)
	if kickOffs < exports || kickOffs > exports+repeated {
		s.t.Errorf("%d kick-offs for %d exports, of which %d jobs were enqueued again:\n%s", kickOffs, exports, repeated, s.dump())
	}
}

// leader is the name of the instance that leads; empty where none does.
func (s *site) leader() string {
	s.t.Helper()
	var name string
	err := s.db.QueryRow(s.t.Context(), `SELECT coalesce((SELECT leader_id FROM river.river_leader WHERE expires_at > now()), '')`).Scan(&name)
	if err != nil {
		s.t.Fatal(err)
	}
	return name
}

// loading are the names of the instances that load files, in the order in which they began.
func (s *site) loading() []string {
	s.t.Helper()
	rows, err := s.db.Query(s.t.Context(), `SELECT DISTINCT attempted_by[array_length(attempted_by, 1)] FROM river.river_job
		WHERE kind = 'load_file' AND state = 'running' ORDER BY 1`)
	if err != nil {
		s.t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		s.t.Fatal(err)
	}
	return names
}

func (s *site) loads(name string) int64 {
	s.t.Helper()
	return s.number(`SELECT count(*) FROM river.river_job WHERE kind = 'load_file' AND state = 'running'
		AND attempted_by[array_length(attempted_by, 1)] = $1`, name)
}
