package daemon

import (
	"context"
	"time"
)

// leastFlush is what the last traces get where shutdown.grace is used up.
const leastFlush = time.Second

// flushTraces sends the traces that wait, within what is left of shutdown.grace since the stop began.
func (d *Daemon) flushTraces(ctx context.Context, since time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(leastFlush, d.options.Config.Shutdown.Grace-time.Since(since)))
	defer cancel()
	if err := d.tracing.Shutdown(ctx); err != nil {
		d.logger.WarnContext(ctx, "the last traces are lost", "error", err)
	}
}
