package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"ingestd/internal/notify"
	"ingestd/internal/store"
)

const (
	// notifyPatience is how long a notification is tried for: what is older, nobody needs to be told any more.
	notifyPatience = 24 * time.Hour
	// notifyAttempts is more than fit into that time.
	notifyAttempts = 100
	// notifyLongestPause is between two attempts.
	notifyLongestPause = 30 * time.Minute
	// notifyTimeout bounds a delivery: two requests of at most 30 s, and the pause between them.
	notifyTimeout = 90 * time.Second
	// notifyWorkers are the deliveries of an instance at once, and notifyPerTarget those to one target: one that hangs keeps
	// the others from nothing.
	notifyWorkers   = 8
	notifyPerTarget = 2
	// notifyRetention is how long it can be looked up what was told.
	notifyRetention = 90 * 24 * time.Hour
)

// The results of a delivery, for metrics.
const (
	notifyDelivered = "delivered"
	notifyRetried   = "failed"
	notifyGivenUp   = "given_up"
)

// NotifyResults are all results of a delivery.
func NotifyResults() []string { return []string{notifyDelivered, notifyRetried, notifyGivenUp} }

// notifyArgs ask for the delivery of a notification to a target.
type notifyArgs struct {
	Notification int64  `json:"notification"`
	Target       string `json:"target"`
}

