package ecs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeAgent answers as the agent of ECS does, and takes nothing that it does not document.
type fakeAgent struct {
	mu       sync.Mutex
	requests []string
	// broken, where set, answers in its place.
	broken http.HandlerFunc
}

func (f *fakeAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var body struct {
		ProtectionEnabled *bool
		ExpiresInMinutes  *int64
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	switch err := decoder.Decode(&body); {
	case r.Method != http.MethodPut, r.URL.Path != "/api/4a5b-0123/task-protection/v1/state", r.Header.Get("Content-Type") != "application/json":
		http.NotFound(w, r)
		return
	case err != nil || body.ProtectionEnabled == nil,
		*body.ProtectionEnabled && (body.ExpiresInMinutes == nil || *body.ExpiresInMinutes < 1 || *body.ExpiresInMinutes > 2880),
		!*body.ProtectionEnabled && body.ExpiresInMinutes != nil:
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":{"Arn":"arn","Code":"InvalidParameterException","Message":"not a request for protection"}}`)
		f.requests = append(f.requests, "bad")
		return
	}
	f.requests = append(f.requests, fmt.Sprint(*body.ProtectionEnabled))
	if f.broken != nil {
		f.broken(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"protection":{"ExpirationDate":"2026-03-01T00:00:00Z","ProtectionEnabled":%t,"TaskArn":"arn:aws:ecs:us-east-1:123456789012:task/c/1"}}`,
		*body.ProtectionEnabled)
}

func (f *fakeAgent) got() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

func newProtection(t *testing.T) (*fakeAgent, *Protection, *bytes.Buffer) {
	t.Helper()
	fake := &fakeAgent{}
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	log := &bytes.Buffer{}
	p, err := New(Options{URI: server.URL + "/api/4a5b-0123", Logger: slog.New(slog.NewTextHandler(log, nil)), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.agent.http.CloseIdleConnections)
	return fake, p, log
}

// value is what a metric says.
func value(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%d families, %v", len(families), err)
	}
	metric := families[0].GetMetric()[0]
	return metric.GetCounter().GetValue() + metric.GetGauge().GetValue() // one of them is 0
}

func TestProtection_lasts_from_the_first_work_to_the_stop(t *testing.T) {
	t.Parallel()
	fake, p, log := newProtection(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	if got := fake.got(); len(got) != 0 {
		t.Errorf("an idle task asked for %v", got)
	}
	first, second := p.Work(), p.Work()
	for deadline := time.Now().Add(time.Minute); len(fake.got()) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("nobody asked for protection")
		}
		time.Sleep(time.Millisecond) // bounded by the deadline
	}
	first()
	first() // twice is once
	if !p.isWorking() {
		t.Error("the second work counts as ended")
	}
	second()
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := fake.got(); !slices.Equal(got, []string{"true", "false"}) {
		t.Errorf("asked for %v, want protection and its end", got)
	}
	if log.Len() != 0 || value(t, p.failures) != 0 || value(t, p.held) != 0 {
		t.Errorf("got log %q, %v failures", log, value(t, p.failures))
	}
}

// A day of a task, by the looks that Run takes.
func TestKeeper_renews_lets_go_and_rests(t *testing.T) {
	t.Parallel()
	fake, p, _ := newProtection(t)
	k := keeper{p: p}
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var course []string
	at := func(after time.Duration, working bool) time.Duration {
		before := len(fake.got())
		next := k.look(t.Context(), start.Add(after), working)
		if next <= 0 || next > renewal {
			t.Errorf("at %v the next look is in %v", after, next)
		}
		for _, request := range fake.got()[before:] {
			course = append(course, fmt.Sprint(after, " ", request))
		}
		return next
	}
	at(0, false)
	for now := time.Minute; now < 69*time.Minute; now += at(now, true) { // work without an end
	}
	want := []string{"1m0s true"}
	for m := 5; m < 61; m += 4 {
		want = append(want, fmt.Sprintf("%v true", time.Duration(m)*time.Minute))
	}
	want = append(want, "1h1m0s false", "1h4m0s true", "1h8m0s true")
	if !slices.Equal(course, want) {
		t.Errorf("got\n%v, want\n%v", course, want)
	}
	course = nil
	at(70*time.Minute, false)
	at(70*time.Minute+5*time.Second, true) // the next file
	at(70*time.Minute+6*time.Second, false)
	at(70*time.Minute+15*time.Second, false)
	at(70*time.Minute+16*time.Second, false)
	at(80*time.Minute, false)
	if want := []string{"1h10m16s false"}; !slices.Equal(course, want) {
		t.Errorf("got %v, want the end of work to be followed by one release %v", course, want)
	}
}

func TestKeeper_tells_of_failures_once_and_counts_them(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, answer, want string }{
		{"an error", "403 " + `{"requestID":"r","error":{"Arn":"a","Code":"AccessDeniedException","Message":"no ecs:UpdateTaskProtection"}}`, "403: AccessDeniedException: no ecs:UpdateTaskProtection"},
		{"a failure in a good answer", "200 " + `{"failure":{"Arn":"a","Reason":"TASK_NOT_VALID"}}`, "ECS refuses: TASK_NOT_VALID"},
		{"no JSON", "200 <html>", "cannot be read"},
		{"not what was asked for", "200 " + `{"protection":{"ProtectionEnabled":false}}`, "has not done"},
		{"a proxy", "502 bad gateway", "answers 502"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fake, p, log := newProtection(t)
			k := keeper{p: p}
			now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
			fake.broken = func(w http.ResponseWriter, _ *http.Request) {
				var status int
				_, _ = fmt.Sscan(tt.answer, &status)
				w.WriteHeader(status)
				_, body, _ := strings.Cut(tt.answer, " ")
				fmt.Fprint(w, body)
			}
			for range 3 {
				if next := k.look(t.Context(), now, true); next != retry {
					t.Errorf("the next look is in %v, want %v", next, retry)
				}
				now = now.Add(retry)
			}
			if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), tt.want) {
				t.Errorf("got %d warnings, want one that says %q:\n%s", n, tt.want, log)
			}
			if n := value(t, p.failures); n != 3 {
				t.Errorf("%v failures are counted, want 3", n)
			}
			fake.mu.Lock()
			fake.broken = nil
			fake.mu.Unlock()
			k.look(t.Context(), now, true)
			if !k.protected || k.failing || value(t, p.held) != 1 || !strings.Contains(log.String(), "can be changed again") {
				t.Errorf("it is not protected when the agent answers again: %+v\n%s", k, log)
			}
		})
	}
}

func TestNew_refuses_what_is_no_URL(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{"", "169.254.170.2/api/x", "file:///etc/passwd", "http://"} {
		if _, err := New(Options{URI: uri}); err == nil {
			t.Errorf("%q was taken", uri)
		}
	}
}
