package ops

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/scheduler"
	"ingestd/internal/store"
)

// Direct carries out what operators ask for on the database itself. The admin API does so, and a command that reaches the database.
// Client does the same over HTTP.
type Direct struct {
	Store  *store.Store
	Engine *scheduler.Engine
	// Payers returns those of the configuration in use, in its order.
	Payers func() []config.Payer
	// Discreet leaves the payers' own words out of failures, because whoever is on the host may ask: they may name patients.
	Discreet bool
}

// ExportFilter narrows a list of exports; zero fields do not.
type ExportFilter struct {
	Payer string
	State store.State
	Limit int // 20 if 0
}

// ExportDetail is one export with its course and its ledger by type. Its JSON form is a public interface.
type ExportDetail struct {
	ExportSummary
	Trigger      store.Trigger      `json:"trigger"`
	Since        string             `json:"since"`
	AcceptedAt   *time.Time         `json:"accepted_at"`
	ManifestAt   *time.Time         `json:"manifest_at"`
	LoadedAt     *time.Time         `json:"loaded_at"`
	StalledSince *time.Time         `json:"stalled_since,omitempty"`
	Progress     store.Progress     `json:"progress"`
	Attachments  store.Attachments  `json:"attachments"`
	Types        []store.TypeLedger `json:"types"`
	LastError    *ErrorSummary      `json:"last_error"`
	Retrying     *ErrorSummary      `json:"retrying,omitempty"`
}

// Status returns the state of all payers.
func (d Direct) Status(ctx context.Context) ([]PayerStatus, error) {
	all, err := Status(ctx, d.Store, d.Payers(), time.Now())
	for i := range all {
		all[i].LastError = d.told(all[i].LastError)
	}
	return all, err
}

// told is a failure as it is told to who asks.
func (d Direct) told(e *ErrorSummary) *ErrorSummary {
	if e != nil && d.Discreet {
		e.Message = scheduler.WithoutPayersWords(e.Message)
	}
	return e
}

// Exports lists the newest exports first. The error is a *scheduler.UnknownPayerError for the name of no payer.
func (d Direct) Exports(ctx context.Context, f ExportFilter) ([]ExportSummary, error) {
	if f.Limit == 0 {
		f.Limit = defaultLimit
	}
	exports, err := d.Store.ExportsIn(ctx, f.Payer, f.State, f.Limit)
	if err != nil {
		return nil, err
	}
	if len(exports) == 0 {
		if err := d.knows(ctx, f.Payer); err != nil {
			return nil, err
		}
	}
	now, payers := time.Now(), d.Payers()
	summaries := make([]ExportSummary, 0, len(exports))
	for _, x := range exports {
		summaries = append(summaries, Summarize(x, now))
		summaries[len(summaries)-1].Waiting = waitingFor(x, payers, now)
	}
	return summaries, nil
}

// Export returns one export; store.ErrNoExport where there is none of that number.
func (d Direct) Export(ctx context.Context, id int64) (ExportDetail, error) {
	x, err := d.Store.Export(ctx, id)
	if err != nil {
		return ExportDetail{}, fmt.Errorf("export %d: %w", id, err)
	}
	detail := ExportDetail{
		ExportSummary: Summarize(x, time.Now()), Trigger: x.Trigger, Since: x.Since, AcceptedAt: orNil(x.KickedOffAt),
		ManifestAt: orNil(x.ManifestAt), LoadedAt: orNil(x.LoadedAt), LastError: d.told(lastError(x)), Retrying: retrying(x),
	}
	detail.Waiting = waitingFor(x, d.Payers(), time.Now())
	if x.State == store.StatePolling {
		detail.StalledSince = orNil(x.StalledAt)
	}
	if detail.Progress, err = d.Store.Progress(ctx, id); err != nil {
		return detail, err
	}
	if detail.Types, err = d.Store.TypeLedgers(ctx, id); err != nil {
		return detail, err
	}
	detail.Attachments, err = d.Store.Attachments(ctx, id)
	return detail, err
}

// Start enqueues an export of a payer on the fleet and returns its number. Errors are those of scheduler.Engine.Start.
func (d Direct) Start(ctx context.Context, payer string, o scheduler.RunOptions) (int64, error) {
	id, err := d.Engine.Start(ctx, payer, o)
	if err != nil {
		return 0, fmt.Errorf("start an export of %s: %w", payer, err)
	}
	return id, nil
}

// Cancel ends an export that is not finished. Errors are those of scheduler.Engine.Cancel.
func (d Direct) Cancel(ctx context.Context, id int64, by store.Actor) error {
	return ofExport(id, d.Engine.Cancel(ctx, id, by))
}

// Release publishes a held export as it is. Errors are those of scheduler.Engine.Release.
func (d Direct) Release(ctx context.Context, id int64, by store.Actor) error {
	return ofExport(id, d.Engine.Release(ctx, id, by))
}

// Reject ends a held export without publishing it. Errors are those of scheduler.Engine.Reject.
func (d Direct) Reject(ctx context.Context, id int64, by store.Actor) error {
	return ofExport(id, d.Engine.Reject(ctx, id, by))
}

// Retry asks for the same as an export that was not published, and returns the new one's number. Errors are those of
// scheduler.Engine.Retry.
func (d Direct) Retry(ctx context.Context, id int64, by store.Actor) (int64, error) {
	retried, err := d.Engine.Retry(ctx, id, by)
	return retried, ofExport(id, err)
}

// Pause lets the schedules of a payer rest, or of all where payer is empty; it returns those that were not resting yet.
func (d Direct) Pause(ctx context.Context, payer string, by store.Actor) ([]string, error) {
	names, err := d.named(payer)
	if err != nil {
		return nil, err
	}
	return d.Engine.Pause(ctx, names, by)
}

// Resume ends the rest of a payer, or of all where payer is empty; it returns those that were resting.
func (d Direct) Resume(ctx context.Context, payer string, by store.Actor) ([]string, error) {
	names, err := d.named(payer)
	if err != nil {
		return nil, err
	}
	return d.Engine.Resume(ctx, names, by)
}

// Audit lists the newest changes first.
func (d Direct) Audit(ctx context.Context, f store.AuditFilter, limit int) ([]store.AuditEvent, error) {
	return d.Store.AuditEvents(ctx, f, limit)
}

// named are the payers of that name in the configuration, or all where it is empty.
func (d Direct) named(payer string) ([]string, error) {
	var names []string
	for _, p := range d.Payers() {
		if payer == "" || p.Name == payer {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 && payer != "" {
		return nil, &scheduler.UnknownPayerError{Name: payer}
	}
	return names, nil
}

// knows returns a *scheduler.UnknownPayerError for the name of a payer that is neither in the configuration nor has ever had an export:
// an empty list would hide a mistyped one.
func (d Direct) knows(ctx context.Context, payer string) error {
	_, unknown := d.named(payer)
	if unknown == nil {
		return nil
	}
	exports, err := d.Store.Exports(ctx, payer, 1)
	if err != nil || len(exports) > 0 {
		return err
	}
	return unknown
}

// ofExport says of which export there is none; other errors of the engine say it themselves.
func ofExport(id int64, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*scheduler.StateError](err); ok {
		return err
	}
	if _, ok := errors.AsType[*scheduler.SeriesChangedError](err); ok {
		return err
	}
	return fmt.Errorf("export %d: %w", id, err)
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