// Kind implements river.JobArgs.
func (notifyArgs) Kind() string { return "notify" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (notifyArgs) InsertOpts() river.InsertOpts { return river.InsertOpts{MaxAttempts: notifyAttempts} }

// tellFailedTx notes, in the transaction in which an export fails, that its payer has failed, and tells it where it had not. A
// back-fill is asked for again by itself, and its publish would end nothing: it is not told.
func (e *Engine) tellFailedTx(ctx context.Context, tx pgx.Tx, x store.Export, f store.Failure) error {
	if x.Kind == store.KindBackfill {
		return nil
	}
	code := safeCode(f.Code)
	incident, told, err := e.store.OpenIncidentTx(ctx, tx, x.Payer, store.IncidentFailed, code, x.ID)
	if err != nil || !told {
		return err
	}
	event := notify.Event{Event: notify.Failed, Incident: incident.ID, Export: exportOf(x), Code: code, Hint: f.Hint}
	return e.tellTx(ctx, tx, x.Payer, event)
}

// tellHeldTx tells that an export is held back, in the transaction that holds it.
func (e *Engine) tellHeldTx(ctx context.Context, tx pgx.Tx, x store.Export, held *store.HeldError) error {
	incident, told, err := e.store.OpenIncidentTx(ctx, tx, x.Payer, store.IncidentHeld, store.HeldCode, x.ID)
	if err != nil || !told {
		return err
	}
	event := notify.Event{
		Event: notify.Held, Incident: incident.ID, Export: exportOf(x), Code: store.HeldCode, Hint: store.HeldHint,
	}
	event.Export.Ghosts, event.Export.Rows = held.Ghosts, held.Rows
	return e.tellTx(ctx, tx, x.Payer, event)
}

// tellRecoveredTx ends the incidents of a payer in the transaction that publishes an export, and tells it where there were any.
func (e *Engine) tellRecoveredTx(ctx context.Context, tx pgx.Tx, x store.Export) error {
	if x.Kind == store.KindBackfill {
		return nil
	}
	closed, err := e.store.CloseIncidentsTx(ctx, tx, x.Payer, x.ID)
	if err != nil || len(closed) == 0 {
		return err
	}
	if x, err = e.store.ExportTx(ctx, tx, x.ID); err != nil { // with its ledger
		return err
	}
	event := notify.Event{Event: notify.Recovered, Export: exportOf(x)}
	for _, i := range closed {
		event.Incidents = append(event.Incidents, notify.Incident{
			ID: i.ID, Event: notify.Kind(i.Event), OpenedAt: i.OpenedAt.UTC(), Code: i.Code, Exports: i.Exports,
		})
	}
	return e.tellTx(ctx, tx, x.Payer, event)
}

// tellStale tells of the payers that have been without a publish for longer than their freshness_slo.
func (e *Engine) tellStale(ctx context.Context) error {
	slos := make(map[string]time.Duration)
	for name, p := range e.roster.all() {
		if p.Config.Enabled && p.Config.FreshnessSLO > 0 {
			slos[name] = p.Config.FreshnessSLO
		}
	}
	if len(slos) == 0 {
		return nil
	}
	stale, err := e.store.Stale(ctx, slos)
	if err != nil {
		return err
	}
	for _, payer := range stale {
		err := e.store.InTx(ctx, func(tx pgx.Tx) error {
			incident, opened, err := e.store.OpenStaleTx(ctx, tx, payer, slos[payer])
			if err != nil || !opened {
				return err
			}
			e.logger.WarnContext(ctx, "the payer's data are stale: nothing was published for longer than freshness_slo",
				"payer", payer, "freshness_slo", slos[payer])
			return e.tellTx(ctx, tx, payer, notify.Event{Event: notify.Stale, Incident: incident.ID})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tellTx writes an event, and a job for each target that wants it, in the caller's transaction.
func (e *Engine) tellTx(ctx context.Context, tx pgx.Tx, payer string, event notify.Event) error {
	targets := e.tuning.Load().Notifier.Wants(event.Event, payer)
	if len(targets) == 0 {
		return nil
	}
	event.Version, event.Payer = notify.Version, payer
	p, _ := e.roster.payer(payer) // one that was removed has no SLO
	event.FreshnessSLOSeconds = p.Config.FreshnessSLO.Seconds()
	if event.Event != notify.Recovered {
		last, err := e.store.LastSuccessTx(ctx, tx, payer)
		if err != nil {
			return err
		}
		if !last.IsZero() {
			last = last.UTC()
			event.LastSuccess = &last
		}
	}
	body, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("write an event: %w", err)
	}
	id, err := e.store.AddNotificationTx(ctx, tx, payer, string(event.Event), body)
	if err != nil {
		return err
	}
	for _, target := range targets {
		if err := e.insertTx(ctx, tx, notifyArgs{Notification: id, Target: target}, ""); err != nil {
			return err
		}
	}
	return nil
}

// exportOf is an export in numbers, as far as it came.
func exportOf(x store.Export) *notify.Export {
	return &notify.Export{
		ID: x.ID, Kind: string(x.Kind), Lines: x.Lines, Inserted: x.Inserted, Updated: x.Updated, Unchanged: x.Unchanged,
		Deleted: x.Deleted, Ghosts: x.Ghosts, Quarantined: x.Quarantined,
	}
}

var codeForm = regexp.MustCompile(`^[a-z0-9_]{1,80}$`)

// safeCode is a code of ours: one that an authorization server made up stays here.
func safeCode(code string) string {
	if codeForm.MatchString(code) {
		return code
	}
	return "other"
}

// notifyWorker delivers notifications, on a queue of their own: whatever a target does, no export waits for it.
type notifyWorker struct {
	river.WorkerDefaults[notifyArgs]
	engine *Engine

	mu    sync.Mutex
	slots map[string]chan struct{} // of each target that was told something, notifyPerTarget
}

func newNotifyWorker(e *Engine) *notifyWorker {
	return &notifyWorker{engine: e, slots: make(map[string]chan struct{})}
}

// slot is what a request to a target takes a place of.
func (w *notifyWorker) slot(target string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.slots[target] == nil {
		w.slots[target] = make(chan struct{}, notifyPerTarget)
	}
	return w.slots[target]
}

// Timeout implements river.Worker.
func (*notifyWorker) Timeout(*river.Job[notifyArgs]) time.Duration { return notifyTimeout }

// A target that this instance's configuration does not know is left to others for a while: when instances are replaced, one may have
// the new configuration and another the old one.
const (
	unknownTargetPatience = 5 * time.Minute
	unknownTargetPause    = 15 * time.Second
)

// Work implements river.Worker.
func (w *notifyWorker) Work(ctx context.Context, job *river.Job[notifyArgs]) error {
	e, target := w.engine, job.Args.Target
	notifier := e.tuning.Load().Notifier
	if !slices.Contains(notifier.Names(), target) {
		// The target was removed; or it is new, and known to other instances than this one.
		if time.Since(job.CreatedAt) < unknownTargetPatience {
			return river.JobSnooze(unknownTargetPause)
		}
		return nil
	}
	n, err := e.store.Notification(ctx, job.Args.Notification)
	if errors.Is(err, store.ErrNoNotification) {
		return nil // its payer was removed
	}
	if err != nil {
		return err
	}
	var event notify.Event
	if err := json.Unmarshal(n.Body, &event); err != nil {
		return fmt.Errorf("read notification %d: %w", n.ID, err)
	}
	event.ID, event.OccurredAt = n.ID, n.OccurredAt.UTC()
	log := e.logger.With("target", target, "event", event.Event, "payer", event.Payer, "notification", n.ID)
	if time.Since(n.OccurredAt) > notifyPatience {
		log.ErrorContext(ctx, "notification given up", "attempts", job.Attempt-1)
		e.observer.Notified(target, notifyGivenUp)
		return nil
	}
	slot := w.slot(target)
	select {
	case slot <- struct{}{}:
		defer func() { <-slot }()
	default:
		return river.JobSnooze(3*time.Second + rand.N(6*time.Second)) //nolint:gosec // jitter needs no secrecy
	}
	answer, err := notifier.Send(ctx, target, event)
	if ctx.Err() != nil {
		return err // cut off: the next one tries again
	}
	if err != nil {
		wait := max(notifyDelay(len(job.Errors)), min(answer.RetryAfter, notifyLongestPause))
		log.WarnContext(ctx, "notification not delivered, will be tried again", "attempt", job.Attempt, "wait", wait, "error", err)
		e.observer.Notified(target, notifyRetried)
		e.retries.put(job.ID, wait)
		return err
	}
	log.InfoContext(ctx, "notification delivered", "seconds", answer.Took.Seconds())
	e.observer.Notified(target, notifyDelivered)
	return nil
}

// notifyDelay is 5 s, 10 s, 20 s … up to half an hour, with a tenth of jitter.
func notifyDelay(failures int) time.Duration {
	delay := min(5*time.Second<<min(failures, 20), notifyLongestPause)
	return delay + rand.N(delay/10) //nolint:gosec // jitter needs no secrecy
}
