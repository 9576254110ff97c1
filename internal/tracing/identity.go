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

// Below returns a context in which spans begin below the root of an export.
func Below(ctx context.Context, id int64, createdAt time.Time) context.Context {
	traceID, root := identify(id, createdAt)
	return trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: root, TraceFlags: trace.FlagsSampled, Remote: true,
	}))
}

// Root begins the root span of an export, at the time at which it was recorded.
func Root(ctx context.Context, tracer trace.Tracer, id int64, createdAt time.Time, name string) trace.Span {
	ctx = context.WithValue(ctx, rootKey{}, rootOf{id, createdAt})
	_, span := tracer.Start(ctx, name, trace.WithNewRoot(), trace.WithTimestamp(createdAt))
	return span
}

type rootKey struct{}

type rootOf struct {
	id        int64
	createdAt time.Time
}

// identifiers makes the identifiers of spans: random ones, but for the root of an export.
type identifiers struct{}

// NewIDs implements sdk/trace.IDGenerator.
func (g identifiers) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if r, ok := ctx.Value(rootKey{}).(rootOf); ok {
		return identify(r.id, r.createdAt)
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
