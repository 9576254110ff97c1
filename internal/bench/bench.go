package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/smartauth"
	"ingestd/internal/store/embedded"
)

// Options say what is measured.
type Options struct {
	// Ingestd is the binary that is measured, Program the one that this code runs in, which also serves the payer.
	Ingestd, Program string
	// Dir holds data and database; it must not hold anything else.
	Dir string
	// Size is about how many bytes of NDJSON are loaded.
	Size int64
	// Rounds is how many alternations there are.
	Rounds int
	// Connections is how many files are loaded at once, and how many psql copy.
	Connections int
	// LinesPerFile splits the payer's output; 10,000 if 0.
	LinesPerFile int
	// Rivals measures the script too.
	Rivals bool
	// ScaleUnit is the size in bytes of the smallest of three sizes that are loaded once each, ×1, ×4 and ×16; 0: they are not.
	ScaleUnit int64
	// Rows is how many small rows one of the loads of the scale has, LongLine how many bytes the lines of another.
	Rows, LongLine int
	// Progress is told what is being measured.
	Progress io.Writer
}

// bench is what the contenders share.
type bench struct {
	options       Options
	base, changed dataset
	key           *smartauth.Key
	keyFile       string
	jwksFile      string
	payer         *payerProcess
	databaseDir   string
	database      *embedded.Server
	postmaster    int
	db, reader    *pgx.Conn
}

// Round is what one alternation took.
type Round struct {
	PSQL      Usage `json:"psql"`
	Plain     Usage `json:"ingestd_plain"`
	Gzip      Usage `json:"ingestd_gzip"`
	Unchanged Usage `json:"ingestd_unchanged"`
	Changed   Usage `json:"ingestd_changed"` // one line of a hundred
	Script    Usage `json:"script"`
}

// Result is what a run measured.
type Result struct {
	Bytes       int64   `json:"bytes"`
	Lines       int64   `json:"lines"`
	Connections int     `json:"connections"`
	Rounds      []Round `json:"rounds"`
	Scale       []Point `json:"scale"`
}

// Run measures all contenders, round by round.
func Run(ctx context.Context, o Options) (result Result, err error) {
	b, err := set(ctx, o)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, b.close(context.WithoutCancel(ctx))) }()
	result = Result{Bytes: b.base.bytes, Lines: b.base.lines, Connections: o.Connections}
	names := []string{warmUp}
	for n := range o.Rounds {
		names = append(names, fmt.Sprintf("plain%d", n), fmt.Sprintf("gzip%d", n))
	}
	configs := map[string]string{}
	for _, variant := range []string{"plain", "gzip", "changed"} {
		if configs[variant], err = b.writeConfig(variant, names, o.Connections); err != nil {
			return result, err
		}
	}
	first := expectation{lines: b.base.lines, inserted: b.base.lines}
	// The payer compresses each file once: that is done here, and not while somebody is measured.
	if _, err := b.ingest(ctx, configs["gzip"], warmUp, first); err != nil {
		return result, err
	}
	if _, err := b.ingest(ctx, configs["changed"], warmUp, expectation{lines: b.base.lines, updated: b.changed.changed}); err != nil {
		return result, err
	}
	for n := range o.Rounds {
		plain, gzip := names[1+2*n], names[2+2*n]
		var r Round
		for _, step := range []struct {
			name  string
			usage *Usage
			run   func() (Usage, error)
		}{
			{"psql \\copy of ready rows", &r.PSQL, func() (Usage, error) { return b.copyReady(ctx) }},
			{"ingestd, plain", &r.Plain, func() (Usage, error) { return b.ingest(ctx, configs["plain"], plain, first) }},
			{"ingestd, gzip", &r.Gzip, func() (Usage, error) { return b.ingest(ctx, configs["gzip"], gzip, first) }},
			{"ingestd, nothing changed", &r.Unchanged, func() (Usage, error) {
				return b.ingest(ctx, configs["gzip"], gzip, expectation{lines: b.base.lines})
			}},
			{"ingestd, 1 % changed", &r.Changed, func() (Usage, error) {
				return b.ingest(ctx, configs["changed"], gzip, expectation{lines: b.base.lines, updated: b.changed.changed})
			}},
			{"curl, jq, psql", &r.Script, func() (Usage, error) {
				if !o.Rivals {
					return Usage{}, nil
				}
				return b.runScript(ctx)
			}},
		} {
			if *step.usage, err = step.run(); err != nil {
				return result, fmt.Errorf("round %d, %s: %w", n+1, step.name, err)
			}
			fmt.Fprintf(o.Progress, "round %d  %-26s %7.2f s  %6.1f MB/s  %5.1f s CPU  %4.0f MiB\n", n+1, step.name, step.usage.Seconds,
				float64(b.base.bytes)/1e6/step.usage.Seconds, step.usage.CPUSeconds, step.usage.PeakRSSMiB)
		}
		result.Rounds = append(result.Rounds, r)
		if err := errors.Join(b.forget(ctx, plain), b.forget(ctx, gzip)); err != nil {
			return result, err
		}
	}
	if o.ScaleUnit > 0 {
		result.Scale, err = b.scale(ctx)
	}
	return result, err
}

