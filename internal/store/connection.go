package store

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
)

// A host that loses its power or its network says no goodbye. Without a sign of life from the other end, each end gives a
// connection up after silence and count times interval: 25 s.
const (
	silence      = 10 * time.Second
	signInterval = 5 * time.Second
	signCount    = 3
)

// dialer connects to Postgres, and notices by itself when that has gone without a word.
func dialer() *net.Dialer {
	return &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silence, Interval: signInterval, Count: signCount}}
}

// expectSigns makes Postgres notice when this end of a connection that holds a lock has gone: by the defaults of most systems it
// would keep the lock on a file of a dead host for two hours, in which nobody else could load it. It is said to the session, not
// when connecting, because poolers refuse parameters that they do not know.
func expectSigns(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, fmt.Sprintf(`SET tcp_keepalives_idle = %d; SET tcp_keepalives_interval = %d; SET tcp_keepalives_count = %d;
		SET tcp_user_timeout = %d`, int(silence.Seconds()), int(signInterval.Seconds()), signCount,
		(silence+signCount*signInterval).Milliseconds()))
	if err != nil {
		return fmt.Errorf("set how a lost connection is noticed: %w", err)
	}
	return nil
}
