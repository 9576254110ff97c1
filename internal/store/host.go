package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// maxAllowance is how many files at once a host that has pushed back may grow to, before it counts as any other again.
	maxAllowance = 64
	// slowPause is how long further refusals count as the same: those of requests that were on their way.
	slowPause = 5 * time.Second
	// growPause is how long a host has to be quiet before it is asked for one more at once.
	growPause = 10 * time.Second
)

// HostBusyError says that a host is not to be asked for a file now.
type HostBusyError struct {
	Host string
	Wait time.Duration
}

func (e *HostBusyError) Error() string {
	return fmt.Sprintf("%s asked for patience: nothing is asked of it for %s", e.Host, e.Wait.Round(time.Millisecond))
}

// slotWait is how long to wait for another file of a host to end.
const slotWait = 500 * time.Millisecond

// TakeSlot lets the holder of a lease ask a host for a file, until it releases the lease. A host that has pushed back, at
// whichever payer and instance, has a number of slots; a *HostBusyError says that none is free, or that it asked for patience.
// limited tells whether the host has pushed back lately: then HostServed is to be told of success. A slot dies with the connection
// that holds it, like the lock on the file.
func (s *Store) TakeSlot(ctx context.Context, lease *Lease, host string) (limited bool, err error) {
	var wait time.Duration
	var allowance *int
	err = lease.Conn().QueryRow(ctx, `SELECT greatest(blocked_until - now(), interval '0'), allowance FROM ingest.host WHERE host = $1`,
		host).Scan(&wait, &allowance)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look whether %s may be asked: %w", host, err)
	case wait > 0:
		return true, &HostBusyError{Host: host, Wait: wait}
	case allowance == nil:
		return false, nil
	}
	for slot := range *allowance {
		taken, err := lease.also(ctx, lockKey(fmt.Sprintf("host/%s/%d", host, slot)))
		if err != nil {
			return true, err
		}
		if taken {
			return true, nil
		}
	}
	return true, &HostBusyError{Host: host, Wait: slotWait}
}

// HostRefused notes that a host answered 429 or 503: nobody asks it again before wait has passed, and then half as many at
// once. Refusals of requests that were on their way at the same time count as one.
func (s *Store) HostRefused(ctx context.Context, host string, wait time.Duration) error {
	_, err := s.pool.Exec(ctx, `
		INSERT INTO ingest.host AS host (host, blocked_until, allowance, slowed_at)
		SELECT $1, now() + $2::interval, greatest(count(*) / 2, 1), now()
		FROM ingest.export_file AS file JOIN ingest.export AS export ON export.id = file.export_id
		WHERE export.state IN ('polling', 'loading') AND file.state = 'queued' AND split_part(file.url, '/', 3) = split_part($1, '/', 3)
		ON CONFLICT (host) DO UPDATE SET
			blocked_until = greatest(host.blocked_until, excluded.blocked_until),
			allowance = CASE
				WHEN host.allowance IS NULL THEN excluded.allowance
				WHEN host.slowed_at > now() - $3::interval THEN host.allowance
				ELSE greatest(least(host.allowance, 2 * excluded.allowance) / 2, 1) END,
			slowed_at = now()`, host, wait, slowPause)
	if err != nil {
		return fmt.Errorf("note that %s refused: %w", host, err)
	}
	return nil
}

// HostServed notes that a host that had pushed back has served a file: after a while without refusals it is asked for one
// more at once, until it counts as any other again.
func (s *Store) HostServed(ctx context.Context, host string) error {
	_, err := s.pool.Exec(ctx, `
		UPDATE ingest.host SET allowance = CASE WHEN allowance < $2 THEN allowance + 1 END, grown_at = now()
		WHERE host = $1 AND allowance IS NOT NULL AND greatest(slowed_at, grown_at) < now() - $3::interval`,
		host, maxAllowance, growPause)
	if err != nil {
		return fmt.Errorf("note that %s served: %w", host, err)
	}
	return nil
}
