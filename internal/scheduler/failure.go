package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"ingestd/internal/export"
	"ingestd/internal/smartauth"
	"ingestd/internal/store"
)

// maxRestarts is how many fresh kick-offs an export gets: after the payer has lost its job, or has not completed it within
// export.timeout, or lets its files be read no longer.
const maxRestarts = 1

// How often a job is tried before its export fails.
const (
	startAttempts   = 12
	pollAttempts    = 1000 // export.timeout ends it earlier
	loadAttempts    = 25
	publishAttempts = 50
	cleanUpAttempts = 8
)

// unknownPayerAttempts is how often a job of a payer that this instance does not know is left to others before the payer
// counts as removed: while instances are replaced, some have the old configuration, some the new.
const unknownPayerAttempts = 5

// describe says what a failure is: a stable code, the text for operators, what to do, and a text that is safe for logs.
func describe(err error) (f store.Failure, safe string) {
	var protocol *export.Error
	var auth *smartauth.Error
	switch {
	case errors.As(err, &auth):
		return store.Failure{Code: authPrefix + auth.Code, Text: auth.Error(), Hint: auth.Hint}, auth.Error()
	case errors.As(err, &protocol):
		return store.Failure{Code: protocol.Code, Text: protocol.Operator(), Hint: protocol.Hint}, protocol.Error()
	}
	f = store.Failure{Code: codeInternal, Text: err.Error()}
	for _, known := range knownFailures {
		if known.is(err) {
			f.Code, f.Hint = known.code, known.hint
			break
		}
	}
	return f, err.Error()
}

// WithoutPayersWords is the text of an export's failure as it stands in the database, without what the payer said, which may name a
// patient.
func WithoutPayersWords(text string) string { return export.WithoutPayersWords(text) }

// knownFailures are the failures of our own side that an operator meets.
var knownFailures = []struct {
	is         func(error) bool
	code, hint string
}{
	{isA[*store.UnbalancedError], "ledger_unbalanced", "this is a fault of ingestd: keep the export's rows and report it"},
	{
		isA[*store.QuarantineError], "too_many_bad_lines",
		"look at 'ingestd quarantine list'; raise load.quarantine_max_share only if these lines may be missing",
	},
	{
		isA[*store.PayerErrorsError], "payer_reported_errors",
		"read ingest.outcome and ask the payer; load.accept_errors publishes all the same",
	},
	{isA[*store.CountMismatchError], "count_mismatch", "the payer's file and its manifest disagree: ask the payer"},
	{isA[*UnknownPayerError], "payer_removed", "the payer is no longer in the configuration"},
	{isA[*ElsewhereError], codeElsewhere, "the payer is not in this instance's configuration, and in that of others: reload it"},
	{func(err error) bool { return errors.Is(err, store.ErrFileChanged) }, "file_changed", ""},
	{store.IsForbidden, codeForbidden, "give the role its rights back ('ingestd migrate roles', as the owner of schema ingest), or the object: 'ingestd migrate up' makes what is missing"},
	{func(err error) bool { return store.SQLState(err) != "" }, "postgres", "see the log of Postgres"},
	{store.MayComeUp, "postgres", "Postgres cannot be reached, or has cut the connection: it goes on by itself when that is over"},
}

// codeElsewhere is the code of what is left to other instances.
const codeElsewhere = "payer_elsewhere"

// codeForbidden is the code of failures because the role of the daemon may not do what it must, or because a schema is gone.
const codeForbidden = "postgres_forbidden"

// forbiddenAttempts is how often that is tried: an operator may be at work on it, and trying for hours would keep it from being noticed.
const forbiddenAttempts = 4

// finalError is a failure that trying again will not mend.
type finalError struct{ error }

// Unwrap returns the failure.
func (e finalError) Unwrap() error { return e.error }

