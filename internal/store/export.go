package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// State is where an export stands.
type State string

// The states of an export, in the order in which a good one passes them.
const (
	StateStarting   State = "starting"   // to be kicked off
	StatePolling    State = "polling"    // the payer is at work; files that it names ahead are copied to staging
	StateLoading    State = "loading"    // files are copied to staging
	StatePublishing State = "publishing" // all files are staged
	StateHeld       State = "held"       // staged, but an operator has to release or reject it
	StatePublished  State = "published"
	StateFailed     State = "failed"
	StateCanceled   State = "canceled"
)

// Active reports whether an export in this state keeps another one of its payer from starting.
func (s State) Active() bool {
	switch s {
	case StateStarting, StatePolling, StateLoading, StatePublishing, StateHeld:
		return true
	case StatePublished, StateFailed, StateCanceled:
	}
	return false
}

// loads reports whether files are loaded in this state: while the payer is at work, those of the pages that it sends ahead.
func (s State) loads() bool { return s == StatePolling || s == StateLoading }

// Kind says whether an export asked for all data or for what changed.
type Kind string

// The kinds of an export.
const (
	KindFull        Kind = "full"
	KindIncremental Kind = "incremental"
	KindBackfill    Kind = "backfill" // all data of some patients
)

// Trigger says what started an export.
type Trigger string

// The triggers of an export.
const (
	TriggerSchedule  Trigger = "schedule"
	TriggerManual    Trigger = "manual"
	TriggerNewcomers Trigger = "newcomers" // patients joined the group
	TriggerNewTypes  Trigger = "new_types" // the configuration names types that were not asked for before
)

// Ledger accounts for every line of an export's output files: Lines equals Inserted + Updated + Unchanged + Superseded +
// Quarantined, or the export is not published.
type Ledger struct {
	Lines       int64
	Bytes       int64 // decompressed
	WireBytes   int64 // as transferred
	Inserted    int64
	Updated     int64
	Unchanged   int64
	Superseded  int64 // an older version, or an earlier line, of a resource that the export holds again
	Deleted     int64 // rows removed because a deleted file named them
	Ghosts      int64 // rows removed because a full export no longer held them
	Quarantined int64
}

// Export is one row of ingest.export.
type Export struct {
	ID            int64
	Payer         string
	State         State
	Kind          Kind
	Trigger       Trigger
	DueAt         time.Time // zero for a run by hand
	Queue         string
	Waiting       bool      // it is recorded, and has its turn later: see AdmitTx
	AdmittedAt    time.Time // when its waiting ended; zero where it never waited
	Series        string
	Types         []string
	Since         string
	Patients      []string // that a back-fill asks for
	Granted       []string // of an export of all types, those that may be read; nil: all, or it is not known
	RemovesGhosts bool
	Released      bool   // an operator released it: the ghost guard has been overruled
	Settings      string // digest of the settings that it began with; empty where they were not kept

	Adopted         bool // it is one that the payer ran already, after the answer to a kick-off had been lost
	StatusURL       string
	SeparateStatus  bool // the payer tells the export's state apart from that of the request for it
	KickOffDate     time.Time
	Progress        string
	ProgressPercent float64   // -1 where unknown
	ProgressAt      time.Time // when the payer last said something else of its progress; zero where it never did
	StalledAt       time.Time // since when it takes far longer than others did; zero where it does not
	OldStatusURLs   []string  // of jobs that were given up, and are still to be ended at the payer
	Polls           int
	Restarts        int
	Generation      int // of its jobs: one of an older generation has been replaced, and has nothing left to do
	TransactionTime string
	TransactionAt   time.Time
	OrganizedBy     string // the type by whose instances the output is organized; empty: one type a file

	CreatedAt   time.Time
	KickedOffAt time.Time
	ManifestAt  time.Time
	LoadedAt    time.Time
	FinishedAt  time.Time
	CleanedUpAt time.Time

	ErrorCode string
	Error     string // may hold what the payer said, hence PHI: for operators, never for logs
	Hint      string

	Trouble Trouble

	// WantsFull says of an export that was published just now that a full one is due: types are granted that were not before.
	WantsFull bool

	Ledger
}

const exportColumns = `
	id, payer, state, kind, trigger, due_at, queue, waiting, admitted_at, series, types, since, patients, granted, removes_ghosts, released_by <> '', settings,
	adopted, status_url, separate_status, kick_off_date, progress, coalesce(progress_percent, -1), progress_at, stalled_at, old_status_urls, polls, restarts, generation, transaction_time, transaction_at, organized_by,
	created_at, kicked_off_at, manifest_at, loaded_at, finished_at, cleaned_up_at, error_code, error, hint,
	trouble_at, trouble_code, trouble, trouble_hint, coalesce(trouble_file, -1),
	lines, bytes, wire_bytes, inserted, updated, unchanged, superseded, deleted, ghosts, quarantined`

