package page

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/ops"
	"ingestd/internal/smartauth"
	"ingestd/internal/store"
)

const (
	// maxForm bounds the body of a form.
	maxForm = 16 << 10
	// requestTimeout bounds what a page waits for the database.
	requestTimeout = 10 * time.Second
	// maxStreams bounds the viewers that follow what happens; others see pages that stand still.
	maxStreams = 64
)

// Options are what a Page needs.
type Options struct {
	Direct ops.Direct
	// Guard is the admin listener's, Token what it checks.
	Guard *ops.Guard
	Token string
	// Config returns the configuration that is in use, and since when.
	Config func() (*config.Config, time.Time)
	// Tokens and Keys return what this instance knows of access tokens and signing keys; nil: nothing.
	Tokens func() []smartauth.Status
	Keys   func() []smartauth.KeyStatus
	// Version and Host are of this instance.
	Version string
	Host    string
	Logger  *slog.Logger
	// Interval is how often the database is asked while somebody follows. Default: 2 s.
	Interval time.Duration
}

// Page is the handler of the status page. Run keeps the viewers who follow it up to date.
type Page struct {
	options  Options
	mux      *http.ServeMux
	assets   *assets
	sessions *sessions
	known    known
	board    *board
	streams  streams
}

// New returns the status page.
func New(o Options) *Page {
	if o.Interval <= 0 {
		o.Interval = 2 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Direct.Discreet = o.Guard.Open()
	p := &Page{
		options: o, mux: http.NewServeMux(), assets: newAssets(), sessions: newSessions(o.Token), board: newBoard(),
		streams: streams{closed: make(chan struct{})},
	}
	p.mux.HandleFunc("GET /assets/{name}", p.assets.serve)
	p.mux.HandleFunc("GET /sign-in", p.signInForm)
	p.mux.HandleFunc("POST /sign-in", p.signIn)
	p.mux.HandleFunc("POST /sign-out", p.signOut)
	p.mux.Handle("GET /{$}", p.view(p.overviewPage))
	p.mux.Handle("GET /stream", p.view(p.stream))
	p.mux.Handle("GET /payers/{name}", p.view(p.payerPage))
	p.mux.Handle("GET /exports", p.view(p.exportsPage))
	p.mux.Handle("GET /exports/{id}", p.view(p.exportPage))
	p.mux.Handle("GET /exports/{id}/{act}", p.view(p.confirmPage))
	p.mux.Handle("GET /payers/{name}/{act}", p.view(p.confirmPage))
	p.mux.Handle("GET /configuration", p.view(p.configPage))
	p.mux.Handle("GET /audit", p.view(p.auditPage))
	p.mux.Handle("POST /payers/{name}/{act}", p.change(p.actOnPayer))
	p.mux.Handle("POST /exports/{id}/{act}", p.change(p.actOnExport))
	p.mux.Handle("/", p.view(func(*visit) error { return errNoPage }))
	return p
}

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "+
		"form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// Not no-referrer: with that, browsers name no origin in forms, and the check of it would refuse them.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store")
	p.mux.ServeHTTP(w, r)
}

// Run asks the database while there are viewers to tell, until ctx ends, and then ends their streams.
func (p *Page) Run(ctx context.Context) error {
	defer close(p.streams.closed)
	ticker := time.NewTicker(p.options.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if p.streams.open.Load() == 0 {
			continue
		}
		if _, err := p.overview(ctx); err != nil && ctx.Err() == nil {
			p.options.Logger.WarnContext(ctx, "status page: the database did not answer", "error", err)
		}
		p.board.tell()
	}
}

// errNoPage says that there is nothing at a path.
var errNoPage = errors.New("there is no page at this address")

// visit is one request for a page.
type visit struct {
	page    *Page
	w       http.ResponseWriter
	r       *http.Request
	session session // zero where nobody has signed in, which only a listener without a token lets see anything
}

// view makes a handler of a page that is shown to who has signed in, or sends the token as a program does.
func (p *Page) view(show func(v *visit) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visit{page: p, w: w, r: r}
		if problem := p.options.Guard.CheckHost(r); problem != nil {
			v.problem(problem)
			return
		}
		if v.session = p.sessions.of(r); v.session.isZero() && !p.options.Guard.Open() {
			if !p.passBearer(v) {
				return
			}
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			v.problem(&ops.Problem{Code: "not_found", Message: errNoPage.Error(), Status: http.StatusNotFound})
			return
		}
		if r.URL.Path != "/stream" {
			ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
			defer cancel()
			v.r = r.WithContext(ctx)
		}
		if err := show(v); err != nil {
			v.fail(err)
		}
	})
}

