package demo

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/verify"
)

// DifferenceError says that the tables do not hold what the payers hold.
type DifferenceError struct{ Differences []string }

func (e *DifferenceError) Error() string {
	return "the tables differ from what the payers hold:\n  " + strings.Join(e.Differences, "\n  ")
}

// check compares a payer's rows with what it held at the export that is published, and returns how many are right, by type.
// It reads in one snapshot: the schedule goes on meanwhile, and the next export may be published at any moment.
func (d *demo) check(ctx context.Context, p *payer) (map[string]int, error) {
	tx, err := d.store.Pool().BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("begin to verify: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it only reads
	var exports int
	err = tx.QueryRow(ctx, `SELECT count(*) FROM ingest.export WHERE payer = $1 AND state = 'published'`, p.name).Scan(&exports)
	if err != nil {
		return nil, fmt.Errorf("count the exports of %s: %w", p.name, err)
	}
	want, err := p.held(ctx, exports)
	if err != nil {
		return nil, err
	}
	right, wrong, err := verify.Payer(ctx, tx, d.store.Schema(), p.name, want)
	if err != nil {
		return nil, err
	}
	if len(wrong) > 0 {
		return nil, &DifferenceError{wrong}
	}
	return right, nil
}

// reportFirst prints the first round.
func (d *demo) reportFirst(ctx context.Context, exports map[string]verified) error {
	w := tabwriter.NewWriter(d.Out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\npayer\ttype\trows\tMB\tMB/s\tfreshness\tverified\t")
	for _, p := range d.payers {
		x := exports[p.name]
		ledgers, err := d.store.TypeLedgers(ctx, x.ID)
		if err != nil {
			return err
		}
		loading := max(x.FinishedAt.Sub(x.ManifestAt).Seconds(), 0.001)
		freshness := time.Since(x.TransactionAt).Round(time.Second)
		for _, t := range ledgers {
			fmt.Fprintf(w, "%s\t%s\t%d\t%.1f\t\t\t%d\t\n", p.name, t.ResourceType, t.Inserted, float64(t.Bytes)/1e6, x.right[t.ResourceType])
		}
		fmt.Fprintf(w, "%s\tall\t%d\t%.1f\t%.1f\t%s\t%d\t\n", p.name, x.Inserted, float64(x.Bytes)/1e6, float64(x.Bytes)/1e6/loading,
			freshness, total(x.right))
	}
	return w.Flush()
}

// reportSecond prints the second round, and compares its counts with what changed at the payer.
func (d *demo) reportSecond(ctx context.Context, exports map[string]verified) error {
	w := tabwriter.NewWriter(d.Out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\npayer\ttype\tinserted\tupdated\tdeleted\trows now\tverified\t")
	for _, p := range d.payers {
		x := exports[p.name]
		ledgers, err := d.store.TypeLedgers(ctx, x.ID)
		if err != nil {
			return err
		}
		if _, err := p.held(ctx, 2); err != nil {
			return err
		}
		changes := verify.Differences(p.rounds[0], p.rounds[1])
		counted := make(map[string]bool)
		for _, t := range ledgers {
			counted[t.ResourceType] = true
			got := verify.Change{Inserted: t.Inserted, Updated: t.Updated, Deleted: t.Deleted}
			if want := changes[t.ResourceType]; got != want {
				return &DifferenceError{[]string{fmt.Sprintf("%s %s: the export changed %+v, at the payer changed %+v", p.name, t.ResourceType, got, want)}}
			}
			if got != (verify.Change{}) {
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t\n", p.name, t.ResourceType, t.Inserted, t.Updated, t.Deleted,
					len(p.rounds[1][t.ResourceType]), x.right[t.ResourceType])
			}
		}
		for resourceType, want := range changes {
			if want != (verify.Change{}) && !counted[resourceType] {
				return &DifferenceError{[]string{fmt.Sprintf("%s %s: the export does not count what changed at the payer, %+v", p.name, resourceType, want)}}
			}
		}
		fmt.Fprintf(w, "%s\tall\t%d\t%d\t%d\t%d\t%d\t\n", p.name, x.Inserted, x.Updated, x.Deleted, p.rounds[1].Size(), total(x.right))
	}
	return w.Flush()
}

// reportTokens says what authorization went through meanwhile.
func (d *demo) reportTokens() {
	d.say("")
	for _, p := range d.payers {
		stats := p.sim.Stats()
		d.say("payer %s: tokens %d, requests refused for want of a live one %d, status requests %d, downloads %d, failed on purpose %d",
			p.name, stats.TokensIssued, stats.Unauthorized, stats.Polls, stats.Files, stats.Faults)
	}
}

func total(counts map[string]int) int {
	n := 0
	for _, count := range counts {
		n += count
	}
	return n
}
