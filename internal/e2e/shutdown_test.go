package e2e

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"ingestd/internal/payersim"
)

// stalled is a payer that sends a file so slowly that no checkpoint comes within the grace period.
func (s *site) stalled() payer {
	return s.payer("stalled", payersim.Options{Patients: 60, Seed: 4, LinesPerFile: 100_000, Faults: payersim.Faults{BytesPerSecond: 2000}})
}

// reads waits until files are being read.
func (s *site) reads(p payer) {
	s.t.Helper()
	s.wait("files that are read", func() bool { return p.sim.Stats().Files >= 2 })
}

func TestServe_stops_within_its_grace_although_a_payer_stalls_and_leaves_nothing_locked(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.stalled()
	s.configure("shutdown: {grace: 2s}", []payer{p}, "schedule: \"@every 2s\"\nexport: {since: never}")
	daemon := s.start("serve")
	s.reads(p)
	began := time.Now()
	s.stop(daemon) // which wants a clean end
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the stop took %s, want it soon after the grace of 2s", took)
	}
	if !strings.Contains(daemon.log.String(), "ingestd ends") {
		t.Error("it did not come to its end")
	}
	s.wait("the end of its connections", func() bool { // Postgres notices a moment later
		return s.number(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ingestd'`) == 0
	})
	if n := s.number(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`); n != 0 {
		t.Errorf("%d locks are left", n)
	}
}

func TestServe_ends_at_once_at_the_second_signal(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.stalled()
	s.configure("shutdown: {grace: 10m}", []payer{p}, "schedule: \"@every 2s\"\nexport: {since: never}")
	daemon := s.start("serve")
	s.reads(p)
	s.forget(daemon)
	if err := daemon.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	kickOffs := p.sim.Stats().KickOffs
	select {
	case <-daemon.done:
		t.Fatal("the first signal ended it, although a load was not at a checkpoint")
	case <-time.After(3 * time.Second):
	}
	if p.sim.Stats().KickOffs != kickOffs {
		t.Error("new work was begun after the first signal")
	}
	began := time.Now()
	if err := daemon.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-daemon.done:
	case <-time.After(patience):
		t.Fatal("the second signal does not end it")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the second signal took %s", took)
	}
	if status, ok := daemon.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Errorf("it ended with %v, want by the signal", daemon.err)
	}
}

func TestServe_tells_systemd_what_it_is_about(t *testing.T) {
	s := newSite(t)
	p := s.payer("one", payersim.Options{Patients: 3, Seed: 1, Faults: payersim.Faults{ExportDuration: time.Hour}})
	s.configure("", []payer{p}, "schedule: \"@every 2s\"")
	path := filepath.Join(s.dir, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "2000000")
	// await reads messages until one holds what is wanted.
	await := func(pattern string) string {
		t.Helper()
		want := regexp.MustCompile(pattern)
		buffer := make([]byte, 4096)
		for deadline := time.Now().Add(patience); ; {
			if err := socket.SetReadDeadline(deadline); err != nil {
				t.Fatal(err)
			}
			n, err := socket.Read(buffer)
			if err != nil {
				t.Fatalf("no message like %s: %v", pattern, err)
			}
			if message := string(buffer[:n]); want.MatchString(message) {
				return message
			}
		}
	}
	daemon := s.start("serve")
	await(`(?m)^READY=1$`)
	await(`^WATCHDOG=1$`)
	first := time.Now()
	await(`^WATCHDOG=1$`)
	if gap := time.Since(first); gap > 2*time.Second {
		t.Errorf("the watchdog hears something every %s, want half of 2s", gap)
	}
	s.wait("an export", func() bool { return p.sim.Stats().KickOffs > 0 })
	await(`^STATUS=1 exports running, 0 due$`)
	if err := daemon.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	await(`^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*$`)
	await(`^READY=1$`)
	// A configuration that is refused ends the reload as well.
	if err := os.WriteFile(s.config, []byte("nonsense: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := daemon.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	await(`^RELOADING=1\n`)
	await(`^READY=1$`)
	s.forget(daemon)
	if err := daemon.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await(`^STOPPING=1\n`)
	<-daemon.done
	if daemon.err != nil {
		t.Errorf("SIGTERM: %v", daemon.err)
	}
}
