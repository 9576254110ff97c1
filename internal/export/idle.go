package export

import (
	"context"
	"errors"
	"io"
	"time"
)

// errStalled ends a body whose sender fell silent.
var errStalled = errors.New("no byte arrived within the idle timeout")

// idleReader is a response's body that ends with errStalled when its sender falls silent (FILE-9). The time that its user
// takes between two reads does not count. It owns the context of its request, and ends it when it is closed.
type idleReader struct {
	ctx    context.Context //nolint:containedctx // the request's own, for its cause
	cancel context.CancelCauseFunc
	from   io.ReadCloser
	idle   time.Duration
	timer  *time.Timer
}

func newIdleReader(ctx context.Context, cancel context.CancelCauseFunc, from io.ReadCloser, idle time.Duration) *idleReader {
	r := &idleReader{ctx: ctx, cancel: cancel, from: from, idle: idle}
	r.timer = time.AfterFunc(idle, func() { cancel(errStalled) })
	r.timer.Stop()
	return r
}

func (r *idleReader) Read(p []byte) (int, error) {
	r.timer.Reset(r.idle)
	n, err := r.from.Read(p)
	r.timer.Stop()
	if err != nil && errors.Is(context.Cause(r.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

func (r *idleReader) Close() error {
	r.timer.Stop()
	err := r.from.Close()
	r.cancel(nil)
	if errors.Is(err, context.Canceled) {
		return nil // of our own
	}
	return err //nolint:wrapcheck // the caller knows what it closes
}
