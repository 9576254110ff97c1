package page

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/ops"
	"ingestd/internal/scheduler"
	"ingestd/internal/smartauth"
	"ingestd/internal/store"
	"ingestd/internal/testpg"
)

func TestMain(m *testing.M) { testpg.Main(m) }

func migrate(ctx context.Context, url string) error {
	s, err := store.Open(ctx, store.Options{URL: url})
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.Migrate(ctx)
	return err
}

// site is a page over a database of its own; nothing works the exports.
type site struct {
	t     *testing.T
	store *store.Store
	page  *Page
	url   string
}

func newSite(t testing.TB, token string, names ...string) *site {
	t.Helper()
	db, err := store.Open(context.Background(), store.Options{URL: testpg.New(t, migrate), MaxConnections: 6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	var payers []config.Payer
	var scheduled []scheduler.Payer
	for _, name := range names {
		p := config.Payer{
			Name: name, Enabled: true, FHIRURL: "https://fhir.example.org/" + name, Schedule: "@daily", FreshnessSLO: 24 * time.Hour,
			Auth: config.Auth{Method: "private_key_jwt", ClientID: "c", Key: "k2"},
		}
		payers, scheduled = append(payers, p), append(scheduled, scheduler.Payer{Config: p})
	}
	d := ops.Direct{Store: db, Payers: func() []config.Payer { return payers }}
	if d.Engine, err = scheduler.New(scheduler.Options{Store: db, Payers: scheduled}); err != nil {
		t.Fatal(err)
	}
	c := &config.Config{Payers: payers, Database: config.Database{URL: "postgres://u:hunter2@db/x"}}
	guard := ops.NewGuard(token)
	s := &site{store: db, page: New(Options{
		Direct: d, Guard: guard, Token: token, Config: func() (*config.Config, time.Time) { return c, time.Now() },
		Keys: func() []smartauth.KeyStatus {
			return []smartauth.KeyStatus{
				{Kid: "k1", Algorithm: "RS384", State: smartauth.KeyActive},
				{Kid: "k0", Algorithm: "RS384", State: smartauth.KeyPublished},
				{Kid: "k2", Algorithm: "ES384", State: smartauth.KeyActive},
			}
		},
		Tokens: func() []smartauth.Status {
			return []smartauth.Status{{
				Payers: []string{"p"}, TokenHost: "auth.example.org", Obtained: time.Now().Add(-time.Minute), Expires: time.Now().Add(4 * time.Minute), Live: true,
				LastFailure: &smartauth.Error{Code: "invalid_client", Hint: "register the key"}, FailedAt: time.Now().Add(-time.Hour), Kid: "k2",
			}}
		},
		Version: "test", Host: "server", Logger: slog.New(slog.DiscardHandler), Interval: 20 * time.Millisecond,
	})}
	if tt, ok := t.(*testing.T); ok {
		s.t = tt
	}
	server := httptest.NewServer(ops.NewServer(ops.ServerOptions{
		Store: db, Engine: d.Engine, Config: func() (*config.Config, time.Time) { return c, time.Time{} }, Guard: guard, Page: s.page,
		Metrics: ops.NewMetrics(ops.MetricsOptions{
			Store: db, Config: func() *config.Config { return c }, Version: "test", Logger: slog.New(slog.DiscardHandler),
		}), Logger: slog.New(slog.DiscardHandler), Host: "server",
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *site) execute(sql string, args ...any) {
	s.t.Helper()
	if _, err := s.store.Pool().Exec(s.t.Context(), sql, args...); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

// browser is a client that keeps cookies and says what a browser says.
type browser struct {
	*site
	client *http.Client
	csrf   string
}

func (s *site) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &browser{site: s, client: &http.Client{
		Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

func (b *browser) do(method, path string, form url.Values, header ...string) answer {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Accept", "text/html")
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Origin", b.url)
		request.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Del(header[i])
		if header[i+1] != "" {
			request.Header.Set(header[i], header[i+1])
		}
		if header[i] == "Host" {
			request.Host = header[i+1]
		}
	}
	response, err := b.client.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(text)}
}

func (b *browser) get(path string, header ...string) answer {
	b.t.Helper()
	return b.do(http.MethodGet, path, nil, header...)
}

// post sends a form of this session.
func (b *browser) post(path string, form url.Values, header ...string) answer {
	b.t.Helper()
	if form == nil {
		form = url.Values{}
	}
	if !form.Has("csrf") {
		form.Set("csrf", b.csrf)
	}
	return b.do(http.MethodPost, path, form, header...)
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]*)"`)

// signIn signs in and remembers the token of the forms.
func (b *browser) signIn(name, token string) {
	b.t.Helper()
	a := b.do(http.MethodPost, "/sign-in", url.Values{"operator": {name}, "token": {token}, "next": {"/"}})
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "/" {
		b.t.Fatalf("sign in: got %d to %q: %.300s", a.status, a.header.Get("Location"), a.body)
	}
	match := csrfField.FindStringSubmatch(b.get("/").body)
	if match == nil || match[1] == "" {
		b.t.Fatal("the overview has no token for its forms")
	}
	b.csrf = match[1]
}
