package ops

import (
	"context"
	"slices"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/scheduler"
	"ingestd/internal/store"
)

// PayerStatus is the answer to "how fresh is this payer, and why?". Its JSON form is a public interface.
type PayerStatus struct {
	Payer string `json:"payer"`
	// State is never, idle, stale, disabled, waiting where an export is due and has not had its turn, or that of the last export where
	// it is not published: starting, polling, loading, publishing, held, failed, canceled.
	State string `json:"state"`
	// LastSuccess is when an export was last published.
	LastSuccess *time.Time `json:"last_success"`
	// FreshnessSeconds is the age of the latest transactionTime that was published.
	FreshnessSeconds *float64 `json:"freshness_seconds"`
	// FreshnessSLOSeconds is how long the payer may be without a publish; 0 is no limit.
	FreshnessSLOSeconds float64 `json:"freshness_slo_seconds,omitempty"`
	// StaleSince is since when it has been without one for longer, whatever State says.
	StaleSince *time.Time `json:"stale_since,omitempty"`
	NextRun    *time.Time `json:"next_run"`
	// StalledSince is since when the running export takes far longer than the payer's others did, without progress.
	StalledSince *time.Time `json:"stalled_since,omitempty"`
	// PausedAt is since when, and PausedBy by whose word, the payer's schedules rest.
	PausedAt *time.Time `json:"paused_at,omitempty"`
	PausedBy string     `json:"paused_by,omitempty"`
	// ConfigMismatch are the digests of the payer's settings by instance, where instances differ; empty for one that has none.
	ConfigMismatch map[string]string `json:"config_mismatch,omitempty"`
	LastExport     *ExportSummary    `json:"last_export"`
	LastError      *ErrorSummary     `json:"last_error"`
	// Retrying is what failed last of an export that is not over, and is tried again; null where that has gone on since.
	Retrying *ErrorSummary `json:"retrying,omitempty"`
}

// StateWaiting is the state of a payer whose export is due and has not had its turn: as many run as may, or the payer is in its
// blackout.
const StateWaiting = "waiting"

// ErrorSummary is why an export was not published, or why something of it is tried again.
type ErrorSummary struct {
	ExportID int64     `json:"export_id"`
	At       time.Time `json:"at"`
	Code     string    `json:"code"`
	Message  string    `json:"message"`
	Hint     string    `json:"hint,omitempty"`
}

// ExportSummary is an export in numbers. Its JSON form is a public interface.
type ExportSummary struct {
	ExportID        int64   `json:"export_id"`
	Payer           string  `json:"payer"`
	State           string  `json:"state"`
	Kind            string  `json:"kind"`
	TransactionTime string  `json:"transaction_time"`
	Lines           int64   `json:"lines"`
	Bytes           int64   `json:"bytes"`
	WireBytes       int64   `json:"wire_bytes"`
	Inserted        int64   `json:"inserted"`
	Updated         int64   `json:"updated"`
	Unchanged       int64   `json:"unchanged"`
	Superseded      int64   `json:"superseded"`
	Deleted         int64   `json:"deleted"`
	Ghosts          int64   `json:"ghosts"`
	Quarantined     int64   `json:"quarantined"`
	Seconds         float64 `json:"seconds"`
	// StartedAt is when it was recorded; FinishedAt is null while it is not over.
	StartedAt  time.Time  `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at"`
	// ErrorCode is why it was not published, or is held.
	ErrorCode string `json:"error_code,omitempty"`
	// Waiting is what it waits for where it is starting and has not had its turn: max_exports (others to end) or not_between (the end
	// of the payer's blackout).
	Waiting string `json:"waiting,omitempty"`
}

// What exports wait for.
const (
	WaitingForOthers   = "max_exports"
	WaitingForBlackout = "not_between"
)

// waitingFor says what an export waits for; "" where it does not. Exports by hand are not bound by the blackout of their payer.
func waitingFor(x store.Export, payers []config.Payer, now time.Time) string {
	if x.State != store.StateStarting || !x.Waiting {
		return ""
	}
	i := slices.IndexFunc(payers, func(p config.Payer) bool { return p.Name == x.Payer })
	if i >= 0 && x.Trigger != store.TriggerManual && !scheduler.Blackout(payers[i], now).IsZero() {
		return WaitingForBlackout
	}
	return WaitingForOthers
}