func scanExport(row pgx.CollectableRow) (Export, error) {
	var e Export
	var progress, stalled, trouble *time.Time
	var due, admitted, date, transaction, kickedOff, manifest, loaded, finished, cleaned *time.Time
	err := row.Scan(&e.ID, &e.Payer, &e.State, &e.Kind, &e.Trigger, &due, &e.Queue, &e.Waiting, &admitted, &e.Series, &e.Types, &e.Since,
		&e.Patients, &e.Granted, &e.RemovesGhosts, &e.Released, &e.Settings,
		&e.Adopted, &e.StatusURL, &e.SeparateStatus, &date, &e.Progress, &e.ProgressPercent,
		&progress, &stalled, &e.OldStatusURLs, &e.Polls, &e.Restarts, &e.Generation, &e.TransactionTime, &transaction, &e.OrganizedBy,
		&e.CreatedAt, &kickedOff, &manifest, &loaded, &finished, &cleaned, &e.ErrorCode, &e.Error, &e.Hint,
		&trouble, &e.Trouble.Code, &e.Trouble.Text, &e.Trouble.Hint, &e.Trouble.File,
		&e.Lines, &e.Bytes, &e.WireBytes, &e.Inserted, &e.Updated, &e.Unchanged, &e.Superseded, &e.Deleted, &e.Ghosts,
		&e.Quarantined)
	if err != nil {
		return e, err
	}
	e.DueAt, e.AdmittedAt, e.KickOffDate, e.TransactionAt = orZero(due), orZero(admitted), orZero(date), orZero(transaction)
	e.KickedOffAt, e.ManifestAt, e.LoadedAt, e.FinishedAt = orZero(kickedOff), orZero(manifest), orZero(loaded), orZero(finished)
	e.CleanedUpAt, e.ProgressAt, e.StalledAt = orZero(cleaned), orZero(progress), orZero(stalled)
	e.Trouble.At = orZero(trouble)
	return e, nil
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// NewExport is what is known of an export before its kick-off.
type NewExport struct {
	Payer         string
	Kind          Kind
	Trigger       Trigger
	DueAt         time.Time
	Queue         string
	Waiting       bool // it begins when AdmitTx lets it
	Series        string
	Types         []string
	Since         string
	Patients      []string // for a back-fill
	RemovesGhosts bool
	Settings      Settings // of the payer, for whichever instance goes on with it
}

// ErrExportRunning says that the payer has an export that is not finished.
var ErrExportRunning = errors.New("another export of this payer is not finished")

// ErrNoExport says that there is no export of that number.
var ErrNoExport = errors.New("no such export")

// errStale says that the row was not in the state that the change begins at: somebody else was faster, and the caller,
// which may be a duplicate of a job, has nothing left to do.
var errStale = errors.New("the export is in another state")

// IsStale reports whether err says that a change came too late, because another job had already made it.
func IsStale(err error) bool { return errors.Is(err, errStale) }

// CreateExportTx records a new export. ErrExportRunning says that the payer has one that is not finished.
func (s *Store) CreateExportTx(ctx context.Context, tx pgx.Tx, n NewExport) (int64, error) {
	if n.Types == nil {
		n.Types = []string{}
	}
	if n.Patients == nil {
		n.Patients = []string{}
	}
	var id int64
	err := tx.QueryRow(ctx, `
		INSERT INTO ingest.export (payer, kind, trigger, due_at, queue, series, types, since, removes_ghosts, patients, waiting, settings)
		SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12
		WHERE NOT EXISTS ( -- spares the number of an export that the index below would refuse
			SELECT FROM ingest.export WHERE payer = $1 AND state IN ('starting', 'polling', 'loading', 'publishing', 'held'))
		ON CONFLICT (payer) WHERE state IN ('starting', 'polling', 'loading', 'publishing', 'held') DO NOTHING
		RETURNING id`,
		n.Payer, n.Kind, n.Trigger, orNull(n.DueAt), n.Queue, n.Series, n.Types, n.Since, n.RemovesGhosts, n.Patients, n.Waiting,
		n.Settings.Digest).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, ErrExportRunning
	}
	if err != nil {
		return 0, fmt.Errorf("record an export of %s: %w", n.Payer, err)
	}
	if err := s.auditExportTx(ctx, tx, id, ActionExportStart, map[string]any{"trigger": n.Trigger}); err != nil {
		return 0, err
	}
	return id, keepSettingsTx(ctx, tx, n.Payer, n.Settings)
}

