package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// firstPause and longestPause lie between two looks for a database that is not there.
	firstPause   = 500 * time.Millisecond
	longestPause = 15 * time.Second
	// lookTimeout bounds one look.
	lookTimeout = 10 * time.Second
)

// WaitUntilUp returns when the database answers and prepare has succeeded, which is called again where the database went away
// meanwhile. While it is not there, report is told why and how long the pause to the next look is. An error is one that
// waiting does not mend, such as a wrong password, or ctx's.
func (s *Store) WaitUntilUp(ctx context.Context, prepare func(context.Context) error, report func(err error, pause time.Duration)) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := s.look(ctx)
		if err == nil {
			err = prepare(ctx)
		}
		if err == nil || ctx.Err() != nil || !MayComeUp(err) {
			return err
		}
		report(err, pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("wait for Postgres: %w", context.Cause(ctx))
		}
	}
}

func (s *Store) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return s.connect(ctx)
}

// MayComeUp reports whether a failure to reach the database may pass by itself: nothing listens yet, it starts, recovers or
// shuts down, has no connection left, or the connection broke. A refusal is for an operator.
func MayComeUp(err error) bool {
	if state := SQLState(err); state != "" {
		// Connection exceptions, too many connections, and what a server says while it starts or stops.
		return state[:2] == "08" || state == "53300" || slices.Contains([]string{"57P01", "57P02", "57P03"}, state)
	}
	var connect *pgconn.ConnectError
	var network *net.OpError
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, pgconn.ErrConnClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}
