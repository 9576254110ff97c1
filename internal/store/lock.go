package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrLocked says that another job, on this or another instance, is at work on the same export or file.
var ErrLocked = errors.New("another job is at work on it")

// Lease is a connection that holds a session advisory lock. The lock dies with the connection, so what an instance held
// is free as soon as Postgres notices that it is gone; and what is written through Conn cannot outlive the lock.
type Lease struct {
	conn *pgxpool.Conn
	keys []int64
}

// also takes a further lock for as long as the lease lives; false where somebody holds it.
func (l *Lease) also(ctx context.Context, key int64) (bool, error) {
	var locked bool
	if err := l.Conn().QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, key).Scan(&locked); err != nil {
		return false, fmt.Errorf("take a lock: %w", err)
	}
	if locked {
		l.keys = append(l.keys, key)
	}
	return locked, nil
}

// LockExport takes the lock on an export's publish; ErrLocked where somebody holds it.
func (s *Store) LockExport(ctx context.Context, exportID int64) (*Lease, error) {
	return s.lock(ctx, exportKey(exportID))
}

// LockFile takes the lock on the loading of a file; ErrLocked where somebody holds it.
func (s *Store) LockFile(ctx context.Context, exportID int64, ordinal int) (*Lease, error) {
	return s.lock(ctx, fileKey(exportID, ordinal))
}

func (s *Store) lock(ctx context.Context, key int64) (*Lease, error) {
	conn, err := s.bulk.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to take a lock: %w", err)
	}
	var locked bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, key).Scan(&locked); err != nil {
		conn.Release()
		return nil, fmt.Errorf("take a lock: %w", err)
	}
	if !locked {
		conn.Release()
		return nil, ErrLocked
	}
	return &Lease{conn: conn, keys: []int64{key}}, nil
}

// Conn is the connection that holds the lock.
func (l *Lease) Conn() *pgx.Conn { return l.conn.Conn() }

// Release gives the lock and the connection back.
func (l *Lease) Release(ctx context.Context) {
	for _, key := range l.keys {
		unlock(ctx, l.conn.Conn(), key)
	}
	l.conn.Release()
}

// unlock frees a session lock, or closes the connection where that fails: a pooled connection must not keep a lock.
func unlock(ctx context.Context, conn *pgx.Conn, key int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var freed bool
	err := conn.QueryRow(ctx, `SELECT pg_advisory_unlock($1)`, key).Scan(&freed)
	if err != nil || !freed {
		_ = conn.Close(ctx)
	}
}

// tryLockTx reports whether nobody holds the lock, and holds it until the transaction ends.
func tryLockTx(ctx context.Context, tx pgx.Tx, key int64) (bool, error) {
	var locked bool
	if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, key).Scan(&locked); err != nil {
		return false, fmt.Errorf("try a lock: %w", err)
	}
	return locked, nil
}

// lockTx waits for the lock and holds it until the transaction ends.
func lockTx(ctx context.Context, tx pgx.Tx, key int64) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, key); err != nil {
		return fmt.Errorf("wait for a lock: %w", err)
	}
	return nil
}

func exportKey(exportID int64) int64 { return lockKey(fmt.Sprintf("export/%d", exportID)) }
func fileKey(exportID int64, ordinal int) int64 {
	return lockKey(fmt.Sprintf("file/%d/%d", exportID, ordinal))
}
func tableKey(table string) int64 { return lockKey("table/" + table) }

// lockKey derives the 64-bit key of an advisory lock from a name. Advisory locks are shared by all users of a database,
// so the names carry the product's.
func lockKey(name string) int64 {
	sum := sha256.Sum256([]byte("ingestd/" + name))
	return int64(binary.BigEndian.Uint64(sum[:]))
}