// Export returns the export of that number; ErrNoExport where there is none, as a *GoneError where there was one.
func (s *Store) Export(ctx context.Context, id int64) (Export, error) {
	e, err := exportRow(ctx, s.pool, `SELECT `+exportColumns+` FROM ingest.export WHERE id = $1`, id)
	if errors.Is(err, ErrNoExport) {
		return e, s.gone(ctx, id)
	}
	return e, err
}

// ExportTx is Export as the transaction sees it.
func (s *Store) ExportTx(ctx context.Context, tx pgx.Tx, id int64) (Export, error) {
	return exportRow(ctx, tx, `SELECT `+exportColumns+` FROM ingest.export WHERE id = $1`, id)
}

func exportRow(ctx context.Context, db querier, sql string, args ...any) (Export, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return Export{}, fmt.Errorf("read an export: %w", err)
	}
	e, err := pgx.CollectExactlyOneRow(rows, scanExport)
	if errors.Is(err, pgx.ErrNoRows) {
		return Export{}, ErrNoExport
	}
	if err != nil {
		return Export{}, fmt.Errorf("read an export: %w", err)
	}
	return e, nil
}

// ExportForUpdateTx returns the export of that number and keeps others from changing it until the transaction ends; ErrNoExport where
// there is none.
func (s *Store) ExportForUpdateTx(ctx context.Context, tx pgx.Tx, id int64) (Export, error) {
	return lockRow(ctx, tx, id)
}

// lockRow reads an export and keeps others from changing it until the transaction ends.
func lockRow(ctx context.Context, tx pgx.Tx, id int64) (Export, error) {
	return exportRow(ctx, tx, `SELECT `+exportColumns+` FROM ingest.export WHERE id = $1 FOR UPDATE`, id)
}

// Exports lists the newest exports first: of one payer, or of all where payer is empty.
func (s *Store) Exports(ctx context.Context, payer string, limit int) ([]Export, error) {
	return s.ExportsIn(ctx, payer, "", limit)
}

// ExportsIn is Exports of those in one state, or in any where state is empty; waiting are those starting that have not had their turn.
func (s *Store) ExportsIn(ctx context.Context, payer string, state State, limit int) ([]Export, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+exportColumns+` FROM ingest.export
		WHERE ($1 = '' OR payer = $1) AND ($2 = '' OR state = $2 OR $2 = 'waiting' AND state = 'starting' AND waiting) ORDER BY id DESC LIMIT $3`, payer, state, limit)
	if err != nil {
		return nil, fmt.Errorf("list the exports: %w", err)
	}
	exports, err := pgx.CollectRows(rows, scanExport)
	if err != nil {
		return nil, fmt.Errorf("list the exports: %w", err)
	}
	return exports, nil
}

// BeginJob puts the reaper off while a job of this generation is at work on an export in this state, for at most the given
// time. IsStale says that the job has been replaced, or has nothing left to do.
func (s *Store) BeginJob(ctx context.Context, id int64, generation int, state State, atMost time.Duration) (Export, error) {
	err := change(ctx, s.pool, `UPDATE ingest.export SET job_due_at = now() + $4::interval
		WHERE id = $1 AND generation = $2 AND state = $3`, id, generation, state, atMost)
	if err != nil {
		return Export{}, err
	}
	return s.Export(ctx, id)
}

// KickedOffTx stores where the status of an accepted export is asked for: starting → polling. covers is what the authorization covers
// thereafter, as in BeginKickOff: the token may have been exchanged for the kick-off.
func (s *Store) KickedOffTx(ctx context.Context, tx pgx.Tx, id int64, generation int, statusURL string, date time.Time,
	covers func(resourceType string) bool,
) error {
	return change(ctx, tx, `
		UPDATE ingest.export
		SET state = 'polling', adopted = false, status_url = $3, kick_off_date = $4, kicked_off_at = now(), job_due_at = now(), polls = 0,
			progress = '', progress_percent = NULL, progress_at = NULL, stalled_at = NULL, trouble_at = NULL,
			granted = `+bothGranted("granted", "$5::text[]")+`
		WHERE id = $1 AND generation = $2 AND state = 'starting'`, id, generation, cleanText(statusURL), orNull(date), grantedTypes(covers))
}

// NotePoll stores what the payer said of an export that is not complete, and in how long it will be asked again.
func (s *Store) NotePoll(ctx context.Context, id int64, generation int, progress string, percent float64, next time.Duration) error {
	var known *float64
	if percent >= 0 {
		known = &percent
	}
	return change(ctx, s.pool, `
		UPDATE ingest.export SET polls = polls + 1, progress = $3, progress_percent = $4, job_due_at = now() + $5::interval,
			progress_at = CASE WHEN progress = $3 THEN progress_at ELSE now() END,
			stalled_at = CASE WHEN progress = $3 THEN stalled_at END,
			trouble_at = CASE WHEN trouble_file IS NOT NULL THEN trouble_at END
		WHERE id = $1 AND generation = $2 AND state = 'polling'`, id, generation, cleanText(progress), known, next)
}

