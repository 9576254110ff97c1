package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// rage lets everything of the plan happen, in its order and at its times, and returns when the last has passed. One instance or payer has one
// trouble at a time; what comes for one that still has another waits for it.
func (w *world) rage(ctx context.Context, plan []event) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	begin := time.Now()
	var troubles sync.WaitGroup
	busy := make(map[string]*sync.Mutex)
	for _, e := range plan {
		if !pause(ctx, time.Until(begin.Add(e.at))) {
			break
		}
		victim := e.victim()
		if busy[victim] == nil {
			busy[victim] = &sync.Mutex{}
		}
		turn := busy[victim]
		troubles.Go(func() {
			turn.Lock()
			defer turn.Unlock()
			if err := w.happen(ctx, e); err != nil {
				cancel(fmt.Errorf("%s: %w", e, err))
			}
		})
	}
	troubles.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("it was broken off: %w", context.Cause(ctx))
	}
	return nil
}

// victim names what an event befalls.
func (e event) victim() string {
	switch e.kind {
	case killInstance, stopInstance, stopTwice, freezeInstance, reloadInstance, reloadBroken:
		return "instance " + strconv.Itoa(e.target)
	case payerMisbehaves, payerGone:
		return "payer " + strconv.Itoa(e.target)
	case revokeTokens, cancelExport, pausePayer, runPayer:
		return "operator " + strconv.Itoa(e.target)
	case killBackend, crashPostgres, cutConnections, stallNetwork, lockTables:
	}
	return "database"
}

// happen lets one event happen, to its end.
func (w *world) happen(ctx context.Context, e event) error {
	if w.options.Verbose {
		w.say("%s", e)
	}
	w.count(string(e.kind))
	r := rand.New(rand.NewPCG(e.seed, 2)) //nolint:gosec // a simulation, to be repeated by its seed
	switch e.kind {
	case killInstance, stopInstance, stopTwice, freezeInstance, reloadInstance, reloadBroken:
		return w.befall(ctx, e, w.instances[e.target])
	case payerMisbehaves:
		p := w.payers[e.target]
		faults, names := misbehave(r, w.abroad.url)
		for _, name := range names {
			w.count("payer: " + name)
		}
		if err := p.sim.SetFaults(faults); err != nil {
			return err
		}
		pause(ctx, 3*e.lasts)
		return p.sim.SetFaults(calm())
	case payerGone:
		w.payers[e.target].gone.Store(true)
		pause(ctx, e.lasts)
		w.payers[e.target].gone.Store(false)
	case revokeTokens:
		w.payers[e.target].sim.RevokeTokens()
	case cancelExport, pausePayer, runPayer:
		w.act(ctx, e)
	case cutConnections:
		w.database.front.cut()
	case stallNetwork:
		w.database.front.stall(ctx, e.lasts)
	case crashPostgres:
		if err := w.database.crash(ctx); err != nil {
			return err
		}
		pause(ctx, e.lasts/4)
		return w.database.start(ctx)
	case killBackend:
		return w.query(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
			ORDER BY query LIKE 'COPY%' AND state = 'active' DESC, md5(pid::text || $1) LIMIT 2`, strconv.FormatUint(e.seed, 10))
	case lockTables:
		return w.lock(ctx, e)
	}
	return nil
}

// befall is what happens to an instance. Afterwards it runs.
func (w *world) befall(ctx context.Context, e event, i *instance) error {
	switch e.kind {
	case killInstance:
		if err := i.end(ctx, syscall.SIGKILL); err != nil {
			return err
		}
	case stopInstance, stopTwice:
		i.expectEnd()
		if err := i.signal(syscall.SIGTERM); err != nil {
			return err
		}
		if e.kind == stopTwice {
			pause(ctx, e.lasts/20)
		}
		if err := i.end(ctx, syscall.SIGTERM); err != nil { // where it has not heard the first, or is slow
			return err
		}
	case freezeInstance:
		if err := i.signal(syscall.SIGSTOP); err != nil {
			return err
		}
		pause(ctx, e.lasts)
		return i.signal(syscall.SIGCONT)
	case reloadInstance:
		if err := w.configure(i, e.seed); err != nil {
			return err
		}
		return i.signal(syscall.SIGHUP)
	case reloadBroken:
		good, err := os.ReadFile(i.config)
		if err != nil {
			return fmt.Errorf("read a configuration: %w", err)
		}
		if err := os.WriteFile(i.config, []byte(strings.Replace(string(good), "schedule:", "shedule:", 1)), 0o600); err != nil {
			return fmt.Errorf("write a configuration: %w", err)
		}
		if err := i.signal(syscall.SIGHUP); err != nil {
			return err
		}
		pause(ctx, 2*time.Second) // it reads the file meanwhile
		return w.configure(i, 0)
	default:
		return fmt.Errorf("no instance can have: %s", e.kind)
	}
	pause(ctx, e.lasts/3)
	return i.start(ctx)
}

// act is what an operator does. It may be refused: no export may run, or one may already.
func (w *world) act(ctx context.Context, e event) {
	name := w.payers[e.target].name
	var err error
	switch e.kind {
	case cancelExport:
		var id int64
		if id, err = w.number(ctx, `SELECT coalesce(max(id), 0) FROM ingest.export WHERE payer = $1`, name); err == nil {
			_, err = w.operate(ctx, "exports", "cancel", strconv.FormatInt(id, 10))
		}
	case pausePayer:
		if _, err = w.operate(ctx, "pause", name); err == nil {
			pause(ctx, e.lasts)
			_, err = w.operate(ctx, "resume", name)
		}
	default:
		_, err = w.operate(ctx, "run", name, "--full", "--detach")
	}
	if err != nil {
		w.count(string(e.kind) + ": refused")
	}
}

// lock is a session of somebody else that reads a table for long, or locks it.
func (w *world) lock(ctx context.Context, e event) error {
	conn, err := pgx.Connect(ctx, w.database.direct)
	if err != nil {
		return nil // Postgres may be down: then nobody locks anything
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	mode := []string{"ACCESS SHARE", "ROW EXCLUSIVE", "SHARE", "ACCESS EXCLUSIVE"}[e.seed%4]
	for _, sql := range []string{
		"BEGIN", "SET LOCAL lock_timeout = '2s'", "LOCK TABLE fhir.patient IN " + mode + " MODE",
		"SELECT pg_sleep(" + strconv.FormatFloat(e.lasts.Seconds(), 'f', 1, 64) + ")", "COMMIT",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			w.count(string(e.kind) + ": refused")
			return nil // the table may not be there yet, or this session is killed as others are
		}
	}
	return nil
}

// query runs a statement past the front; that Postgres is down is no failure.
func (w *world) query(ctx context.Context, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, w.database.direct)
	if err != nil {
		return nil // Postgres may be down
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// number runs a query past the front that yields one number.
func (w *world) number(ctx context.Context, sql string, args ...any) (int64, error) {
	conn, err := pgx.Connect(ctx, w.database.direct)
	if err != nil {
		return 0, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var n int64
	if err := conn.QueryRow(ctx, sql, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("%s: %w", sql, err)
	}
	return n, nil
}
