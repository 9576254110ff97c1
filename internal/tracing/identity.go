package tracing

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// identify returns the identifiers of an export's trace and of its root span.
func identify(id int64, createdAt time.Time) (trace.TraceID, trace.SpanID) {
	sum := sha256.Sum256(fmt.Appendf(nil, "ingestd export %d %d", id, createdAt.UnixMicro()))
	return trace.TraceID(sum[:16]), trace.SpanID(sum[16:24])
}

// Export is what is known of an export that is worked on.
type Export struct {
	ID        int64
	Payer     string
	CreatedAt time.Time
}

type exportContextKey struct{}

// Below returns a context in which spans begin below the root of an export, and whose log records name it.
func Below(ctx context.Context, x Export) context.Context {
	traceID, root := identify(x.ID, x.CreatedAt)
	ctx = context.WithValue(ctx, exportContextKey{}, x)
	return trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: root, TraceFlags: trace.FlagsSampled, Remote: true,
	}))
}

// Root begins the root span of an export, at the time at which it was recorded.
func Root(ctx context.Context, tracer trace.Tracer, x Export, name string) trace.Span {
	ctx = context.WithValue(ctx, rootKey{}, x)
	_, span := tracer.Start(ctx, name, trace.WithNewRoot(), trace.WithTimestamp(x.CreatedAt)) //nolint:spancheck // the caller ends it
	return span                                                                               //nolint:spancheck // see above
}

type rootKey struct{}

// identifiers makes the identifiers of spans: random ones, but for the root of an export.
type identifiers struct{}

// NewIDs implements sdk/trace.IDGenerator.
func (g identifiers) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if x, ok := ctx.Value(rootKey{}).(Export); ok {
		return identify(x.ID, x.CreatedAt)
	}
	var id trace.TraceID
	_, _ = rand.Read(id[:]) // it never fails
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID implements sdk/trace.IDGenerator.
func (identifiers) NewSpanID(context.Context, trace.TraceID) trace.SpanID {
	var id trace.SpanID
	_, _ = rand.Read(id[:]) // it never fails
	return id
}
