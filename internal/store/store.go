package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Options are what a Store needs.
type Options struct {
	// URL is a Postgres connection string. Its password never appears in an error or a log.
	URL string
	// DirectURL, where set, is a connection string of the same database for all that needs a session: loads, publishes, locks,
	// migrations and the job engine's LISTEN. URL may then lead to a pooler that gives each transaction another session.
	DirectURL string
	// Password, where set, is asked for the password of each new connection, in place of the URL's.
	Password func(ctx context.Context, l Login) (string, error)
	// VerifyServer refuses a URL by which the password might go to somebody else: it is sent as it is.
	VerifyServer bool
	// Schema holds the resource tables; fhir if empty. The history stands in Schema_history.
	Schema string
	// MaxConnections bounds the connections to the database; 10 if 0, and never fewer than 4. One is the job engine's,
	// to listen on; half of all, or fewer where that leaves too few, are for bulk
	// work, one a load or publish; the others are for everything that is quick.
	MaxConnections int
	// Lazy opens the store of a database that may not be there yet.
	Lazy   bool
	Logger *slog.Logger
}

// Store is the access to one database. It is safe for concurrent use.
type Store struct {
	pool    *pgxpool.Pool // without any state of a session: a pooler may stand in between
	bulk    *pgxpool.Pool // of its own, so that long loads never keep a short query waiting, nor the other way round
	listen  *pgxpool.Pool // of one connection, which the job engine takes to listen on
	pooled  bool          // DirectURL is set
	schema  string
	history string
	logger  *slog.Logger

	auditFailures atomic.Int64
}

// listener is the connection that the job engine listens on for new jobs. It takes it out of its pool.
const listener = 1

// Open connects to the database, unless o.Lazy leaves that to WaitUntilUp. It does not migrate it; see Migrate.
func Open(ctx context.Context, o Options) (*Store, error) {
	config, err := parseURL("database.url", o.URL)
	if err != nil {
		return nil, err
	}
	direct := config.Copy()
	if o.DirectURL != "" {
		if direct, err = parseURL("database.direct_url", o.DirectURL); err != nil {
			return nil, err
		}
		// A statement that was prepared by name is gone with the transaction's session. Described ones keep the types of arguments,
		// which the modes that describe nothing would have to guess.
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	for _, c := range []*pgxpool.Config{config, direct} {
		if err := signIn(c, o); err != nil {
			return nil, err
		}
	}
	bulk, listen := direct.Copy(), direct
	bulk.AfterConnect = expectSigns
	connections := max(4, min(orDefault(o.MaxConnections, 10), 10_000))
	bulkConnections := min(connections/2, connections-listener-2)
	config.MaxConns, bulk.MaxConns, listen.MaxConns = int32(connections-listener-bulkConnections), int32(bulkConnections), listener
	s := &Store{schema: o.Schema, logger: o.Logger, pooled: o.DirectURL != ""}
	if err := s.open(ctx, config, bulk, listen); err != nil {
		return nil, err
	}
	if !o.Lazy {
		if err := s.connect(ctx); err != nil {
			s.Close()
			return nil, err
		}
	}
	if s.schema == "" {
		s.schema = "fhir"
	}
	s.history = s.schema + "_history"
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	return s, nil
}

func parseURL(key, url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		// pgx redacts passwords where it can parse them; where it cannot, the text may be anything.
		return nil, errors.New(key + " is not a Postgres connection string: expected postgres://user@host:port/database")
	}
	if strings.Contains(config.ConnConfig.Database, "@") { // a failed connection would name the database, which is the rest of a password
		return nil, errors.New(key + " names a database with @ in it: expected / in a password as %2F, # as %23 and ? as %3F")
	}
	config.ConnConfig.RuntimeParams["application_name"] = "ingestd"
	// jsonb's stored form does not depend on it, but the text of timestamps in errors and history does.
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	config.ConnConfig.DialFunc = dialer().DialContext
	config.ConnConfig.BuildFrontend = scrubbedFrontend
	return config, nil
}

