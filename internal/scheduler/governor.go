package scheduler

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"ingestd/internal/export"
)

// maxHostPatience bounds how long a host is left alone for a refusal, whatever it asks for: its payers' exports would wait.
const maxHostPatience = 10 * time.Minute

// hostOf is the origin that a file is asked of: what all payers and instances that use it share.
func hostOf(fileURL string) string {
	u, err := url.Parse(fileURL)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// governed is what became of a file, as the host that it lies at has to know: one that pushes back, or takes far longer than usual to begin a file, is asked less by all
// (protocol.md FILE-10, ERR-2). A failure to note it is a failure of Postgres, which the load meets by itself.
func (e *Engine) governed(ctx context.Context, host string, limited, slow bool, err error) {
	var noted error
	refused, ok := errors.AsType[*export.Error](err)
	switch {
	case ok && (refused.Status == http.StatusTooManyRequests || refused.Status == http.StatusServiceUnavailable):
		noted = e.store.HostRefused(ctx, host, min(max(refused.RetryAfter, time.Second), maxHostPatience))
	case err == nil && slow:
		noted = e.store.HostRefused(ctx, host, 0)
	case err == nil && limited:
		noted = e.store.HostServed(ctx, host)
	}
	if noted != nil && ctx.Err() == nil {
		e.logger.WarnContext(ctx, "cannot note how a host answered", "host", host, "error", noted)
	}
}
