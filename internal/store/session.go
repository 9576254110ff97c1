package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNoSession says that the connections for what needs a session lead to a pooler that gives each transaction another one. Locks
// would be lost, or kept for ever by a session that nobody has.
var ErrNoSession = errors.New("it leads to a connection pooler that gives each transaction another session (as PgBouncer does with " +
	"pool_mode = transaction), where locks do not hold: set database.direct_url to the same database without the pooler, " +
	"or by a pool with pool_mode = session")

// ErrOtherDatabase says that database.url and database.direct_url are not the same database.
var ErrOtherDatabase = errors.New("database.direct_url leads to another database or server than database.url: " +
	"it has to be the same, without the pooler")

const (
	// sessionLooks is how often a pooler is looked at before it counts as one that keeps a session for a connection. One that does not
	// shows at the first, unless others are busy with its connections in that moment.
	sessionLooks = 20
	// sessionTimeout bounds the wait for a second session: a pool that has only one for this user keeps it for the first.
	sessionTimeout = 5 * time.Second
)

// checkSessions reports connections that cannot do what they are used for, as ErrNoSession or ErrOtherDatabase.
func (s *Store) checkSessions(ctx context.Context) error {
	key := "database.url"
	if s.pooled {
		key = "database.direct_url"
	}
	conn, err := s.connectSession(ctx)
	if err != nil {
		return fmt.Errorf("connect to Postgres by %s: %w", key, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	keeps, err := s.keepsSession(ctx, conn)
	if err != nil {
		return fmt.Errorf("look whether %s keeps a session: %w", key, err)
	}
	if !keeps {
		return fmt.Errorf("%s: %w", key, ErrNoSession)
	}
	if s.pooled {
		return s.checkSameDatabase(ctx, conn)
	}
	return nil
}

// keepsSession reports whether a connection stays with one session of Postgres. Postgres tells a new connection the number of its
// process; a pooler makes one up. Behind a pooler, the session of a connection that rests goes to the next one that asks.
func (s *Store) keepsSession(ctx context.Context, conn *pgx.Conn) (bool, error) {
	first, err := backend(ctx, conn)
	if err != nil || first == conn.PgConn().PID() {
		return err == nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	other, err := s.connectSession(waiting)
	if err != nil {
		return ctx.Err() == nil, ctx.Err()
	}
	defer func() { _ = other.Close(context.WithoutCancel(ctx)) }()
	for range sessionLooks {
		second, err := backend(waiting, other)
		switch {
		case ctx.Err() != nil:
			return false, fmt.Errorf("ask for the session: %w", context.Cause(ctx))
		case waiting.Err() != nil:
			return true, nil
		case err != nil:
			return false, err
		case second == first:
			return false, nil
		}
		again, err := backend(ctx, conn)
		if err != nil || again != first {
			return false, err
		}
	}
	return true, nil
}

// backend is the number of the process of Postgres that answers.
func backend(ctx context.Context, conn *pgx.Conn) (uint32, error) {
	var pid uint32
	if err := conn.QueryRow(ctx, `SELECT pg_backend_pid()`, pgx.QueryExecModeSimpleProtocol).Scan(&pid); err != nil {
		return 0, fmt.Errorf("ask for the session: %w", err)
	}
	return pid, nil
}

// checkSameDatabase takes a lock by one connection string and looks whether it is taken by the other: locks are a database's.
func (s *Store) checkSameDatabase(ctx context.Context, conn *pgx.Conn) error {
	return inTx(ctx, conn, func(direct pgx.Tx) error {
		key := rand.Int64() //nolint:gosec // it has to be nobody else's, not secret
		if err := lockTx(ctx, direct, key); err != nil {
			return err
		}
		return inTx(ctx, s.pool, func(tx pgx.Tx) error {
			free, err := tryLockTx(ctx, tx, key)
			if err != nil {
				return err
			}
			if free {
				return ErrOtherDatabase
			}
			return nil
		})
	})
}
