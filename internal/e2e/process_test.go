//go:build faults

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ingestd/internal/payersim"
)

func (p *process) signal(t *testing.T, signal os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

func TestServe_that_hangs_and_wakes_doubles_nothing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		lost bool // Postgres gives the connections of the hanging instance up, as it does those of a host that is gone
	}{
		{"11 and keeps its locks", false},
		{"11 and loses its locks meanwhile", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p := s.slowly()
			s.configure("workers: {chunk: 128KiB}", []payer{p}, slowExtra)
			sleeper := s.start("serve")
			s.ask(t, p)
			s.atWork()
			other := s.start("serve")
			s.wait("the other", func() bool { return strings.Contains(other.log.String(), "engine started") })
			sleeper.signal(t, syscall.SIGSTOP)
			t.Cleanup(func() { _ = sleeper.cmd.Process.Signal(syscall.SIGCONT) })
			began, lines := time.Now(), s.staged()
			if test.lost {
				s.number(`SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity AS a JOIN pg_locks AS l ON l.pid = a.pid
					WHERE a.datname = current_database() AND a.application_name = 'ingestd' AND l.locktype = 'advisory'`)
				s.wait("the other to take over", func() bool { return s.staged() > lines })
				t.Logf("taken over after %s", time.Since(began).Round(100*time.Millisecond))
			} else {
				s.wait("some time", func() bool { return time.Since(began) > 25*time.Second })
			}
			sleeper.signal(t, syscall.SIGCONT)
			s.wait("the publish", func() bool { return s.published(p.name) == 1 })
			s.settled(t, p, sleeper, false)
			s.stop(other)
		})
	}
}

// resident is the most memory that a process has had, in MiB.
func (p *process) resident(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n >> 10
		}
	}
	t.Fatal("the kernel tells no VmHWM")
	return 0
}

func TestServe_stays_within_its_memory_limit(t *testing.T) {
	t.Parallel()
	const (
		limit = 64 // MiB, of the runtime's heap and stacks
		apart = 48 // of the program's own pages, and of what the runtime does not count
	)
	s := newSite(t)
	p := s.payer("acme", payersim.Options{
		Patients: 400, Seed: 51, LinesPerFile: 200, Faults: payersim.Faults{File: payersim.FileFaults{LongLine: 7_000_000}},
	})
	s.configure("workers: {chunk: 1MiB, downloads: 4}", []payer{p}, faultExtra+"\nlimits: "+limits+", max_line: 8MiB}")
	command := []string{binary, "serve", "--config", s.config}
	wrap, hard := memoryGroup(t, limit+apart)
	if hard {
		command = wrap(command...)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "GOMEMLIMIT="+decimal(limit)+"MiB")
	daemon := s.launch(cmd)
	s.ask(t, p)
	s.wait("the publish", func() bool { return s.published(p.name) == 1 })
	most := daemon.resident(t)
	t.Logf("at most %d MiB with GOMEMLIMIT at %d MiB, under a hard limit of the kernel: %t, in an export of %d MB", most, limit, hard,
		s.number(`SELECT bytes / 1000000 FROM ingest.export`))
	if most > limit+apart {
		t.Errorf("it took %d MiB, want at most %d", most, limit+apart)
	}
	s.stop(daemon)
}

// files sets how many files a process may have open.
func (p *process) files(t *testing.T, n uint64) {
	t.Helper()
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: 4096}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestServe_lives_on_with_too_few_file_descriptors(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.payer("acme", payersim.Options{Patients: 20, Seed: 52, LinesPerFile: 50})
	s.configure("", []payer{p}, slowExtra)
	daemon := s.start("serve")
	s.wait("the engine", func() bool { return strings.Contains(daemon.log.String(), "engine started") })
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", daemon.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	daemon.files(t, uint64(len(open)))
	s.ask(t, p)
	s.wait("a word of it", func() bool { return strings.Contains(daemon.log.String(), "too many open files") })
	if daemon.ended() {
		t.Fatal("the daemon ended")
	}
	daemon.files(t, 1024)
	s.settled(t, p, daemon, false)
}

func TestServe_goes_on_although_the_disk_of_its_log_is_full(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 1)
	s := newSite(t)
	p := s.payer("acme", payersim.Options{Patients: 20, Seed: 53, LinesPerFile: 50})
	s.configure("", []payer{p}, slowExtra)
	log, err := os.Create(filepath.Join(disk, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	free := fill(t, disk)
	if _, err := log.WriteString("more than a page that is there already\n"); err == nil {
		t.Error("the disk is not full")
	}
	cmd := exec.Command(binary, "serve", "--config", s.config)
	cmd.Stderr = log
	daemon := s.launch(cmd)
	s.ask(t, p)
	s.wait("the publish", func() bool { return s.published(p.name) == 1 })
	free()
	s.ask(t, p)
	s.wait("a log again", func() bool {
		said, err := os.ReadFile(log.Name())
		return err == nil && strings.Contains(string(said), "export published")
	})
	s.settled(t, p, daemon, false)
}
