package scheduler

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// RunOptions say how an export that is started by hand differs from one that the schedule starts.
type RunOptions struct {
	// Full asks for all data, whatever the watermark says.
	Full bool
	// Since asks for what changed since then; zero leaves it to the watermark.
	Since time.Time
	// By is who starts it.
	By store.Actor
}

// UnknownPayerError says that the configuration has no payer of that name.
type UnknownPayerError struct{ Name string }

func (e *UnknownPayerError) Error() string {
	return fmt.Sprintf("payer %q is not in the configuration", e.Name)
}

// Start records an export of a payer and enqueues its kick-off, in one transaction; it returns the export's number. A
// blackout of the payer does not keep it; where as many exports run as may, it waits for its turn. The errors are a *UnknownPayerError, store.ErrExportRunning, or a failure of Postgres.
func (e *Engine) Start(ctx context.Context, payer string, o RunOptions) (int64, error) {
	p, ok := e.roster.payer(payer)
	if !ok {
		return 0, &UnknownPayerError{payer}
	}
	request, err := e.newExport(ctx, p.Config, o)
	if err != nil {
		return 0, err
	}
	request.Trigger, request.Queue = store.TriggerManual, e.options.Queue
	var id int64
	err = e.store.InTx(ctx, func(tx pgx.Tx) (err error) {
		if id, err = e.beginTx(ctx, tx, request); err != nil {
			return err
		}
		return e.store.AuditTx(ctx, tx, o.By, store.ActionRun, store.ExportObject(id), map[string]any{
			"payer": payer, "kind": request.Kind, "since": request.Since, "foreground": request.Queue != "",
		})
	})
	if err != nil {
		return id, err
	}
	if end := Blackout(p.Config, e.clock.Now()); !end.IsZero() {
		e.logger.InfoContext(ctx, "started by hand in the payer's blackout, which does not bind it", "payer", payer, "export_id", id,
			"not_between", p.Config.NotBetween, "until", end)
	}
	return id, e.admit(ctx)
}

// newExport decides what an export asks for. It is incremental where everything that it asks for has been published once
// in this series, up to the watermark; the overlap is asked for again, and costs nothing, because unchanged resources are
// recognized (protocol.md INC-1, INC-2, INC-10).
func (e *Engine) newExport(ctx context.Context, p config.Payer, o RunOptions) (store.NewExport, error) {
	n := store.NewExport{Payer: p.Name, Kind: store.KindFull, Types: sortedTypes(p), Series: series(p), Settings: settingsOf(p)}
	since, err := e.since(ctx, p, o, n)
	if err != nil {
		return n, err
	}
	if !since.IsZero() {
		n.Kind, n.Since = store.KindIncremental, formatInstant(since)
		return n, nil
	}
	// Where no _since does not mean everything, the configuration says from when on to ask (protocol.md INC-4).
	n.Since = p.Export.FullSince
	n.RemovesGhosts = p.Load.RemoveGhosts && holdsEverything(p)
	return n, nil
}

func (e *Engine) since(ctx context.Context, p config.Payer, o RunOptions, n store.NewExport) (time.Time, error) {
	if o.Full || p.Export.Since == "never" {
		return time.Time{}, nil
	}
	if !o.Since.IsZero() {
		return o.Since, nil
	}
	wanted, err := e.store.WantsFull(ctx, n.Payer)
	if err != nil {
		return time.Time{}, err
	}
	if wanted && p.Export.Newcomers != "ignore" {
		e.logger.InfoContext(ctx, "the next export is a full one, for the history of patients who joined the group", "payer", p.Name)
		return time.Time{}, nil
	}
	watermark, err := e.store.Watermark(ctx, n.Payer, n.Series, n.Types)
	if err != nil {
		return time.Time{}, err
	}
	first := beginning(p)
	if watermark.IsZero() {
		return first, nil
	}
	if len(n.Types) == 0 {
		due, err := e.store.FullDue(ctx, n.Payer, n.Series, formatSince(first))
		if err != nil {
			return time.Time{}, err
		}
		if due {
			e.logger.InfoContext(ctx, "the next export is a full one, for what types hold that were not granted before", "payer", p.Name)
			return first, nil
		}
	}
	return watermark.Add(-p.Export.SinceOverlap), nil
}

// beginning is the instant at which a payer's data are configured to begin; zero where that is with the first of them.
func beginning(p config.Payer) time.Time {
	first, err := time.Parse(time.RFC3339Nano, p.Export.Since)
	if err != nil { // auto, or never
		return time.Time{}
	}
	return first
}

func formatSince(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return formatInstant(t)
}

// holdsEverything reports whether a full export of this payer holds every resource of its types, so that one that is
// missing is gone.
func holdsEverything(p config.Payer) bool {
	x := p.Export
	return len(x.TypeFilters) == 0 && len(x.Elements) == 0 && len(x.Patients) == 0 && x.OrganizeOutputBy == ""
}

func sortedTypes(p config.Payer) []string {
	types := slices.Clone(p.Export.Types)
	slices.Sort(types)
	return slices.Compact(types)
}

// series is the digest of what, beside the types, decides which resources an export holds. Under another series a
// watermark says nothing.
func series(p config.Payer) string {
	x := p.Export
	what, err := json.Marshal([]any{p.FHIRURL, x.Level, x.GroupID, x.TypeFilters, x.Elements, x.IncludeAssociatedData, x.Patients})
	if err != nil {
		panic(err) // strings and lists of strings always marshal
	}
	sum := sha256.Sum256(what)
	return hex.EncodeToString(sum[:8])
}

// formatInstant writes an instant as FHIR has it, in UTC, with no more digits than it needs.
func formatInstant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999999Z07:00") }
