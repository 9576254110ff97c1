package daemon

import (
	"context"
	"fmt"
	"net"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/ops"
	"ingestd/internal/ops/page"
)

// admin is what serves on the admin listener.
type admin struct {
	server *ops.Server
	page   *page.Page
}

// listen opens the admin listener; there is none where the configuration switches it off, or for a run in the foreground.
func (d *Daemon) listen(ctx context.Context) (*admin, net.Listener, error) {
	c := d.options.Config
	if c.Admin.Listen == "" || d.options.Queue != "" {
		return nil, nil, nil
	}
	token, err := d.adminToken(ctx)
	if err != nil {
		return nil, nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Admin.Listen)
	if err != nil {
		return nil, nil, fmt.Errorf("admin.listen: %w", err)
	}
	d.logger.InfoContext(ctx, "admin listener", "address", listener.Addr().String())
	configuration := func() (*config.Config, time.Time) {
		now := d.using.Load()
		return now.config, now.loadedAt
	}
	guard := ops.NewGuard(token)
	status := page.New(page.Options{
		Direct: ops.Direct{
			Store: d.Database.Store, Engine: d.Engine, Payers: func() []config.Payer { return d.using.Load().config.Payers },
		},
		Guard: guard, Token: token, Config: configuration, Tokens: d.manager.Status, Keys: d.keys.Status,
		Version: d.options.Version, Host: d.options.Host, Logger: d.logger,
	})
	server := ops.NewServer(ops.ServerOptions{
		Store: d.Database.Store, Engine: d.Engine, Metrics: d.metrics, Logger: d.logger, Guard: guard, Page: status,
		Version: d.options.Version, Host: d.options.Host, Config: configuration,
	})
	return &admin{server: server, page: status}, listener, nil
}

func (d *Daemon) adminToken(ctx context.Context) (string, error) {
	reference := d.options.Config.Admin.Token
	if reference == "" {
		return "", nil
	}
	token, err := d.options.Secrets.Resolve(ctx, reference)
	if err != nil {
		return "", fmt.Errorf("admin.token: %w", err)
	}
	return string(token), nil
}
