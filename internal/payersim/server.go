package payersim

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The paths of the payer under its origin.
const (
	fhirPath   = "/fhir"
	tokenPath  = "/auth/token"
	statusPath = fhirPath + "/export-status/"
	filePath   = fhirPath + "/export-file/"
)

// Server is a simulated payer. It is safe for concurrent use. Close it to release the data folder's files.
type Server struct {
	opts   Options
	log    *slog.Logger
	source source
	mux    http.Handler
	faults atomic.Pointer[faultPlan]
	cache  gzipCache
	count  counters

	mu      sync.Mutex
	clients map[string]*client
	tokens  map[[32]byte]*token
	used    map[jti]struct{} // every jti ever seen
	jobs    map[string]*job
	signed  map[string]string // the Authorization behind a presigned address
	last    time.Time         // the newest transactionTime
	shown   int               // round of the last export
	started bool              // an export has been kicked off
}

// counters are what Stats reports.
type counters struct {
	tokens, tokenRefusals, unauthorized, kickOffs, polls, earlyPolls, files, fileBytes, deletes, faults atomic.Int64
}

// New builds a payer from its options. Errors: options that contradict each other, a data folder that cannot be read, a
// client registered twice or without keys.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts:    o,
		log:     o.Logger,
		cache:   gzipCache{limit: o.CacheBytes},
		clients: map[string]*client{},
		tokens:  map[[32]byte]*token{},
		used:    map[jti]struct{}{},
		jobs:    map[string]*job{},
	}
	s.faults.Store(&faultPlan{Faults: o.Faults})
	for _, c := range o.Clients {
		if err := s.Register(c); err != nil {
			return nil, err
		}
	}
	if o.DataDir != "" {
		s.source, err = openFolder(o.DataDir)
		if err != nil {
			return nil, err
		}
	} else {
		s.source = newGenerator(o.Patients, o.Seed, o.Changes)
	}
	s.routes()
	return s, nil
}

// SetFaults replaces the fault plan; what it counts starts at zero. Files of exports that a client has already seen the
// manifest of keep their bad lines. Errors: values that make no sense.
func (s *Server) SetFaults(f Faults) error {
	if err := f.check(); err != nil {
		return err
	}
	s.faults.Store(&faultPlan{Faults: f})
	return nil
}

// plan is the fault plan in force.
func (s *Server) plan() *faultPlan { return s.faults.Load() }

// Register adds a client. Errors: no id, an id already registered, or not exactly one source of keys.
func (s *Server) Register(c Client) error {
	added, err := newClient(c, s.opts.HTTPClient, func() bool { return s.plan().Token.KeepsJWKS })
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[c.ID] != nil {
		return fmt.Errorf("payersim: client %q is registered already", c.ID)
	}
	s.clients[c.ID] = added
	return nil
}

// Close releases the data source. Requests must have ended.
func (s *Server) Close() error {
	if err := s.source.close(); err != nil {
		return fmt.Errorf("payersim: close data source: %w", err)
	}
	return nil
}

func (s *Server) routes() {
	mux := http.NewServeMux()
	mux.HandleFunc(tokenPath, s.serveToken)
	mux.HandleFunc("GET "+fhirPath+"/.well-known/smart-configuration", s.serveDiscovery)
	mux.HandleFunc("GET "+fhirPath+"/metadata", s.serveCapability)
	mux.HandleFunc(fhirPath+"/$export", s.kickOff(levelSystem))
	mux.HandleFunc(fhirPath+"/Patient/$export", s.kickOff(levelPatient))
	mux.HandleFunc(fhirPath+"/Group/{group}/$export", s.kickOff(levelGroup))
	mux.HandleFunc(statusPath+"{job}", s.serveStatus)
	mux.HandleFunc(filePath+"{job}/{file}", s.serveFile)
	mux.HandleFunc("GET /_sim/truth", s.serveTruth)
	mux.HandleFunc("GET /_sim/stats", s.serveStats)
	mux.HandleFunc("POST /_sim/advance", s.serveAdvance)
	mux.HandleFunc("GET /_sim/faults", s.serveFaults)
	mux.HandleFunc("PUT /_sim/faults", s.replaceFaults)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, refusal{status: http.StatusNotFound, code: "not-found", text: "there is nothing at this address"})
	})
	imitated, _ := profile(s.opts.Profile) // was checked
	s.mux = imitated.wrap(s, mux)
}

// ServeHTTP answers one request to the payer.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	s.mux.ServeHTTP(w, r)
}

// now is the payer's clock.
func (s *Server) now() time.Time { return time.Now().Add(s.opts.ClockOffset) }

// origin is scheme://host of the payer as the client of this request sees it.
func (s *Server) origin(r *http.Request) string {
	if s.opts.BaseURL != "" {
		return strings.TrimSuffix(s.opts.BaseURL, "/")
	}
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	return scheme + r.Host
}

// strike tells whether a counted fault has its turn.
func (s *Server) strike(key string, times int) bool {
	if !s.plan().strike(key, times) {
		return false
	}
	s.count.faults.Add(1)
	return true
}

// unavailable is the 503 of the counted faults.
func (s *Server) unavailable() refusal {
	return refusal{
		status: http.StatusServiceUnavailable, code: "transient", text: "the payer is unavailable for a moment",
		retryAfter: max(s.plan().retryAfter(), time.Second),
	}
}

// secret is a random name of 256 bits that fits into URLs and headers.
func secret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// methodNotAllowed answers a method that the address does not know.
func (s *Server) methodNotAllowed(w http.ResponseWriter, r *http.Request, allow string) {
	w.Header().Set("Allow", allow)
	s.refuse(w, r, refusal{
		status: http.StatusMethodNotAllowed, code: "not-supported", text: "this address accepts " + allow + " only",
	})
}

// errCut ends a response whose connection is to be broken.
var errCut = errors.New("the fault plan breaks this connection")
