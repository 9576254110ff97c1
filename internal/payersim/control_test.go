package payersim

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestSim_faults_can_be_changed_while_it_runs(t *testing.T) {
	t.Parallel()
	p := start(t, Options{})
	put := func(body string) answer { return p.send(http.MethodPut, "/_sim/faults", body) }
	expect(t, put("kickoff_fail_first: 1\nexport_duration: 3s\ntoken: {answers: [{status: 503}]}\n"), http.StatusNoContent, "")
	if got := p.plan().Faults; got.KickOffFailFirst != 1 || got.ExportDuration != 3*time.Second || len(got.Token.Answers) != 1 {
		t.Errorf("the plan in force is %+v", got)
	}
	expect(t, p.postForm(p.form(sign(t, p.key, p.claims(), nil))), http.StatusServiceUnavailable, "")
	shown := p.send(http.MethodGet, "/_sim/faults", "")
	expect(t, shown, http.StatusOK, "kickoff_fail_first: 1")
	expect(t, put(string(shown.body)), http.StatusNoContent, "") // what it shows, it takes

	for _, bad := range []string{"no_such_fault: 1", "kickoff_fail_first: -1", "{", "kickoff_fail_first: many"} {
		expect(t, put(bad), http.StatusBadRequest, "")
	}
	if got := p.plan().KickOffFailFirst; got != 1 {
		t.Errorf("a plan that was refused changed the one in force: %d", got)
	}
	expect(t, put(`{"status_fail_first": 2}`), http.StatusNoContent, "")
	if got := p.plan().Faults; got.KickOffFailFirst != 0 || got.StatusFailFirst != 2 {
		t.Errorf("the plan in force is %+v", got)
	}
	expect(t, put(" "), http.StatusNoContent, "")
	if got := string(p.send(http.MethodGet, "/_sim/faults", "").body); strings.Contains(got, "status_fail_first: 2") {
		t.Errorf("an empty plan still holds faults: %s", got)
	}
}
