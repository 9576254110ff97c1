package smartauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ManagerOptions are what a Manager needs. The zero value works.
type ManagerOptions struct {
	// Logger; nil discards.
	Logger *slog.Logger
	// Metrics takes the manager's collectors; nil counts nothing. One registry takes one manager.
	Metrics prometheus.Registerer
	// Granted is told of each access token that was granted: for which payer, by which server, and for how long. It must be quick.
	Granted func(payer, tokenHost string, lifetime time.Duration)
	// RequestTimeout bounds one request to a token endpoint or for a discovery document. Default: 30 s.
	RequestTimeout time.Duration
	// Patience is how long Source.Token goes on trying for a caller while no token is live. Default: 4 min.
	Patience time.Duration
}

// Manager gets and keeps access tokens for all sources of a process: one per client id, token endpoint and scopes.
type Manager struct {
	logger    *slog.Logger
	metrics   *metrics
	granted   func(payer, tokenHost string, lifetime time.Duration)
	timeout   time.Duration
	patience  time.Duration
	transport *http.Transport
	serial    atomic.Uint64

	ctx    context.Context //nolint:containedctx // the lifetime of the background work, which no caller's context bounds
	cancel context.CancelFunc
	work   sync.WaitGroup

	// mu is the last lock to take: directories and grants hold their own when they start work.
	mu          sync.Mutex
	closed      bool
	grants      map[grantKey]*grant
	directories map[string]*directory
	skews       map[origin]*clockSkew
	clients     map[string][]client // by their ids
}

// NewManager returns a manager that is ready for use. It works in the background only while tokens are being asked for, until
// Run returns or Close is called.
func NewManager(options ManagerOptions) *Manager {
	m := &Manager{
		logger:      options.Logger,
		granted:     options.Granted,
		timeout:     options.RequestTimeout,
		patience:    options.Patience,
		transport:   newDefaultTransport(),
		grants:      make(map[grantKey]*grant),
		directories: make(map[string]*directory),
		skews:       make(map[origin]*clockSkew),
		clients:     make(map[string][]client),
	}
	if m.logger == nil {
		m.logger = slog.New(slog.DiscardHandler)
	}
	if m.granted == nil {
		m.granted = func(string, string, time.Duration) {}
	}
	if m.timeout <= 0 {
		m.timeout = 30 * time.Second
	}
	if m.patience <= 0 {
		m.patience = 4 * time.Minute
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.metrics = newMetrics(m, options.Metrics)
	return m
}

// Run owns the background refreshes: it returns when ctx ends, having stopped them all. The manager cannot be used again.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	closed := m.closed
	m.mu.Unlock()
	if closed {
		return ErrClosed
	}
	select {
	case <-ctx.Done():
	case <-m.ctx.Done(): // Close
	}
	m.Close()
	return nil
}

// Close stops the background work and waits for it. Live tokens can still be had, new ones cannot (ErrClosed). Closing
// twice is harmless.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.work.Wait()
	m.transport.CloseIdleConnections()
}

// start runs background work, unless the manager has ended.
func (m *Manager) start(work func(context.Context)) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.work.Go(func() { work(m.ctx) })
	return true
}

// Source checks a registration and returns the source of its tokens. It sends nothing: discovery and the first token
// request happen when a token is first asked for. Sources with equal client id, token endpoint and scopes share one token;
// of such, the source that was made last says which credentials are used.
func (m *Manager) Source(registration Registration) (*Source, error) {
	base, err := registration.normalize()
	if err != nil {
		return nil, err
	}
	if registration.Transport == nil {
		registration.Transport = m.transport
	}
	s := &Source{manager: m, registration: &registration, base: base, home: originOf(base)}
	if registration.Method == MethodNone {
		return s, nil
	}
	m.note(s)
	if registration.TokenURL == "" {
		s.directory = m.directoryOf(s)
	}
	return s, nil
}

// directoryOf returns the discovery cache of a FHIR base, which reads through the latest source's transport.
func (m *Manager) directoryOf(s *Source) *directory {
	skew := m.skewOf(s.home)
	d := m.directory(s.base.String())
	d.use(s.registration, discoveryClient{
		base:      s.base,
		transport: s.registration.Transport,
		headers:   s.registration.Headers,
		timeout:   m.timeout,
		skew:      skew,
	})
	return d
}

func (m *Manager) directory(base string) *directory {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.directories[base]
	if !ok {
		d = &directory{manager: m, changed: make(chan struct{})}
		m.directories[base] = d
	}
	return d
}

// skewOf is the clock of a server, shared by all that talk to it.
func (m *Manager) skewOf(o origin) *clockSkew {
	m.mu.Lock()
	defer m.mu.Unlock()
	skew, ok := m.skews[o]
	if !ok {
		skew = &clockSkew{}
		m.skews[o] = skew
	}
	return skew
}

// grantOf returns the shared state of all sources that use the same client at the same token endpoint for the same scopes.
func (m *Manager) grantOf(s *Source, found *Discovery) (*grant, error) {
	endpoint, err := url.Parse(found.TokenEndpoint)
	if err != nil {
		return nil, errors.New("the token endpoint is not a URL") // was checked before
	}
	skew := m.skewOf(originOf(endpoint))
	key := grantKey{
		method:   s.registration.Method,
		clientID: s.registration.ClientID,
		endpoint: found.TokenEndpoint,
		scopes:   s.registration.scopesIdentity(),
	}
	m.mu.Lock()
	g, ok := m.grants[key]
	if !ok {
		g = &grant{
			manager:      m,
			endpoint:     found.TokenEndpoint,
			host:         hostOf(found.TokenEndpoint),
			skew:         skew,
			payers:       make(map[string]bool),
			registration: s.registration,
			discovery:    found,
			syntax:       found.scopeSyntax(),
			changed:      make(chan struct{}),
			wake:         make(chan struct{}, 1),
		}
		m.grants[key] = g
	}
	m.mu.Unlock()
	g.adopt(s.registration, found)
	return g, nil
}

// forget lets the next Token of a source ask the server, whatever failed before and although a token may be live.
func (m *Manager) forget(s *Source) {
	if g := s.current(); g != nil {
		g.mu.Lock()
		g.token = Token{serial: g.token.serial}
		g.failure, g.notBefore = nil, time.Time{}
		g.mu.Unlock()
	}
}

// Status is what is known of one token, for a status page. It holds no credential.
type Status struct {
	Payer         string    // of the source that was made last
	Payers        []string  // that share the token, by name
	TokenHost     string    // of the token endpoint
	Live          bool      // a token may be used now
	Obtained      time.Time // of the last token
	Expires       time.Time
	RefreshAt     time.Time     // when it is renewed, if it is in use then
	Kid           string        // of the key whose assertion the server accepted last; empty where none was
	Algorithm     string        // of that key
	Failure       *Error        // why the last attempt failed; nil after a success
	LastFailure   *Error        // why an attempt failed last, whatever came after it
	FailedAt      time.Time     // when that was
	ClockSkew     time.Duration // how far the server's clock is ahead
	ScopesGranted []string
}

// Status lists the tokens of the manager, in no order.
func (m *Manager) Status() []Status {
	m.mu.Lock()
	grants := make([]*grant, 0, len(m.grants))
	for _, g := range m.grants {
		grants = append(grants, g)
	}
	m.mu.Unlock()
	list := make([]Status, 0, len(grants))
	for _, g := range grants {
		list = append(list, g.status())
	}
	return list
}
