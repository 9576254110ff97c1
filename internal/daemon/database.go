package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/store"
	"ingestd/internal/store/embedded"
)

// Database is the configured database, connected to; an embedded one runs as long as it is open.
type Database struct {
	Store  *store.Store
	server *embedded.Server
	// warning is what of the connection is not as safe as it could be.
	warning string
	logger  *slog.Logger
}

// OpenDatabase connects to the configured database and starts it first where it is an embedded one. It does not migrate.
func OpenDatabase(ctx context.Context, c config.Database, logger *slog.Logger) (*Database, error) {
	return openDatabase(ctx, c, NewSecrets(nil), logger, false)
}

// openDatabase is OpenDatabase; a lazy one need not answer yet.
func openDatabase(ctx context.Context, c config.Database, secrets *Secrets, logger *slog.Logger, lazy bool) (*Database, error) {
	d := &Database{logger: logger}
	url, err := secrets.DatabaseURL(ctx, c.URL)
	if err != nil {
		return nil, fmt.Errorf("database.url: %w", err)
	}
	direct, err := secrets.DatabaseURL(ctx, c.DirectURL)
	if err != nil {
		return nil, fmt.Errorf("database.direct_url: %w", err)
	}
	if dir, ok := config.Embedded(url); ok {
		if d.server, err = embedded.Start(ctx, embedded.Options{Dir: dir, Logger: logger}); err != nil {
			return nil, fmt.Errorf("start the embedded Postgres: %w", err)
		}
		url = d.server.URL()
	}
	d.warning = store.TLSWarning(url)
	d.Store, err = store.Open(ctx, store.Options{
		URL: url, DirectURL: direct, Password: secrets.databasePassword(c), VerifyServer: c.Auth == config.AuthRDSIAM,
		Schema: c.Schema, MaxConnections: c.MaxConnections, Lazy: lazy, Logger: logger,
	})
	if err != nil {
		d.stopServer(ctx)
		return nil, err
	}
	return d, nil
}

// Indexes are the indexes of the configuration, as the store builds them.
func Indexes(c config.Database) []store.Index {
	indexes := make([]store.Index, 0, len(c.Indexes))
	for _, i := range c.Indexes {
		indexes = append(indexes, store.Index{Name: i.Name, Types: i.Types, Columns: i.Columns, Using: i.Using, Where: i.Where})
	}
	return indexes
}

// Close closes the connections and stops an embedded server that nobody else uses.
func (d *Database) Close(ctx context.Context) {
	d.Store.Close()
	d.stopServer(ctx)
}

// stopTimeout bounds the stop of an embedded server.
const stopTimeout = 30 * time.Second

func (d *Database) stopServer(ctx context.Context) {
	if d.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := d.server.Stop(ctx); err != nil {
		d.logger.WarnContext(ctx, "the embedded Postgres did not stop", "error", err)
	}
}

// Prepare migrates the database where that is wanted, and otherwise checks that its schema is this binary's. A *store.PermissionError
// says that the role of the connection lacks what the work needs.
func (d *Database) Prepare(ctx context.Context, migrate bool) error {
	return d.Store.CheckGrants(ctx, d.prepare(ctx, migrate))
}

func (d *Database) prepare(ctx context.Context, migrate bool) error {
	if !migrate {
		return d.Store.CheckSchema(ctx)
	}
	applied, err := d.Store.Migrate(ctx)
	for _, m := range applied {
		d.logger.InfoContext(ctx, "migration applied", "version", m.Version, "name", m.Name)
	}
	return err
}
