package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Usage is what a measured piece of work took.
type Usage struct {
	Seconds     float64 `json:"seconds"`
	CPUSeconds  float64 `json:"cpu_seconds"`   // of the contender's own processes
	PeakRSSMiB  float64 `json:"peak_rss_mib"`  // of its largest process
	PayerCPU    float64 `json:"payer_cpu"`     // seconds that the simulated payer took meanwhile
	PostgresCPU float64 `json:"postgres_cpu"`  // seconds that Postgres took meanwhile
	WALBytes    int64   `json:"wal_bytes"`     // written meanwhile
	ReaderWait  float64 `json:"reader_wait_s"` // the longest that a reader's query took meanwhile; 0 where none read
}

// ticksPerSecond is USER_HZ: 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// cpuOf is the CPU time of a process, of its children that have ended, and of those that run.
func cpuOf(pid int) (float64, error) {
	children := map[int][]int{}
	own := map[int]float64{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, fmt.Errorf("list the processes: %w", err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		id, parent, seconds, err := parseStat(text)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", path, err)
		}
		children[parent] = append(children[parent], id)
		own[id] = seconds
	}
	if _, ok := own[pid]; !ok {
		return 0, fmt.Errorf("process %d is not there", pid)
	}
	var sum func(int) float64
	sum = func(id int) float64 {
		total := own[id]
		for _, child := range children[id] {
			total += sum(child)
		}
		return total
	}
	return sum(pid), nil
}

// parseStat reads /proc/PID/stat: proc_pid_stat(5).
func parseStat(text []byte) (pid, parent int, seconds float64, err error) {
	name := bytes.LastIndexByte(text, ')') // it may hold spaces and parentheses
	fields := strings.Fields(string(text[name+1:]))
	if name < 0 || len(fields) < 15 {
		return 0, 0, 0, errors.New("not the form of proc_pid_stat(5)")
	}
	pid, err = strconv.Atoi(string(text[:bytes.IndexByte(text, ' ')]))
	if err != nil {
		return 0, 0, 0, fmt.Errorf("pid: %w", err)
	}
	if parent, err = strconv.Atoi(fields[1]); err != nil {
		return 0, 0, 0, fmt.Errorf("ppid: %w", err)
	}
	var ticks int64
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0, 0, fmt.Errorf("times: %w", err)
		}
		ticks += n
	}
	return pid, parent, float64(ticks) / ticksPerSecond, nil
}

// measure runs commands at once, waits for all, and says what they took together.
func measure(ctx context.Context, commands ...*exec.Cmd) (Usage, error) {
	var usage Usage
	start := time.Now()
	var errs []error
	var started []*exec.Cmd
	for _, command := range commands {
		var stderr bytes.Buffer
		if command.Stderr == nil {
			command.Stderr = &stderr
		}
		if err := command.Start(); err != nil {
			errs = append(errs, fmt.Errorf("start %s: %w", command.Path, err))
			break
		}
		started = append(started, command)
	}
	for _, command := range started {
		if err := command.Wait(); err != nil {
			text := ""
			if stderr, ok := command.Stderr.(*bytes.Buffer); ok {
				text = stderr.String()
			}
			errs = append(errs, fmt.Errorf("%s: %w: %s", filepath.Base(command.Path), err, lastLines(text, 10)))
		}
		usage.CPUSeconds += (command.ProcessState.UserTime() + command.ProcessState.SystemTime()).Seconds()
		if rusage, ok := command.ProcessState.SysUsage().(*syscall.Rusage); ok {
			usage.PeakRSSMiB = max(usage.PeakRSSMiB, float64(rusage.Maxrss)/1024)
		}
	}
	usage.Seconds = time.Since(start).Seconds()
	if ctx.Err() != nil {
		return usage, fmt.Errorf("measure: %w", context.Cause(ctx))
	}
	return usage, errors.Join(errs...)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
