package export

import (
	"context"
	"errors"
	"io"
	"time"
)

// errStalled ends a body whose sender fell silent.
var errStalled = errors.New("no byte arrived within the idle timeout")

// What a sender that never quite falls silent must send at least: a connection that yields a byte now and then holds its worker
// as surely as one that yields none.
const (
	trickleIdles = 10       // over how many idle timeouts of waiting it is judged
	trickleBytes = 16 << 10 // what must have come in that time
)

// idleReader is a response's body that ends with errStalled when its sender falls silent, or next to silent (FILE-9). The time
// that its user takes between two reads does not count. It owns the context of its request, and ends it when it is closed.
type idleReader struct {
	ctx    context.Context //nolint:containedctx // the request's own, for its cause
	cancel context.CancelCauseFunc
	from   io.ReadCloser
	idle   time.Duration
	timer  *time.Timer
	waited time.Duration // for what came since it was judged last
	came   int
}

func newIdleReader(ctx context.Context, cancel context.CancelCauseFunc, from io.ReadCloser, idle time.Duration) *idleReader {
	r := &idleReader{ctx: ctx, cancel: cancel, from: from, idle: idle}
	r.timer = time.AfterFunc(idle, func() { cancel(errStalled) })
	r.timer.Stop()
	return r
}

func (r *idleReader) Read(p []byte) (int, error) {
	r.timer.Reset(r.idle)
	began := time.Now()
	n, err := r.from.Read(p)
	r.timer.Stop()
	r.waited, r.came = r.waited+time.Since(began), r.came+n
	if r.waited >= trickleIdles*r.idle {
		if r.came < trickleBytes && err == nil {
			r.cancel(errStalled)
			return n, errStalled
		}
		r.waited, r.came = 0, 0
	}
	if err != nil && errors.Is(context.Cause(r.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

// within ends the body after d, whatever comes, where it is a body that is read only for what it may say. The result takes
// that back.
func within(body io.Reader, d time.Duration) (stop func()) {
	r, ok := body.(*idleReader)
	if !ok {
		return func() {}
	}
	timer := time.AfterFunc(d, func() { r.cancel(errStalled) })
	return func() { timer.Stop() }
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
