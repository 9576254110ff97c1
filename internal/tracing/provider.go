package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"ingestd/internal/config"
)

const (
	// tracesPath is where OTLP over HTTP takes traces, unless the configuration says otherwise.
	tracesPath = "/v1/traces"
	// exportTimeout bounds one request to the collector.
	exportTimeout = 10 * time.Second
	// complaintPause is how long nothing is said of a collector that does not answer after it was said.
	complaintPause = 5 * time.Minute
)

// Options are what a Provider needs.
type Options struct {
	Config config.Tracing
	// Resolve follows the references in the headers, for each request anew.
	Resolve func(ctx context.Context, reference config.Secret) ([]byte, error)
	Logger  *slog.Logger
	// Version and Instance say who sends.
	Version, Instance string
}

// Provider sends traces, from a queue of bounded length: a collector that is away costs spans, and keeps nothing waiting.
type Provider struct {
	provider *sdk.TracerProvider // nil: nothing is traced
}

// New returns a provider; without an endpoint, one that traces nothing.
func New(ctx context.Context, o Options) (*Provider, error) {
	if o.Config.Endpoint == "" {
		return &Provider{}, nil
	}
	endpoint, err := url.Parse(o.Config.Endpoint)
	if err != nil {
		return nil, errors.New("tracing.endpoint: expected a URL")
	}
	if endpoint.Path == "" || endpoint.Path == "/" {
		endpoint.Path = tracesPath
	}
	exporter, err := otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(endpoint.String()),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		otlptracehttp.WithHeaders(map[string]string{}), // the environment's do not count
		otlptracehttp.WithHTTPClient(&http.Client{
			Timeout:       exportTimeout,
			Transport:     &headers{next: http.DefaultTransport, values: o.Config.Headers, resolve: o.Resolve},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}))
	if err != nil {
		return nil, fmt.Errorf("prepare tracing: %w", err)
	}
	otel.SetErrorHandler(&complaints{logger: o.Logger})
	return &Provider{provider: sdk.NewTracerProvider(
		sdk.WithBatcher(exporter),
		sdk.WithSampler(sdk.TraceIDRatioBased(o.Config.SampleRatio)),
		sdk.WithIDGenerator(identifiers{}),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "ingestd"), attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Instance),
		)),
	)}, nil
}

// Tracer is what spans are begun with.
func (p *Provider) Tracer() trace.Tracer {
	if p.provider == nil {
		return noop.NewTracerProvider().Tracer("")
	}
	return p.provider.Tracer("ingestd")
}

// Shutdown sends what waits, until ctx ends. After it nothing is traced.
func (p *Provider) Shutdown(ctx context.Context) error {
	if p.provider == nil {
		return nil
	}
	if err := p.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last traces: %w", err)
	}
	return nil
}

// headers adds the headers of the configuration to requests.
type headers struct {
	next    http.RoundTripper
	values  map[string]string
	resolve func(ctx context.Context, reference config.Secret) ([]byte, error)
}

// RoundTrip implements http.RoundTripper.
func (h *headers) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	for name, value := range h.values {
		if _, _, isReference := config.Secret(value).Reference(); isReference {
			secret, err := h.resolve(request.Context(), config.Secret(value))
			if err != nil {
				return nil, fmt.Errorf("tracing.headers: %w", err)
			}
			value = string(secret)
		}
		request.Header.Set(name, value)
	}
	return h.next.RoundTrip(request) //nolint:wrapcheck // a RoundTripper passes errors on
}

// complaints logs that traces are lost, now and then.
type complaints struct {
	logger *slog.Logger
	mu     sync.Mutex
	last   time.Time
}

// Handle implements otel.ErrorHandler.
func (c *complaints) Handle(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.last) < complaintPause {
		return
	}
	c.last = time.Now()
	c.logger.Warn("traces are lost", "error", err)
}
