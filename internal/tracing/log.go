package tracing

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// LogOptions say what a Handler adds to records.
type LogOptions struct {
	// Instance is the name of this instance; empty adds none.
	Instance string
	// Traced adds the trace.
	Traced bool
}

// Handler adds to log records, behind their own attributes, the instance, and what their context says: the payer and the export_id of
// the export that is worked on, where the record does not have them itself, and its trace as trace_id.
func Handler(next slog.Handler, o LogOptions) slog.Handler { return handler{Handler: next, options: o} }

// The keys of what is known of an export.
const (
	payerKey    = "payer"
	exportKey   = "export_id"
	traceKey    = "trace_id"
	instanceKey = "instance"
)

type handler struct {
	slog.Handler

	options             LogOptions
	hasPayer, hasExport bool // the logger has them
}

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, record slog.Record) error {
	if h.options.Instance != "" {
		record.AddAttrs(slog.String(instanceKey, h.options.Instance))
	}
	x, ok := ctx.Value(exportContextKey{}).(Export)
	if !ok {
		return h.Handler.Handle(ctx, record) //nolint:wrapcheck // a Handler passes errors on
	}
	hasPayer, hasExport := h.hasPayer, h.hasExport
	record.Attrs(func(a slog.Attr) bool {
		hasPayer, hasExport = hasPayer || a.Key == payerKey, hasExport || a.Key == exportKey
		return true
	})
	if !hasPayer {
		record.AddAttrs(slog.String(payerKey, x.Payer))
	}
	if !hasExport {
		record.AddAttrs(slog.Int64(exportKey, x.ID))
	}
	if span := trace.SpanContextFromContext(ctx); h.options.Traced && span.HasTraceID() {
		record.AddAttrs(slog.String(traceKey, span.TraceID().String()))
	}
	return h.Handler.Handle(ctx, record) //nolint:wrapcheck // a Handler passes errors on
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		h.hasPayer, h.hasExport = h.hasPayer || a.Key == payerKey, h.hasExport || a.Key == exportKey
	}
	h.Handler = h.Handler.WithAttrs(attrs)
	return h
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	h.Handler = h.Handler.WithGroup(name)
	return h
}
