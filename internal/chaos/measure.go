package chaos

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// looks is how many times a soak is looked at, at the most; leastLook is the least time between two looks.
	looks     = 300
	leastLook = time.Second
	// missable is the share of looks at an instance that may fail: nothing disturbs it, but the machine may.
	missable = 0.05
)

// The figures of an instance, by the metric that each is read from.
var ofInstance = []struct {
	measure, metric string
	unit            float64
	allowed         allowance
}{
	{"resident memory, MiB", "process_resident_memory_bytes", 1 << 20, allowance{share: 0.10, plus: 4}},
	{"goroutines", "go_goroutines", 1, allowance{share: 0.05, plus: 5}},
	{"open file descriptors", "process_open_fds", 1, allowance{share: 0.05, plus: 5}},
}

// The figures of Postgres. History is not among them: to keep what was before is what it is for.
var ofPostgres = []struct {
	measure, sql string
	allowed      allowance
}{
	{"connections", `SELECT count(*)::float8 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`, allowance{share: 0.05, plus: 3}},
	{"bytes of tables per row", `SELECT coalesce(sum(pg_total_relation_size(relid)) / nullif(sum(n_live_tup), 0), 0)::float8 FROM pg_stat_user_tables
		WHERE schemaname = 'fhir'`, allowance{share: 0.25}},
	{"KiB of control per export", `SELECT (SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables WHERE schemaname IN ('ingest', 'river'))
		/ 1024.0 / greatest((SELECT count(*) FROM ingest.export), 1)::float8`, allowance{share: 0.10}},
}

// walMeasure is the only figure that is a difference: what was written within the last round of exports.
const walMeasure = "WAL, MiB a round"

var walAllowed = allowance{share: 0.30}

// measure looks at the instances and Postgres until the time of the soak is over.
func (w *world) measure(ctx context.Context) ([]Series, error) {
	db, err := pgx.Connect(ctx, w.database.direct)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = db.Close(context.WithoutCancel(ctx)) }()
	m := newMeasurement(w, db)
	defer m.client.CloseIdleConnections()

	begin, every := time.Now(), max(w.options.Duration/looks, leastLook)
	for taken := 1; time.Since(begin) < w.options.Duration; taken++ {
		if err := m.look(ctx, time.Since(begin)); err != nil {
			return nil, err
		}
		if !pause(ctx, time.Until(begin.Add(time.Duration(taken)*every))) {
			return nil, context.Cause(ctx) //nolint:wrapcheck // the caller's own word
		}
	}
	return m.judged()
}

// measurement is a soak's figures while they are gathered.
type measurement struct {
	w      *world
	db     *pgx.Conn
	client *http.Client
	// series are in the order in which they are shown: those of one measure beside each other.
	series []*Series
	looks  int
	wal    []walAt
}

// ofDatabase is whose the figures of Postgres are.
const ofDatabase = "Postgres"

func newMeasurement(w *world, db *pgx.Conn) *measurement {
	m := &measurement{w: w, db: db, client: &http.Client{Timeout: scrapeTimeout}}
	for _, figure := range ofInstance {
		for _, i := range w.instances {
			m.series = append(m.series, &Series{Measure: figure.measure, Of: i.name(), allowance: figure.allowed})
		}
	}
	for _, figure := range ofPostgres {
		m.series = append(m.series, &Series{Measure: figure.measure, Of: ofDatabase, allowance: figure.allowed})
	}
	m.series = append(m.series, &Series{Measure: walMeasure, Of: ofDatabase, allowance: walAllowed})
	return m
}

// walAt is how much WAL there had been written at a time.
type walAt struct {
	at    time.Duration
	bytes float64
}

func (m *measurement) look(ctx context.Context, at time.Duration) error {
	m.looks++
	for _, i := range m.w.instances {
		metrics, err := get(ctx, m.client, "http://"+i.admin+"/metrics")
		if err != nil || !strings.Contains(string(metrics), ofInstance[0].metric) {
			continue // counted by what is missing
		}
		m.w.peak(metrics)
		for _, figure := range ofInstance {
			m.add(figure.measure, i.name(), at, sample(metrics, figure.metric)/figure.unit)
		}
	}
	for _, figure := range ofPostgres {
		var value float64
		if err := m.db.QueryRow(ctx, figure.sql).Scan(&value); err != nil {
			return fmt.Errorf("read the %s of Postgres: %w", figure.measure, err)
		}
		if value > 0 {
			m.add(figure.measure, ofDatabase, at, value)
		}
	}
	var written float64
	if err := m.db.QueryRow(ctx, `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8`).Scan(&written); err != nil {
		return fmt.Errorf("read the WAL's position: %w", err)
	}
	m.wal = append(m.wal, walAt{at, written})
	round := m.w.options.Interval
	if before := slices.IndexFunc(m.wal, func(x walAt) bool { return x.at > at-round }) - 1; before >= 0 {
		from := m.wal[before]
		m.add(walMeasure, ofDatabase, at, (written-from.bytes)/(1<<20)*float64(round)/float64(at-from.at))
	}
	return nil
}

func (m *measurement) add(measure, of string, at time.Duration, value float64) {
	for _, s := range m.series {
		if s.Measure == measure && s.Of == of {
			s.At, s.Values = append(s.At, at.Seconds()), append(s.Values, value)
		}
	}
}

// judged are the series that have values. The error tells of an instance that often did not answer: what it holds is not known.
func (m *measurement) judged() ([]Series, error) {
	var all []Series
	for _, s := range m.series {
		if missed := m.looks - len(s.Values); s.Of != ofDatabase && (missed == m.looks || float64(missed) > max(missable*float64(m.looks), 2)) {
			return nil, fmt.Errorf("%s did not tell its %s in too many of %d looks", s.Of, s.Measure, m.looks)
		}
		if len(s.Values) > 0 {
			s.judge(m.w.options.Duration)
			all = append(all, *s)
		}
	}
	return all, nil
}