func isA[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

// action is what a failure asks for. Failures of Postgres, and whatever is unknown, are tried again.
func action(err error) (export.Action, time.Duration) {
	if isA[finalError](err) {
		return export.ActionFail, 0
	}
	if protocol, ok := errors.AsType[*export.Error](err); ok { // also one for want of a token, which knows what would be lost
		return protocol.Action, protocol.RetryAfter
	}
	if auth, ok := errors.AsType[*smartauth.Error](err); ok {
		if auth.Temporary {
			return export.ActionRetry, auth.RetryAfter
		}
		return export.ActionFail, 0
	}
	if isA[*ElsewhereError](err) {
		return export.ActionWait, elsewherePause
	}
	switch {
	case isA[*store.UnbalancedError](err), isA[*store.QuarantineError](err), isA[*store.PayerErrorsError](err),
		isA[*UnknownPayerError](err):
		return export.ActionFail, 0
	}
	return export.ActionRetry, 0
}

// within reports whether a failure may still be the lag of a replica at the payer, because the job or its manifest is young.
func within(err error, x store.Export, now time.Time) bool {
	var protocol *export.Error
	if !errors.As(err, &protocol) || protocol.Grace == 0 {
		return false
	}
	since := x.KickedOffAt
	if protocol.Phase == export.PhaseFile {
		since = x.ManifestAt
	}
	return now.Sub(since) < protocol.Grace
}

// settle decides what becomes of an export's job that failed: it is tried again, put off, or it ends the export, or the
// export starts again. note stores in how long the job will run again, so that the reaper knows.
func settle[T river.JobArgs](ctx context.Context, e *Engine, job *river.Job[T], x store.Export, err error,
	note func(wait time.Duration) error,
) error {
	if ctx.Err() != nil {
		return err // the job was cut off; what failed, failed because of that
	}
	failure, safe := describe(err)
	act, wait := action(err)
	if within(err, x, time.Now()) || isA[*UnknownPayerError](err) && len(job.Errors) < unknownPayerAttempts {
		act = export.ActionRetry
	}
	if failure.Code == codeForbidden {
		failure.Text, safe = "role "+e.store.Role()+": "+failure.Text, "role "+e.store.Role()+": "+safe
		if job.Attempt >= forbiddenAttempts {
			act = export.ActionFail
		}
	}
	log := e.logger.With("payer", x.Payer, "export_id", x.ID, "job", job.Kind, "code", failure.Code)
	e.observer.JobFailed(x.Payer, job.Kind, failure.Code)
	if act != export.ActionWait {
		spanFailed(ctx, failure.Code)
	}

	putOff := func(wait time.Duration) error {
		err := note(wait)
		if store.IsStale(err) {
			return nil // what failed has gone on elsewhere
		}
		if err == nil {
			tellTrouble(ctx, e, job, x, failure, safe)
		}
		return err
	}
	switch act {
	case export.ActionWait:
		wait = max(e.withinTime(x, e.patience(x, err, job.JobRow, wait)), time.Second)
		level := slog.LevelDebug
		if e.waits.news(x, failure.Code, time.Now()) {
			level = slog.LevelInfo
		}
		log.Log(ctx, level, waitsFor(failure.Code), "wait", wait, "error", safe)
		if err := putOff(wait); err != nil {
			return err
		}
		return river.JobSnooze(wait)
	case export.ActionRestart:
		if x.Restarts < maxRestarts {
			log.WarnContext(ctx, "starting the export again: its job is given up", "error", safe)
			tellTrouble(ctx, e, job, x, failure, safe)
			return finish(ctx, e, job, func(tx pgx.Tx) error {
				if err := e.store.RestartTx(ctx, tx, x.ID, x.Generation); err != nil {
					return err
				}
				return e.insertTx(ctx, tx, startExportArgs{ExportID: x.ID, Generation: x.Generation + 1}, x.Queue)
			})
		}
	case export.ActionRetry, export.ActionRenew:
		if job.Attempt < job.MaxAttempts {
			wait = e.withinTime(x, max(wait, backoffDelay(len(job.Errors))))
			log.WarnContext(ctx, "job failed, will be tried again", "attempt", job.Attempt, "wait", wait, "error", safe)
			if err := putOff(wait); err != nil {
				return err
			}
			e.retries.put(job.ID, wait)
			return errors.New(safe) // River keeps the text of errors; it gets the one without the payer's words
		}
	case export.ActionNextTick, export.ActionFail:
	}
	log.ErrorContext(ctx, "export failed", "error", safe)
	x.State = store.StateFailed
	e.observer.ExportEnded(x.Payer, x)
	return finish(ctx, e, job, func(tx pgx.Tx) error {
		if err := e.noteRefusedBackfillTx(ctx, tx, x, err); err != nil {
			return err
		}
		return e.failTx(ctx, tx, x, failure)
	})
}

// longestFilePatience bounds the wait for a file whose host refused it without saying for how long: others of the export wait with it.
const longestFilePatience = time.Minute

// patience is how long a payer that asks for patience is left alone: as long as it says, with the margin that some need, or longer each
// time where it does not say (protocol.md POLL-4). A host of files that says how long is left alone by all, which the governor
// sees to.
func (e *Engine) patience(x store.Export, err error, job *rivertype.JobRow, wait time.Duration) time.Duration {
	protocol, ok := errors.AsType[*export.Error](err)
	p, known := e.roster.payer(x.Payer)
	if !ok || !known || protocol.Phase == export.PhaseFile && wait > 0 {
		return wait
	}
	var had struct {
		Snoozes int `json:"snoozes"`
	}
	_ = json.Unmarshal(job.Metadata, &had) // River's own count; without it, the shortest wait
	if protocol.Phase == export.PhaseFile {
		return min(backoffDelay(had.Snoozes), longestFilePatience)
	}
	return p.Client.RetryDelay(protocol, had.Snoozes+1)
}

// withinTime bounds a wait by the end of export.timeout: the job that runs then asks the payer for nothing, and ends the export at the
// payer (protocol.md POLL-9). A date that lies far ahead would keep the payer's schedule waiting for as long.
func (e *Engine) withinTime(x store.Export, wait time.Duration) time.Duration {
	p, known := e.roster.payer(x.Payer)
	if limit := p.Config.Export.Timeout; known && limit > 0 && x.State == store.StatePolling {
		return min(wait, max(time.Until(x.KickedOffAt.Add(limit)), 0)+time.Second)
	}
	return wait
}

// failTx ends an export, enqueues its clean-up, and tells it.
func (e *Engine) failTx(ctx context.Context, tx pgx.Tx, x store.Export, f store.Failure) error {
	if err := e.store.FailTx(ctx, tx, x.ID, x.Generation, f); err != nil {
		return err
	}
	if err := e.insertTx(ctx, tx, cleanUpArgs{ExportID: x.ID}, x.Queue); err != nil {
		return err
	}
	return e.tellFailedTx(ctx, tx, x, f)
}
