package e2e

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"ingestd/internal/payersim"
)

func TestDownstream_script_handles_each_publish_once_and_what_it_missed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.payer("acme", payersim.Options{Patients: 3, Seed: 1})
	s.configure("", []payer{p}, "export: {since: never}")
	if _, err := s.run("run", "acme"); err != nil { // which nobody hears
		t.Fatal(err)
	}
	out := &syncBuffer{}
	listen := func() (stop func()) {
		cmd := exec.Command("../../deployments/downstream/on-publish", s.url, "sh", "-c", `echo "published: $PUBLISHED"`)
		cmd.Stdout, cmd.Stderr = out, out
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it has children
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stopped := false
		stop = func() {
			if !stopped {
				stopped = true
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
				_ = cmd.Wait() // it was killed
			}
		}
		t.Cleanup(stop)
		return stop
	}
	handled := func(lines ...string) {
		t.Helper()
		want := "published: " + strings.Join(lines, "\npublished: ") + "\n"
		s.wait(want, func() bool { return out.String() == want })
		s.wait("the mark", func() bool { return s.number(`SELECT count(*) FROM downstream.handled`) == int64(len(lines)) })
	}
	stop := listen()
	handled("1")
	if _, err := s.run("run", "acme"); err != nil {
		t.Fatal(err)
	}
	handled("1", "2")
	stop()
	if _, err := s.run("run", "acme"); err != nil {
		t.Fatal(err)
	}
	listen()
	handled("1", "2", "3")
	time.Sleep(2 * time.Second) // in which it would handle them again
	handled("1", "2", "3")

	docs, err := os.ReadFile("../../docs/downstream.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(docs), -1)
	if len(blocks) != 3 {
		t.Fatalf("the documentation shows %d queries, want three", len(blocks))
	}
	for _, block := range blocks {
		query := strings.ReplaceAll(block[1], "{{ source('fhir', 'coverage') }}", "fhir.coverage")
		if _, err := s.db.Exec(t.Context(), query); err != nil {
			t.Errorf("%v:\n%s", err, query)
		}
	}
}
