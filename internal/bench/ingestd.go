package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/fhir"
)

// warmUp is the payer whose export comes before all that is measured: its tables are what psql's are like.
const warmUp = "warm"

func tableOf(resourceType string) string {
	table, _ := fhir.TableName(resourceType) // an unknown type has none, and no such file is made
	return table
}

// writeConfig writes a configuration in which one payer stands under many names at one of the payer's addresses.
func (b *bench) writeConfig(variant string, names []string, downloads int) (string, error) {
	var text strings.Builder
	fmt.Fprintf(&text, "database: {url: %q, max_connections: %d}\nadmin: {listen: \"127.0.0.1:0\"}\nlog: {level: error}\n",
		b.database.URL(), 2*downloads+4)
	fmt.Fprintf(&text, "keys: [{id: %q, private_key: %q}]\npayers:\n", b.key.ID(), "file:"+b.keyFile)
	for _, name := range names {
		fmt.Fprintf(&text, `  - name: %s
    fhir_url: %s
    auth: {client_id: %s}
    export: {level: system}
    limits: {downloads: %d, max_line: 65MiB, poll_min: 100ms, poll_max: 1s}
`, name, b.payer.urls[variant], clientID, downloads)
	}
	path := filepath.Join(b.options.Dir, variant+".yaml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return "", fmt.Errorf("write a configuration: %w", err)
	}
	return path, nil
}

// expectation is what a run must have done, or its time counts for nothing.
type expectation struct{ lines, inserted, updated int64 }

// ingest measures `ingestd run` of a payer, full, from the start of the process to its end.
func (b *bench) ingest(ctx context.Context, config, payer string, want expectation) (Usage, error) {
	return b.watch(ctx, func() (Usage, error) {
		//nolint:gosec // the program that is measured
		command := exec.CommandContext(ctx, b.options.Ingestd, "run", payer, "--full", "--config", config, "--output", "json")
		var out bytes.Buffer
		command.Stdout = &out
		usage, err := measure(ctx, command)
		if err != nil {
			return usage, err
		}
		var result struct {
			State       string `json:"state"`
			Lines       int64  `json:"lines"`
			Inserted    int64  `json:"inserted"`
			Updated     int64  `json:"updated"`
			Quarantined int64  `json:"quarantined"`
		}
		if err := json.Unmarshal([]byte(lastLines(out.String(), 1)), &result); err != nil {
			return usage, fmt.Errorf("read the result of ingestd run: %w", err)
		}
		got := expectation{result.Lines, result.Inserted, result.Updated}
		if result.State != "published" || got != want || result.Quarantined != 0 {
			return usage, fmt.Errorf("payer %s: the export is %s with %+v, %d lines in quarantine; want %+v",
				payer, result.State, got, result.Quarantined, want)
		}
		return usage, nil
	})
}

// forget drops a payer's partitions, to give the disk back.
func (b *bench) forget(ctx context.Context, payer string) error {
	for _, table := range b.base.tables {
		if _, err := b.db.Exec(ctx, "DROP TABLE fhir."+pgx.Identifier{table + "__" + payer}.Sanitize()); err != nil {
			return fmt.Errorf("forget payer %s: %w", payer, err)
		}
	}
	return nil
}

// watch adds to what a contender took what the payer and Postgres took meanwhile, and how long a reader had to wait.
func (b *bench) watch(ctx context.Context, run func() (Usage, error)) (Usage, error) {
	for _, sql := range []string{`VACUUM`, `CHECKPOINT`} { // what the one before left behind
		if _, err := b.db.Exec(ctx, sql); err != nil {
			return Usage{}, fmt.Errorf("clear up before the next: %w", err)
		}
	}
	wal, payer, postgres, err := b.counters(ctx)
	if err != nil {
		return Usage{}, err
	}
	stop := make(chan struct{})
	waited := make(chan float64, 1)
	go func() { waited <- b.read(ctx, stop) }()
	usage, err := run()
	close(stop)
	usage.ReaderWait = <-waited
	walAfter, payerAfter, postgresAfter, countErr := b.counters(ctx)
	usage.WALBytes, usage.PayerCPU, usage.PostgresCPU = walAfter-wal, payerAfter-payer, postgresAfter-postgres
	return usage, errors.Join(err, countErr)
}

func (b *bench) counters(ctx context.Context) (wal int64, payer, postgres float64, err error) {
	if err := b.db.QueryRow(ctx, `SELECT pg_current_wal_lsn() - '0/0'`).Scan(&wal); err != nil {
		return 0, 0, 0, fmt.Errorf("read the position in the WAL: %w", err)
	}
	payer, err1 := cpuOf(b.payer.command.Process.Pid)
	postgres, err2 := cpuOf(b.postmaster)
	return wal, payer, postgres, errors.Join(err1, err2)
}

// read is somebody who reads the published data all the time; it returns the longest wait in seconds.
func (b *bench) read(ctx context.Context, stop <-chan struct{}) float64 {
	var longest time.Duration
	for {
		select {
		case <-stop:
			return longest.Seconds()
		case <-time.After(2 * time.Millisecond):
		}
		start := time.Now()
		var n int
		if b.reader.QueryRow(ctx, `SELECT count(*) FROM (SELECT FROM fhir.patient WHERE payer = $1 LIMIT 10) AS p`, warmUp).Scan(&n) != nil {
			return longest.Seconds() // there is no table yet
		}
		longest = max(longest, time.Since(start))
	}
}