// passBearer lets a request pass that carries the admin token, and otherwise answers it: a browser is led to the sign-in.
func (p *Page) passBearer(v *visit) bool {
	if v.r.Header.Get("Authorization") == "" {
		if strings.Contains(v.r.Header.Get("Accept"), "text/html") {
			v.toSignIn()
			return false
		}
		v.w.Header().Set("WWW-Authenticate", `Bearer realm="ingestd"`)
		v.problem(&ops.Problem{
			Code: "unauthorized", Message: "You are not signed in.", Status: http.StatusUnauthorized,
			Hint: "Sign in with the admin token, or send it as Authorization: Bearer ….",
		})
		return false
	}
	if problem := p.options.Guard.CheckBearer(v.r); problem != nil {
		v.problem(problem)
		return false
	}
	return true
}

// toSignIn leads a browser to the sign-in, and back afterwards.
func (v *visit) toSignIn() {
	target := "/sign-in"
	if v.r.Method == http.MethodGet && v.r.URL.Path != "/" {
		target += "?next=" + template.URLQueryEscaper(v.r.URL.RequestURI())
	}
	http.Redirect(v.w, v.r, target, http.StatusSeeOther)
}

// chrome is what all pages have around what they show.
type chrome struct {
	Title    string
	Section  string // of the navigation
	Operator string
	CSRF     string
	Open     bool
	Version  string
	Host     string
	Style    string
	Script   string
	Icon     string
	Now      time.Time
	// Since is set where the database does not answer: what is shown is of then. It is zero where nothing is known.
	Down  bool
	Since time.Time
	Done  string // what the last act did
	// Watch is the payer whose changes the page follows; Sequence and Boot say what it shows.
	Watch    string
	Sequence uint64
	Boot     string
	Follows  bool
	Body     any
}

func (v *visit) chrome(title, section string, body any) *chrome {
	p := v.page
	c := &chrome{
		Title: title, Section: section, Operator: v.session.Name, Open: p.options.Guard.Open(), Version: p.options.Version, Host: p.options.Host,
		Style: p.assets.url("page.css"), Script: p.assets.url("page.js"), Icon: p.assets.url("icon.svg"), Now: time.Now(), Body: body,
		Done: doneText(v.r.URL.Query().Get("done")), Boot: p.board.boot,
	}
	if !v.session.isZero() {
		c.CSRF = p.sessions.csrf(v.session)
	}
	return c
}

// show writes a page.
func (v *visit) show(status int, name string, c *chrome) error {
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, name, c); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	if v.r.Method != http.MethodHead {
		_, _ = v.w.Write(out.Bytes()) // the viewer is gone; there is nobody to tell
	}
	return nil
}

// fail shows why a page cannot be shown.
func (v *visit) fail(err error) {
	if errors.Is(err, errNoPage) {
		v.problem(&ops.Problem{
			Code: "not_found", Message: "There is no page at this address.", Hint: "The overview names all payers.", Status: http.StatusNotFound,
		})
		return
	}
	problem := ops.Explain(err)
	if problem.Status >= http.StatusInternalServerError {
		v.page.options.Logger.WarnContext(v.r.Context(), "status page: a request failed", "route", v.r.Pattern, "error", err)
		message := "The request failed: the daemon's log says why."
		if problem.Code == "database" || errors.Is(err, context.DeadlineExceeded) {
			message = "The database does not answer, and nothing of this page is known from before."
			problem = &ops.Problem{Code: "database", Status: http.StatusServiceUnavailable, Hint: "Load the page again in a moment."}
		}
		problem = &ops.Problem{Code: problem.Code, Message: message, Hint: problem.Hint, Status: problem.Status}
	}
	v.problem(problem)
}

// problem shows an error by its status.
func (v *visit) problem(problem *ops.Problem) {
	if problem.Status == http.StatusTooManyRequests {
		v.w.Header().Set("Retry-After", "5")
	}
	title := http.StatusText(problem.Status)
	if err := v.show(problem.Status, "problem", v.chrome(title, "", problem)); err != nil {
		v.page.options.Logger.ErrorContext(v.r.Context(), "status page: an error cannot be shown", "error", err)
		http.Error(v.w, title, problem.Status)
	}
}

// actor is who acts: by the name given at the sign-in, and by their address.
func (v *visit) actor() store.Actor {
	by := store.Actor{Name: v.session.Name, Source: store.SourceAPI, Host: v.page.options.Host}
	by.RemoteAddress, _, _ = net.SplitHostPort(v.r.RemoteAddr)
	return by
}
