package scheduler

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otel "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"ingestd/internal/store"
	"ingestd/internal/tracing"
)

// The spans of an export, below its root.
const (
	spanExport  = "export"
	spanKickOff = "kick_off"
	spanPoll    = "poll"
	spanFile    = "load_file"
	spanChunk   = "chunk"
	spanPublish = "publish"
	spanCleanUp = "clean_up"
)

const (
	// pollSpans is how many polls of an export have a span, one for each; later ones have one in pollSpans.
	pollSpans = 100
	// chunkSpans is how many chunks of a load have a span.
	chunkSpans = 32
)

// span begins a span of an export. What is logged with its context carries the trace's identifier.
func (e *Engine) span(ctx context.Context, x store.Export, name string, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	return e.tracer().Start(tracing.Below(ctx, identityOf(x)), name, //nolint:spancheck // the caller ends it
		trace.WithAttributes(append(attrs, attribute.String("payer", x.Payer), attribute.Int64("export_id", x.ID))...))
}

// jobSpan begins the span of a job that brings an export on from a state.
func (e *Engine) jobSpan(ctx context.Context, x store.Export) (context.Context, trace.Span) {
	if x.State == store.StateStarting {
		return e.span(ctx, x, spanKickOff, attribute.String("kind", string(x.Kind)), attribute.Int("restarts", x.Restarts))
	}
	if x.Polls >= pollSpans && x.Polls%pollSpans != 0 {
		ctx = tracing.Below(ctx, identityOf(x))
		return ctx, trace.SpanFromContext(ctx)
	}
	return e.span(ctx, x, spanPoll, attribute.Int("polls", x.Polls))
}

// spanFailed notes a failure in the span of the context, by its code.
func spanFailed(ctx context.Context, code string) {
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(attribute.String("error_code", KnownCode(code)))
	span.SetStatus(otel.Error, KnownCode(code))
}

// chunkSpan returns what tells of the chunks of a load, after they were committed.
func (e *Engine) chunkSpan(ctx context.Context, x store.Export) func(store.Chunk) {
	told := 0
	return func(c store.Chunk) {
		if told++; told > chunkSpans {
			return
		}
		now := time.Now()
		_, span := e.tracer().Start(ctx, spanChunk, trace.WithTimestamp(now.Add(-c.Took)), trace.WithAttributes(
			attribute.String("payer", x.Payer), attribute.Int64("export_id", x.ID),
			attribute.Int64("lines", c.Lines), attribute.Int64("bytes", c.Bytes), attribute.Int64("staged", c.Staged),
			attribute.Int64("unchanged", c.Unchanged), attribute.Int64("quarantined", c.Quarantined)))
		span.End(trace.WithTimestamp(now))
	}
}

// endTrace sends the root span of an export that is over.
func (e *Engine) endTrace(ctx context.Context, x store.Export) {
	span := tracing.Root(ctx, e.tracer(), identityOf(x), spanExport)
	span.SetAttributes(
		attribute.String("payer", x.Payer), attribute.Int64("export_id", x.ID), attribute.String("kind", string(x.Kind)),
		attribute.String("state", string(x.State)), attribute.Int64("lines", x.Lines), attribute.Int64("bytes", x.Bytes),
		attribute.Int64("inserted", x.Inserted), attribute.Int64("updated", x.Updated), attribute.Int64("unchanged", x.Unchanged),
		attribute.Int64("deleted", x.Deleted), attribute.Int64("ghosts", x.Ghosts), attribute.Int64("quarantined", x.Quarantined),
		attribute.Int("polls", x.Polls), attribute.Int("restarts", x.Restarts))
	if x.State == store.StateFailed {
		span.SetAttributes(attribute.String("error_code", KnownCode(x.ErrorCode)))
		span.SetStatus(otel.Error, KnownCode(x.ErrorCode))
	}
	end := x.FinishedAt
	if end.IsZero() {
		end = time.Now()
	}
	span.End(trace.WithTimestamp(end))
}

func identityOf(x store.Export) tracing.Export {
	return tracing.Export{ID: x.ID, Payer: x.Payer, CreatedAt: x.CreatedAt}
}

func (e *Engine) tracer() trace.Tracer { return e.options.Tracer }