// Summarize returns an export in numbers; seconds of one that is not finished count until now.
func Summarize(e store.Export, now time.Time) ExportSummary {
	end := e.FinishedAt
	if end.IsZero() {
		end = now
	}
	return ExportSummary{
		ExportID: e.ID, Payer: e.Payer, State: string(e.State), Kind: string(e.Kind), TransactionTime: e.TransactionTime,
		Lines: e.Lines, Bytes: e.Bytes, WireBytes: e.WireBytes, Inserted: e.Inserted, Updated: e.Updated,
		Unchanged: e.Unchanged, Superseded: e.Superseded, Deleted: e.Deleted, Ghosts: e.Ghosts, Quarantined: e.Quarantined,
		Seconds: max(0, end.Sub(e.CreatedAt).Seconds()), StartedAt: e.CreatedAt.UTC(), FinishedAt: orNil(e.FinishedAt), ErrorCode: e.ErrorCode,
	}
}

// Status returns the state of all payers of the configuration, in its order.
func Status(ctx context.Context, s *store.Store, payers []config.Payer, now time.Time) ([]PayerStatus, error) {
	states, err := s.PayerStates(ctx)
	if err != nil {
		return nil, err
	}
	pauses, err := s.Pauses(ctx)
	if err != nil {
		return nil, err
	}
	mismatches, err := s.Mismatches(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]PayerStatus, 0, len(payers))
	for _, p := range payers {
		status := payerStatus(p, states[p.Name], now)
		if pause, ok := pauses[p.Name]; ok {
			status.PausedAt, status.PausedBy, status.NextRun = &pause.At, pause.By, nil
		}
		status.ConfigMismatch = mismatches[p.Name]
		all = append(all, status)
	}
	return all, nil
}

// lastError is why an export was not published; nil where it was, or where nothing has failed yet.
func lastError(x store.Export) *ErrorSummary {
	if x.ErrorCode == "" {
		return nil
	}
	at := x.FinishedAt
	if at.IsZero() {
		at = x.CreatedAt
	}
	return &ErrorSummary{ExportID: x.ID, At: at.UTC(), Code: x.ErrorCode, Message: x.Error, Hint: x.Hint}
}

// retrying is what failed last of an export that is not over; nil where it is over, held, or has gone on since.
func retrying(x store.Export) *ErrorSummary {
	if x.Trouble.At.IsZero() || !x.State.Active() || x.State == store.StateHeld {
		return nil
	}
	return &ErrorSummary{ExportID: x.ID, At: x.Trouble.At.UTC(), Code: x.Trouble.Code, Message: x.Trouble.Text, Hint: x.Trouble.Hint}
}

func payerStatus(p config.Payer, known store.PayerState, now time.Time) PayerStatus {
	status := PayerStatus{Payer: p.Name, State: "never"}
	if last := known.Last; last.ID != 0 {
		status.State = string(last.State)
		switch {
		case last.State == store.StatePublished:
			status.State = "idle"
		case last.State == store.StateStarting && last.Waiting:
			status.State = StateWaiting
		}
		summary := Summarize(last, now)
		summary.Waiting = waitingFor(last, []config.Payer{p}, now)
		status.LastExport = &summary
		if last.State == store.StatePolling && !last.StalledAt.IsZero() {
			status.StalledSince = &last.StalledAt
		}
		status.LastError, status.Retrying = lastError(last), retrying(last)
	}
	if !p.Enabled && (status.State == "never" || status.State == "idle") {
		status.State = "disabled"
	}
	if known.Published.ID != 0 {
		status.LastSuccess = &known.Published.FinishedAt
	}
	if !known.FreshAt.IsZero() {
		seconds := max(0, now.Sub(known.FreshAt).Seconds())
		status.FreshnessSeconds = &seconds
	}
	status.FreshnessSLOSeconds = p.FreshnessSLO.Seconds()
	if since := staleSince(p, known); !since.IsZero() && !since.After(now) {
		status.StaleSince = &since
		if status.State == "idle" || status.State == "never" {
			status.State = "stale"
		}
	}
	if next := scheduler.NextRun(p, now); !next.IsZero() {
		status.NextRun = &next
	}
	return status
}

// staleSince is since when a payer's data are stale, or when they will be; zero where they will not. Since when one that was
// never published is, only the leader knows, which saw its schedule first.
func staleSince(p config.Payer, known store.PayerState) time.Time {
	switch {
	case !p.Enabled || p.FreshnessSLO <= 0:
		return time.Time{}
	case known.Published.ID != 0:
		return known.Published.FinishedAt.Add(p.FreshnessSLO)
	default:
		return known.StaleSince
	}
}