// set makes the data, and starts Postgres and the payer.
func set(ctx context.Context, o Options) (b *bench, err error) {
	if o.LinesPerFile == 0 {
		o.LinesPerFile = 10_000
	}
	b = &bench{options: o, keyFile: filepath.Join(o.Dir, "key.pem"), databaseDir: filepath.Join(o.Dir, "postgres")}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close(context.WithoutCancel(ctx)))
		}
	}()
	if b.base, b.changed, err = generate(ctx, o.Dir, o.Size, o.Connections); err != nil {
		return b, err
	}
	if b.key, err = smartauth.GenerateKey("ES384", ""); err != nil {
		return b, fmt.Errorf("make a key: %w", err)
	}
	if err := smartauth.WriteKeyFile(b.keyFile, b.key); err != nil {
		return b, fmt.Errorf("write the key: %w", err)
	}
	jwks, err := smartauth.NewJWKS(b.key)
	if err != nil {
		return b, fmt.Errorf("write the key set: %w", err)
	}
	b.jwksFile = filepath.Join(o.Dir, "jwks.json")
	if err := os.WriteFile(b.jwksFile, jwks, 0o600); err != nil {
		return b, fmt.Errorf("write the key set: %w", err)
	}
	b.payer, err = startPayer(ctx, o.Program, PayerOptions{
		Base: b.base.dir, Changed: b.changed.dir, JWKS: b.jwksFile, LinesPerFile: o.LinesPerFile,
	})
	if err != nil {
		return b, err
	}
	return b, b.startDatabase(ctx)
}

func (b *bench) startDatabase(ctx context.Context) (err error) {
	if b.database, err = embedded.Start(ctx, embedded.Options{
		Dir: b.databaseDir,
		// One contender's tables would be vacuumed while the next is measured: watch does it between them.
		Settings: map[string]string{"autovacuum": "off"},
	}); err != nil {
		return fmt.Errorf("start Postgres: %w", err)
	}
	for _, conn := range []**pgx.Conn{&b.db, &b.reader} {
		if *conn, err = pgx.Connect(ctx, b.database.URL()); err != nil {
			return fmt.Errorf("connect to Postgres: %w", err)
		}
	}
	var backend int
	if err := b.db.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
		return fmt.Errorf("ask Postgres for its process: %w", err)
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(backend) + "/stat")
	if err != nil {
		return fmt.Errorf("find the postmaster: %w", err)
	}
	_, b.postmaster, _, err = parseStat(text)
	return err
}

// close ends what set started.
func (b *bench) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var errs []error
	for _, conn := range []*pgx.Conn{b.db, b.reader} {
		if conn != nil {
			errs = append(errs, conn.Close(ctx))
		}
	}
	if b.database != nil {
		errs = append(errs, b.database.Stop(ctx))
	}
	if b.payer != nil {
		errs = append(errs, b.payer.stop())
	}
	return errors.Join(errs...)
}