// open makes the pools, which connect when they are first used.
func (s *Store) open(ctx context.Context, configs ...*pgxpool.Config) error {
	for i, pool := range []**pgxpool.Pool{&s.pool, &s.bulk, &s.listen} {
		var err error
		if *pool, err = pgxpool.NewWithConfig(ctx, configs[i]); err != nil {
			s.Close()
			return fmt.Errorf("open the connection pool: %w", err)
		}
	}
	return nil
}

// connect sees that the database answers, by connections that are what they are used for.
func (s *Store) connect(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	return s.checkSessions(ctx)
}

// Close closes all connections; those in use are closed when they are returned.
func (s *Store) Close() {
	for _, pool := range []*pgxpool.Pool{s.listen, s.bulk, s.pool} {
		if pool != nil {
			pool.Close()
		}
	}
}

// BulkConnections is how many loads and publishes can run at once.
func (s *Store) BulkConnections() int { return int(s.bulk.Config().MaxConns) }

// Pool is the connection pool, for the job engine, which shares it. Nothing that is to outlive a transaction may be left in its
// sessions.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// ListenPool has the one connection that the job engine takes to listen on.
func (s *Store) ListenPool() *pgxpool.Pool { return s.listen }

// SessionConfig is how to connect for a session of one's own, with the password of the moment.
func (s *Store) SessionConfig(ctx context.Context) (*pgx.ConnConfig, error) {
	config := s.listen.Config()
	if config.BeforeConnect != nil {
		if err := config.BeforeConnect(ctx, config.ConnConfig); err != nil {
			return nil, fmt.Errorf("connect to Postgres: %w", err)
		}
	}
	return config.ConnConfig, nil
}

// connectSession opens a session of one's own.
func (s *Store) connectSession(ctx context.Context) (*pgx.Conn, error) {
	config, err := s.SessionConfig(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	return conn, nil
}

// Schema is the schema of the resource tables.
func (s *Store) Schema() string { return s.schema }

// Role is the role that the store connects as.
func (s *Store) Role() string { return s.pool.Config().ConnConfig.User }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("ping Postgres: %w", err)
	}
	return nil
}

// InTx runs f in a transaction and commits it, unless f fails.
func (s *Store) InTx(ctx context.Context, f func(tx pgx.Tx) error) error {
	return inTx(ctx, s.pool, f)
}

// beginner is what a transaction can begin on: a pool or a connection.
type beginner interface {
	BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error)
}

func inTx(ctx context.Context, db beginner, f func(tx pgx.Tx) error) error {
	return inTxWith(ctx, db, pgx.TxOptions{}, f)
}

// inCheckpointTx runs f in a transaction that does not wait for the disk when it commits. It is for what may be lost in a crash
// of Postgres because it is then done again: a chunk and the checkpoint that says that it is in. They are lost together, or
// not at all, and so is nothing that was committed before them; the commit that ends the file waits for all of them.
func inCheckpointTx(ctx context.Context, db beginner, f func(tx pgx.Tx) error) error {
	return inTxWith(ctx, db, pgx.TxOptions{BeginQuery: `BEGIN; SET LOCAL synchronous_commit = off`}, f)
}

// inPublishTx is inTx for the work of a publish, which sorts and joins the keys of whole exports: with the memory for it that one
// statement of a batch job may take, whatever the server gives to each of its many small ones.
func inPublishTx(ctx context.Context, db beginner, f func(tx pgx.Tx) error) error {
	return inTxWith(ctx, db, pgx.TxOptions{BeginQuery: `BEGIN; SET LOCAL work_mem = '64MB'`}, f)
}

func inTxWith(ctx context.Context, db beginner, o pgx.TxOptions, f func(tx pgx.Tx) error) error {
	tx, err := db.BeginTx(ctx, o)
	if err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	if err := f(tx); err != nil {
		rollback(ctx, tx)
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// rollback ends a failed transaction even when ctx has ended, so that its connection can go on to be used.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = tx.Rollback(ctx) // the failure that led here is the one to report
}

// SQLState returns the SQLSTATE of a Postgres error, or "" where err is none.
func SQLState(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

// IsForbidden reports whether Postgres refused something that trying again does not mend: the role lacks a right, or a schema is gone.
func IsForbidden(err error) bool {
	const invalidSchemaName = "3F000"
	state := SQLState(err)
	return state == insufficientPrivilege || state == invalidSchemaName
}

func orDefault(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}
