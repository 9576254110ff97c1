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
)

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
	Action string
	Object string
}

// AuditEvents lists the newest changes first.
func (s *Store) AuditEvents(ctx context.Context, f AuditFilter, limit int) ([]AuditEvent, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT id, at, actor, source, host, remote_address, database_role, action, object, details FROM ingest.audit_event
		WHERE ($1::timestamptz IS NULL OR at >= $1) AND ($2 = '' OR action = $2) AND ($3 = '' OR object = $3)
		ORDER BY id DESC LIMIT $4`, orNull(f.Since), f.Action, f.Object, limit)
	if err != nil {
		return nil, fmt.Errorf("list the audit events: %w", err)
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[AuditEvent])
	if err != nil {
		return nil, fmt.Errorf("list the audit events: %w", err)
	}
	return events, nil
}
