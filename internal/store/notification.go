package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Notification is an event that targets are told.
type Notification struct {
	ID         int64
	Body       []byte // JSON
	OccurredAt time.Time
}

// ErrNoNotification says that there is no notification of that number: its payer was removed, or it is too old.
var ErrNoNotification = errors.New("no such notification")

// AddNotificationTx writes what is to be told, in the transaction of the change that it tells of.
func (s *Store) AddNotificationTx(ctx context.Context, tx pgx.Tx, payer, event string, body []byte) (int64, error) {
	var id int64
	err := tx.QueryRow(ctx, `INSERT INTO ingest.notification (payer, event, body) VALUES ($1, $2, $3) RETURNING id`,
		payer, event, body).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("note what is to be told of %s: %w", payer, err)
	}
	return id, nil
}

// Notification returns the notification of that number; ErrNoNotification where there is none.
func (s *Store) Notification(ctx context.Context, id int64) (Notification, error) {
	n := Notification{ID: id}
	err := s.pool.QueryRow(ctx, `SELECT body, occurred_at FROM ingest.notification WHERE id = $1`, id).Scan(&n.Body, &n.OccurredAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return n, ErrNoNotification
	}
	if err != nil {
		return n, fmt.Errorf("read notification %d: %w", id, err)
	}
	return n, nil
}

// PruneNotifications forgets notifications that are older than keep, and returns how many.
func (s *Store) PruneNotifications(ctx context.Context, keep time.Duration) (int64, error) {
	tag, err := s.pool.Exec(ctx, `DELETE FROM ingest.notification WHERE occurred_at < now() - $1::interval`, keep)
	if err != nil {
		return 0, fmt.Errorf("prune the notifications: %w", err)
	}
	return tag.RowsAffected(), nil
}

// PruneIncidents forgets incidents that have been over for longer than keep, and returns how many.
func (s *Store) PruneIncidents(ctx context.Context, keep time.Duration) (int64, error) {
	tag, err := s.pool.Exec(ctx, `DELETE FROM ingest.incident WHERE closed_at < now() - $1::interval`, keep)
	if err != nil {
		return 0, fmt.Errorf("prune the incidents: %w", err)
	}
	return tag.RowsAffected(), nil
}
