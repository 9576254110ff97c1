package ops

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// ServerOptions are what the admin listener needs.
type ServerOptions struct {
	Store *store.Store
	// Config returns the configuration that is in use, and since when.
	Config  func() (*config.Config, time.Time)
	Version string
	Metrics *Metrics
	Logger  *slog.Logger
	// Token must be sent as a bearer token for everything but health; empty on a loopback listener only.
	Token string
}

// Server is the admin listener's handler.
type Server struct {
	options ServerOptions
	mux     *http.ServeMux
}

// NewServer returns the handler of the admin listener.
func NewServer(o ServerOptions) *Server {
	s := &Server{options: o, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /healthz", s.healthz)
	s.mux.HandleFunc("GET /readyz", s.readyz)
	s.mux.Handle("GET /metrics", s.guarded(promhttp.HandlerFor(o.Metrics.Registry(), promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, Timeout: 2 * scrapeTimeout, MaxRequestsInFlight: 4,
	})))
	s.mux.Handle("GET /api/v1/payers", s.guarded(http.HandlerFunc(s.payers)))
	s.mux.Handle("GET /api/v1/config", s.guarded(http.HandlerFunc(s.config)))
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
	err := server.Serve(listener)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("admin listener: %w", err)
}

// guarded lets a request pass only with the token. The comparison takes the same time whatever is wrong.
func (s *Server) guarded(next http.Handler) http.Handler {
	if s.options.Token == "" {
		return next
	}
	want := sha256.Sum256([]byte(s.options.Token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		got := sha256.Sum256([]byte(token))
		if !ok || subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="ingestd"`)
			http.Error(w, "the admin token is required: send it as Authorization: Bearer …", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// healthz says that the process runs and answers: what a supervisor restarts it for. It does not ask the database, whose
// failure a restart does not mend.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// readyz says whether this instance can work: the database answers, and has the schema that this binary needs.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := s.options.Store.CheckSchema(ctx); err != nil {
		s.options.Logger.WarnContext(ctx, "not ready", "error", err)
		writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "reason": reason(err)})
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

// reason is what an unauthenticated caller may know of a failure.
func reason(err error) string {
	var tooNew *store.SchemaTooNewError
	var tooOld *store.SchemaTooOldError
	if errors.As(err, &tooNew) || errors.As(err, &tooOld) {
		return err.Error()
	}
	return "the database does not answer"
}

func (s *Server) payers(w http.ResponseWriter, r *http.Request) {
	c, _ := s.options.Config()
	status, err := Status(r.Context(), s.options.Store, c.Payers, time.Now())
	if err != nil {
		s.options.Logger.WarnContext(r.Context(), "status: the database did not answer", "error", err)
		writeJSON(w, http.StatusServiceUnavailable, map[string]string{"error": "the database does not answer"})
		return
	}
	writeJSON(w, http.StatusOK, status)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) //nolint:errchkjson // the caller is gone; there is nobody to tell
}