// NoteJobDue stores in how long the next job of an export is due, so that the reaper does not take its waiting for its end.
// The time counts by the database's clock: those of instances may differ.
func (s *Store) NoteJobDue(ctx context.Context, id int64, generation int, wait time.Duration) error {
	return change(ctx, s.pool, `UPDATE ingest.export SET job_due_at = now() + $3::interval
		WHERE id = $1 AND generation = $2`, id, generation, wait)
}

// RestartTx makes an export that the payer has lost start again: polling or loading → starting. What was staged of it is
// void, because a new job's files need not be the same. Of several jobs of a generation that find the export lost, one
// starts it again.
func (s *Store) RestartTx(ctx context.Context, tx pgx.Tx, id int64, generation int) error {
	err := change(ctx, tx, `
		UPDATE ingest.export
		SET state = 'starting', status_url = '', adopted = false, kicked_off_at = now(), stalled_at = NULL,
			old_status_urls = CASE WHEN adopted OR status_url = '' THEN old_status_urls ELSE old_status_urls || status_url END,
			restarts = restarts + 1, generation = generation + 1,
			job_due_at = now(), progress = '',
			progress_percent = NULL, manifest_at = NULL, late_at = NULL
		WHERE id = $1 AND generation = $2 AND state IN ('polling', 'loading')`, id, generation)
	if err != nil {
		return err
	}
	for _, sql := range []string{
		`DELETE FROM ingest.export_file WHERE export_id = $1`,
		`DELETE FROM ingest.export_type WHERE export_id = $1`,
		`DELETE FROM ingest.quarantine WHERE export_id = $1`,
		`DELETE FROM ingest.outcome WHERE export_id = $1`,
		`DELETE FROM ingest.attachment WHERE export_id = $1`,
	} {
		if _, err := tx.Exec(ctx, sql, id); err != nil {
			return fmt.Errorf("void what was staged: %w", err)
		}
	}
	return nil
}

// Failure is why an export ended without being published.
type Failure struct {
	Code string // stable; the heading of a runbook
	Text string // for operators; may hold what the payer said
	Hint string // what to do about it
}

// FailTx ends an export that is not finished: its data stays as it was, its watermark does not move. What failed an older
// generation of its jobs is no failure of an export that has been taken over or started again since.
func (s *Store) FailTx(ctx context.Context, tx pgx.Tx, id int64, generation int, f Failure) error {
	err := change(ctx, tx, `
		UPDATE ingest.export
		SET state = 'failed', error_code = $3, error = $4, hint = $5, finished_at = now(), job_due_at = now()
		WHERE id = $1 AND generation = $2 AND state IN ('starting', 'polling', 'loading', 'publishing')`,
		id, generation, f.Code, cleanText(f.Text), cleanText(f.Hint))
	if err != nil {
		return err
	}
	return s.auditExportTx(ctx, tx, id, ActionExportFail, map[string]any{"code": f.Code})
}

// CancelTx ends an export by an operator's decision, also one that is held.
func (s *Store) CancelTx(ctx context.Context, tx pgx.Tx, id int64, reason string) error {
	return change(ctx, tx, `
		UPDATE ingest.export
		SET state = 'canceled', error_code = 'canceled', error = $2, hint = '', finished_at = now(), job_due_at = now()
		WHERE id = $1 AND state IN ('starting', 'polling', 'loading', 'publishing', 'held')`, id, reason)
}

// ReleaseTx lets a held export be published as it is: held → publishing.
func (s *Store) ReleaseTx(ctx context.Context, tx pgx.Tx, id int64, by string) error {
	return change(ctx, tx, `
		UPDATE ingest.export
		SET state = 'publishing', released_by = $2, error_code = '', error = '', hint = '', job_due_at = now(), trouble_at = NULL
		WHERE id = $1 AND state = 'held'`, id, by)
}

// CleanedUp records that the payer was told and the staging tables are gone. Of the URLs of files the queries go, too: they may be
// signatures that open the files for longer than anybody needs.
func (s *Store) CleanedUp(ctx context.Context, id int64) error {
	return change(ctx, s.pool, `
		WITH cut AS (UPDATE ingest.export_file SET url = split_part(url, '?', 1) WHERE export_id = $1 AND strpos(url, '?') > 0)
		UPDATE ingest.export SET cleaned_up_at = now() WHERE id = $1`, id)
}

// change runs an UPDATE that must meet exactly one row; no row means that the state was another one.
func change(ctx context.Context, db execer, sql string, args ...any) error {
	tag, err := db.Exec(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("change an export: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return errStale
	}
	return nil
}
