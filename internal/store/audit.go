package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Source says by which way a change was asked for.
type Source string

// The sources of a change.
const (
	SourceCLI    Source = "cli"    // a command on the database
	SourceAPI    Source = "api"    // the admin API of a daemon
	SourceDaemon Source = "daemon" // an instance by itself
)

// Actor is who changes something, and from where. The zero Actor is an instance of ingestd by itself.
type Actor struct {
	// Name is who asked, by their own word.
	Name   string
	Source Source
	// Host is the host whose process makes the change.
	Host string
	// RemoteAddress is where the request came from; empty for that of the database connection.
	RemoteAddress string
}

// String is the actor's name.
func (a Actor) String() string {
	if a.Name == "" {
		return "ingestd"
	}
	return a.Name
}

// The actions that are audited.
const (
	ActionRun             = "run"
	ActionRetry           = "retry"
	ActionCancel          = "cancel"
	ActionRelease         = "release"
	ActionReject          = "reject"
	ActionPause           = "pause"
	ActionResume          = "resume"
	ActionRetryQuarantine = "quarantine retry"
	ActionRemovePayer     = "payers remove"
	ActionMigrate         = "migrate"
	ActionGrant           = "grant"
	ActionShowQuarantine  = "quarantine show"
	ActionPruneAudit      = "audit prune"
)

// Actions of instances by themselves, day and night.
const (
	ActionExportStart   = "export start"
	ActionExportPublish = "export publish"
	ActionExportHold    = "export hold"
	ActionExportFail    = "export fail"
	ActionToken         = "token"
	ActionConfigure     = "configure"
	ActionPrune         = "prune"
)

// routine are the actions of instances by themselves. A list of what operators changed leaves them out.
var routine = []string{ActionExportStart, ActionExportPublish, ActionExportHold, ActionExportFail, ActionToken, ActionConfigure, ActionPrune}

// ExportObject is the object of an audit event about an export.
func ExportObject(id int64) string { return fmt.Sprintf("export %d", id) }

// PayerObject is the object of an audit event about a payer.
func PayerObject(payer string) string { return "payer " + payer }

// AuditEvent is one change: who, what, when, from where. Its JSON form is a public interface.
type AuditEvent struct {
	ID            int64          `json:"id"`
	At            time.Time      `json:"at"`
	Actor         string         `json:"actor"`
	Source        Source         `json:"source"`
	Host          string         `json:"host"`
	RemoteAddress string         `json:"remote_address"`
	DatabaseRole  string         `json:"database_role"`
	Action        string         `json:"action"`
	Object        string         `json:"object"`
	Details       map[string]any `json:"details"`
}

// AuditTx records a change in the transaction that makes it. Details hold numbers, states and names of the configuration: no PHI,
// no secrets, nothing that a payer sent.
func (s *Store) AuditTx(ctx context.Context, tx pgx.Tx, by Actor, action, object string, details map[string]any) error {
	if by.Source == "" {
		by.Source = SourceDaemon
	}
	if details == nil {
		details = map[string]any{}
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO ingest.audit_event (actor, source, host, remote_address, action, object, details)
		VALUES ($1, $2, $3, coalesce(nullif($4, ''), host(inet_client_addr()), ''), $5, $6, $7)`,
		cleanText(by.String()), by.Source, cleanText(by.Host), by.RemoteAddress, action, cleanText(object), details)
	if err != nil {
		s.auditFailures.Add(1)
		return fmt.Errorf("record who did %s to %s: %w", action, object, err)
	}
	return nil
}

// AuditFailures counts the events that could not be written: what they tell of was undone with them.
func (s *Store) AuditFailures() int64 { return s.auditFailures.Load() }

// AuditFilter narrows a list of audit events; zero fields do not.
type AuditFilter struct {
	Since  time.Time
	Until  time.Time // events of this instant are not listed
	Action string
	Object string
	// All lists what instances did by themselves, too: exports, tokens, configurations. An Action does so for its own.
	All bool
	// OldestFirst lists the events behind the one of number After in their order, for one page after the other.
	OldestFirst bool
	After       int64
}

// AuditEvents lists the newest events first, or with f.OldestFirst the oldest.
func (s *Store) AuditEvents(ctx context.Context, f AuditFilter, limit int) ([]AuditEvent, error) {
	order := "DESC"
	if f.OldestFirst {
		order = "ASC"
	}
	rows, err := s.pool.Query(ctx, `
		SELECT id, at, actor, source, host, remote_address, database_role, action, object, details FROM ingest.audit_event
		WHERE id > $1 AND ($2::timestamptz IS NULL OR at >= $2) AND ($3::timestamptz IS NULL OR at < $3)
			AND ($4 = '' OR action = $4) AND ($5 = '' OR object = $5) AND ($6 OR $4 <> '' OR action <> ALL ($7))
		ORDER BY id `+order+` LIMIT $8`, f.After, orNull(f.Since), orNull(f.Until), f.Action, f.Object, f.All, routine, limit)
	if err != nil {
		return nil, fmt.Errorf("list the audit events: %w", err)
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[AuditEvent])
	if err != nil {
		return nil, fmt.Errorf("list the audit events: %w", err)
	}
	return events, nil
}

// auditExportTx records what became of an export, in the transaction in which it does.
func (s *Store) auditExportTx(ctx context.Context, tx pgx.Tx, id int64, action string, details map[string]any) error {
	var payer, kind string
	if err := tx.QueryRow(ctx, `SELECT payer, kind FROM ingest.export WHERE id = $1`, id).Scan(&payer, &kind); err != nil {
		return fmt.Errorf("read export %d for the audit: %w", id, err)
	}
	if details == nil {
		details = make(map[string]any)
	}
	details["payer"], details["kind"] = payer, kind
	return s.AuditTx(ctx, tx, Actor{}, action, ExportObject(id), details)
}
