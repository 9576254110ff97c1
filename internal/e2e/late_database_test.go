package e2e

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"ingestd/internal/payersim"
)

// front is an address at which Postgres can be there or not.
type front struct {
	address, socket string
	listener        net.Listener
	group           sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

// open makes Postgres be there until the test ends.
func (f *front) open(t *testing.T) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	f.listener, f.address = listener, listener.Addr().String()
	f.group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := (&net.Dialer{}).DialContext(t.Context(), "unix", f.socket)
			if err != nil {
				_ = client.Close()
				continue
			}
			f.mu.Lock()
			f.conns = append(f.conns, client, server)
			f.mu.Unlock()
			for from, to := range map[net.Conn]net.Conn{client: server, server: client} {
				f.group.Go(func() {
					_, _ = io.Copy(to, from)
					_ = to.Close()
					_ = from.Close()
				})
			}
		}
	})
}

func (f *front) close() {
	_ = f.listener.Close()
}

// cut takes Postgres away: nobody connects any more, and who is connected no longer is.
func (f *front) cut() {
	f.close()
	f.mu.Lock()
	for _, conn := range f.conns {
		_ = conn.Close()
	}
	f.conns = nil
	f.mu.Unlock()
	f.group.Wait()
}

// newFront puts a front before the database of a site, whose processes then connect through it. It is closed.
func newFront(t *testing.T, s *site) *front {
	t.Helper()
	direct, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{address: "127.0.0.1:0", socket: filepath.Join(direct.Query().Get("host"), ".s.PGSQL."+direct.Query().Get("port"))}
	f.open(t) // takes the port
	f.close()
	through, query := *direct, direct.Query()
	query.Del("host")
	query.Del("port")
	query.Set("sslmode", "disable")
	through.Host, through.RawQuery = f.address, query.Encode()
	s.url = through.String()
	return f
}

func TestServe_waits_for_a_database_that_is_not_there_yet(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.payer("acme", payersim.Options{Patients: 5, Seed: 1})
	f := newFront(t, s)
	s.configure("", []payer{p}, "schedule: \"@every 1s\"\njitter: 0s")

	daemon := s.start("serve")
	admin := func() string {
		found := regexp.MustCompile(`address=(127\.0\.0\.1:\d+)`).FindStringSubmatch(daemon.log.String())
		if found == nil {
			return ""
		}
		return "http://" + found[1]
	}
	s.wait("the admin listener", func() bool { return admin() != "" })
	get := func(path string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, admin()+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	if status, _ := get("/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: got HTTP %d, want 200: a restart would not help", status)
	}
	if status, body := get("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "database") {
		t.Errorf("/readyz: got HTTP %d %s, want 503 that names the database", status, body)
	}
	s.wait("a word in the log", func() bool { return strings.Contains(daemon.log.String(), "waiting for the database") })
	f.open(t)
	t.Cleanup(func() {
		f.close()
		f.group.Wait()
	})
	s.wait("an export", func() bool { return s.published("acme") > 0 })
	if status, body := get("/readyz"); status != http.StatusOK {
		t.Errorf("/readyz: got HTTP %d %s, want 200", status, body)
	}
	s.stop(daemon)
}

func TestServe_does_not_wait_where_the_database_refuses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.url += "&user=nobody_by_that_name"
	s.configure("", nil, "")
	if _, err := s.run("serve"); err == nil || !strings.Contains(err.Error(), "nobody_by_that_name") {
		t.Errorf("got %v, want an end that names the role", err)
	}
}
