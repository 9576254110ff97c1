package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// Not parallel: the agent is known by the environment.
func TestServe_asks_ECS_for_protection_while_it_loads_and_lets_go_at_SIGTERM(t *testing.T) {
	var mu sync.Mutex
	var asked []bool
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ ProtectionEnabled bool }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Method != http.MethodPut || r.URL.Path != "/api/1/task-protection/v1/state" {
			http.NotFound(w, r)
			return
		}
		mu.Lock()
		asked = append(asked, body.ProtectionEnabled)
		mu.Unlock()
		fmt.Fprintf(w, `{"protection":{"ProtectionEnabled":%t,"TaskArn":"arn"}}`, body.ProtectionEnabled)
	}))
	t.Cleanup(agent.Close)
	t.Setenv("ECS_AGENT_URI", agent.URL+"/api/1")
	got := func() []bool {
		mu.Lock()
		defer mu.Unlock()
		return append([]bool(nil), asked...)
	}

	s := newSite(t)
	p := s.stalled()
	const schedule = "schedule: \"@every 2s\"\nexport: {since: never}"
	s.configure("shutdown: {grace: 1s}\necs: {task_protection: false}", []payer{p}, schedule)
	off := s.start("serve")
	s.reads(p)
	s.stop(off)
	if len(got()) != 0 {
		t.Error("it is switched off, and ECS was asked")
	}

	s.configure("shutdown: {grace: 1s}", []payer{p}, schedule)
	daemon := s.start("serve")
	s.wait("the request for protection", func() bool { return len(got()) > 0 })
	s.stop(daemon)
	if all := got(); !all[0] || all[len(all)-1] {
		t.Errorf("asked for %v, want protection, and its end at the stop", all)
	}
}
