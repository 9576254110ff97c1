package smartauth

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// JWKSPath is where the key set is served.
const JWKSPath = "/.well-known/jwks.json"

// NewJWKSHandler serves the JWK Set of the keys of the moment at JWKSPath, and nothing else: GET and HEAD, to everybody, with an
// ETag. maxAge is how long servers may keep it; 0 is an hour. A key is to be published that long before it signs.
func NewJWKSHandler(keys func() []*Key, maxAge time.Duration) http.Handler {
	if maxAge <= 0 {
		maxAge = time.Hour
	}
	cacheControl := "public, max-age=" + strconv.Itoa(int(maxAge.Seconds()))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("X-Content-Type-Options", "nosniff")
		if r.URL.Path != JWKSPath {
			http.Error(w, "not found", http.StatusNotFound)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			header.Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		set, err := NewJWKS(keys()...)
		if err != nil { // a KeyRing has no such keys
			http.Error(w, "internal error", http.StatusInternalServerError)
			return
		}
		sum := sha256.Sum256(set)
		tag := `"` + hex.EncodeToString(sum[:16]) + `"`
		header.Set("ETag", tag)
		header.Set("Cache-Control", cacheControl)
		if matchesTag(r.Header.Values("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		header.Set("Content-Type", "application/json")
		header.Set("Content-Length", strconv.Itoa(len(set)))
		w.WriteHeader(http.StatusOK)
		if r.Method == http.MethodGet {
			_, _ = w.Write(set) // a client that has gone needs no answer
		}
	})
}

func matchesTag(values []string, tag string) bool {
	for _, value := range values {
		for candidate := range strings.SplitSeq(value, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == tag {
				return true
			}
		}
	}
	return false
}

// JWKSServer is the public listener.
type JWKSServer struct {
	// Keys are those of the moment: KeyRing.Published.
	Keys func() []*Key
	// MaxAge is how long servers may keep the set. Default: 1 h.
	MaxAge time.Duration
	// CertificateFile and KeyFile switch TLS on. They are read again when they change.
	CertificateFile, KeyFile string
	// Logger; nil discards.
	Logger *slog.Logger
}

// maxPublicConnections bounds what a flood of callers can hold open.
const maxPublicConnections = 256

// Run serves on listener until ctx ends, and closes it. Whatever a caller does or omits, it holds a connection for
// seconds.
func (s JWKSServer) Run(ctx context.Context, listener net.Listener) error {
	logger := s.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	server := &http.Server{
		Handler:           http.MaxBytesHandler(NewJWKSHandler(s.Keys, s.MaxAge), 1),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	listener = newLimitedListener(listener, maxPublicConnections)
	if s.CertificateFile != "" {
		files := &certificateFiles{certificate: s.CertificateFile, key: s.KeyFile, logger: logger}
		if _, err := files.get(nil); err != nil {
			_ = listener.Close()
			return err
		}
		listener = tls.NewListener(listener, &tls.Config{
			MinVersion: tls.VersionTLS12, GetCertificate: files.get, NextProtos: []string{"http/1.1"},
		})
	}
	stopped := make(chan error, 1)
	release := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		stopped <- server.Shutdown(grace)
	})
	err := server.Serve(listener)
	if !release() {
		if err := <-stopped; err != nil {
			_ = server.Close() // a caller that holds its connection longer than the grace
		}
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the JWK Set: %w", err)
}

// certificateFiles reads a certificate again when its files change, so that its renewal needs no restart.
type certificateFiles struct {
	certificate, key string
	logger           *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	stamp   string
	looked  time.Time
}

func (c *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && time.Since(c.looked) < 10*time.Second {
		return c.current, nil
	}
	c.looked = time.Now()
	stamp := stampOf(c.certificate) + stampOf(c.key)
	if c.current != nil && stamp == c.stamp {
		return c.current, nil
	}
	pair, err := tls.LoadX509KeyPair(c.certificate, c.key)
	if err == nil {
		c.current, c.stamp = &pair, stamp
		return c.current, nil
	}
	if c.current != nil {
		// Half a renewal: the certificate without its key yet. The one in memory goes on; the files are read again.
		c.logger.Warn("the JWKS listener's certificate cannot be reloaded", slog.Any("error", err))
		return c.current, nil
	}
	return nil, fmt.Errorf("load the JWKS listener's certificate: %w", err)
}

func stampOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "missing"
	}
	return info.ModTime().String() + strconv.FormatInt(info.Size(), 10)
}

// limitedListener accepts only so many connections at once; others wait in the system's queue.
type limitedListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newLimitedListener(inner net.Listener, limit int) net.Listener {
	return &limitedListener{Listener: inner, slots: make(chan struct{}, limit), closed: make(chan struct{})}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err //nolint:wrapcheck // http.Server looks at it
	}
	return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close() //nolint:wrapcheck // http.Server looks at it
}

type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close() //nolint:wrapcheck // http.Server looks at it
}
