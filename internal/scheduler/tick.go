package scheduler

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// tickArgs say that a schedule of a payer may be due.
type tickArgs struct {
	Payer    string         `json:"payer"`
	Schedule store.Schedule `json:"schedule"`
	// At is the leader's clock when it ticked: of two hosts whose clocks differ, the later time decides what is due.
	At time.Time `json:"at"`
}

// Kind implements river.JobArgs.
func (tickArgs) Kind() string { return "tick" }

// expressionOf is the cron expression of one of a payer's schedules; empty where that one never runs by itself.
func expressionOf(p config.Payer, s store.Schedule) string {
	switch {
	case !p.Enabled:
		return ""
	case s == store.ScheduleFull:
		return p.Export.FullSchedule
	default:
		return p.Schedule
	}
}

// tickJobs are what the leader enqueues for a payer: the ticks of its schedules. Each tick is also enqueued once when an
// instance takes the lead; the worker then makes up for what was missed while nobody had it.
func tickJobs(p config.Payer) ([]*river.PeriodicJob, error) {
	var jobs []*river.PeriodicJob
	for _, which := range []store.Schedule{store.ScheduleIncremental, store.ScheduleFull} {
		expression := expressionOf(p, which)
		if expression == "" {
			continue
		}
		s, err := parseSchedule(p, expression)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, river.NewPeriodicJob(s, func() (river.JobArgs, *river.InsertOpts) {
			return tickArgs{Payer: p.Name, Schedule: which, At: time.Now()}, &river.InsertOpts{Queue: queueControl}
		}, &river.PeriodicJobOpts{RunOnStart: true}))
	}
	return jobs, nil
}

// housekeeping is what the leader enqueues for itself. A run in the foreground may lead as well: what it enqueues here, the
// daemons do.
func (e *Engine) housekeeping() []*river.PeriodicJob {
	return []*river.PeriodicJob{river.NewPeriodicJob(river.PeriodicInterval(e.options.ReapInterval),
		func() (river.JobArgs, *river.InsertOpts) { return reapArgs{}, &river.InsertOpts{Queue: queueControl} },
		&river.PeriodicJobOpts{RunOnStart: true})}
}

// A tick that this instance's configuration does not know is left to others for a while: when instances are replaced, the
// leader may have the new configuration and the worker the old one.
const (
	unknownTickPatience = 5 * time.Minute
	unknownTickPause    = 15 * time.Second
)

// tickWorker turns a due tick into an export: once per tick, whatever enqueued it and how often.
type tickWorker struct {
	river.WorkerDefaults[tickArgs]
	engine *Engine
}

// Work implements river.Worker.
func (w *tickWorker) Work(ctx context.Context, job *river.Job[tickArgs]) error {
	e, args := w.engine, job.Args
	log := e.logger.With("payer", args.Payer, "schedule", args.Schedule)
	p, known := e.roster.payer(args.Payer)
	expression := expressionOf(p.Config, args.Schedule)
	if !known || expression == "" {
		// The payer was removed or disabled since; or it is new, and known to other instances than this one.
		if time.Since(job.CreatedAt) < unknownTickPatience {
			return river.JobSnooze(unknownTickPause)
		}
		return nil
	}
	// A tick that is not claimed is made up when the payer is resumed.
	if paused, err := e.store.IsPaused(ctx, args.Payer); err != nil || paused {
		return err
	}
	s, err := parseSchedule(p.Config, expression)
	if err != nil {
		return err
	}
	now := time.Now()
	if args.At.After(now) {
		now = args.At
	}
	last, err := e.store.LastTick(ctx, args.Payer, args.Schedule)
	if err != nil {
		return err
	}
	if last.IsZero() {
		// A schedule that is seen for the first time has missed nothing; its ticks count from here.
		return finish(ctx, e, job, func(tx pgx.Tx) error {
			_, err := e.store.ClaimTickTx(ctx, tx, args.Payer, args.Schedule, now.Truncate(time.Second))
			return err
		})
	}
	due := s.latestDue(last, now)
	if due.IsZero() {
		return nil
	}
	request, err := e.scheduledExport(ctx, p.Config, args.Schedule == store.ScheduleFull)
	if err != nil {
		return err
	}
	request.DueAt = due

	err = finish(ctx, e, job, func(tx pgx.Tx) error {
		claimed, err := e.store.ClaimTickTx(ctx, tx, args.Payer, args.Schedule, due)
		if err != nil || !claimed {
			return err
		}
		id, err := e.store.CreateExportTx(ctx, tx, request)
		if errors.Is(err, store.ErrExportRunning) && args.Schedule != store.ScheduleFull {
			log.WarnContext(ctx, "tick skipped: the payer's last export is not finished", "due_at", due)
			return e.store.NoteTickTx(ctx, tx, args.Payer, args.Schedule, due, store.TickSkipped, 0)
		}
		if err != nil {
			return err
		}
		if err := e.store.NoteTickTx(ctx, tx, args.Payer, args.Schedule, due, store.TickStarted, id); err != nil {
			return err
		}
		log.InfoContext(ctx, "export due", "export_id", id, "due_at", due, "kind", request.Kind)
		return e.insertTx(ctx, tx, startExportArgs{ExportID: id}, "")
	})
	if errors.Is(err, store.ErrExportRunning) {
		// A full export comes seldom: it waits for its turn rather than for its next tick.
		return river.JobSnooze(time.Minute)
	}
	return err
}
