package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"ingestd/internal/config"
	"ingestd/internal/scheduler"
	"ingestd/internal/store"
)

// ServerOptions are what the admin listener needs.
type ServerOptions struct {
	Store  *store.Store
	Engine *scheduler.Engine
	// Config returns the configuration that is in use, and since when.
	Config  func() (*config.Config, time.Time)
	Version string
	Metrics *Metrics
	Logger  *slog.Logger
	// Guard checks the admin token, which must be sent for everything but health. Page shares it, so that guesses are counted together.
	Guard *Guard
	// Page, where set, serves all that is not the API's, health's or metrics', and guards itself.
	Page http.Handler
	// Host is this host's name, for the audit.
	Host string
}

// Server is the admin listener's handler.
type Server struct {
	options ServerOptions
	direct  Direct
	mux     *http.ServeMux
	ready   *readiness
}

// NewServer returns the handler of the admin listener.
func NewServer(o ServerOptions) *Server {
	payers := func() []config.Payer {
		c, _ := o.Config()
		return c.Payers
	}
	s := &Server{options: o, direct: Direct{Store: o.Store, Engine: o.Engine, Payers: payers, Discreet: o.Guard.Open()}, mux: http.NewServeMux(), ready: newReadiness()}
	s.mux.HandleFunc("GET /healthz", s.healthz)
	s.mux.HandleFunc("GET /readyz", s.readyz)
	s.mux.Handle("GET /metrics", o.Guard.Wrap(promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, Timeout: 5 * scrapeTimeout, MaxRequestsInFlight: 4,
	})))
	api := http.NewServeMux()
	s.routeAPI(api)
	s.mux.Handle("/api/", o.Guard.Wrap(inJSON(api)))
	if o.Page != nil {
		s.mux.Handle("/", o.Page)
	}
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	s.mux.ServeHTTP(w, r)
}

// Serve answers on the listener until ctx ends, and then lets running answers finish.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.options.Logger.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if err := server.Shutdown(shutdown); err != nil {
			_ = server.Close() // what has not finished by then is cut off
		}
	})
	err := server.Serve(netutil.LimitListener(listener, maxConnections))
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("admin listener: %w", err)
}

// healthz says that the process runs and answers: what a supervisor restarts it for. It does not ask the database, whose
// failure a restart does not mend.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// readyz says whether this instance can work: the database answers, and has the schema that this binary needs.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if fresh, err := s.ready.ask(r.Context(), s.options.Store.CheckSchema); err != nil {
		if fresh {
			s.options.Logger.WarnContext(r.Context(), "not ready", "error", err)
		}
		writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "reason": reason(err)})
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

// reason is what an unauthenticated caller may know of a failure.
func reason(err error) string {
	var tooNew *store.SchemaTooNewError
	var tooOld *store.SchemaTooOldError
	if errors.As(err, &tooNew) || errors.As(err, &tooOld) || errors.Is(err, store.ErrEngineTooOld) {
		return err.Error()
	}
	return "the database does not answer"
}

// inJSON makes the router's own refusals (404, 405) JSON like all others.
func inJSON(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		refused := refusal{header: w.Header()}
		mux.ServeHTTP(&refused, r)
		p := &Problem{Code: "not_found", Message: "there is nothing at this path", Status: http.StatusNotFound}
		if refused.status == http.StatusMethodNotAllowed {
			p = &Problem{
				Code: "method", Message: "this path takes " + w.Header().Get("Allow"), Status: http.StatusMethodNotAllowed,
			}
		}
		writeJSON(w, p.Status, p)
	})
}

// refusal is an answer of the router of which its status and header count.
type refusal struct {
	header http.Header
	status int
}

// Header implements http.ResponseWriter.
func (r *refusal) Header() http.Header { return r.header }

// Write implements http.ResponseWriter.
func (r *refusal) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader implements http.ResponseWriter.
func (r *refusal) WriteHeader(status int) { r.status = status }

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) //nolint:errchkjson // the caller is gone; there is nobody to tell
}
