package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// instance is one of the ingestd, over all of its lives.
type instance struct {
	number  int
	program string
	config  string // its own copy of the configuration
	admin   string // address of its admin listener
	log     string // file

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	// asked is set where its end was brought about, surprises are the ends that were not.
	asked     bool
	surprises []string
	lives     int
}

// freePort is an address that nobody listens at.
func freePort(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String(), nil
}

// start begins another life, and returns when the process has read its configuration: before, it knows nothing of signals.
func (i *instance) start(ctx context.Context) error {
	before, err := os.Stat(i.log)
	var offset int64
	if err == nil {
		offset = before.Size()
	}
	if err := i.launch(); err != nil {
		return err
	}
	return waitFor(ctx, fmt.Sprintf("the start of instance %d", i.number), func() (bool, error) {
		text, err := os.ReadFile(i.log)
		if err != nil {
			return false, fmt.Errorf("instance %d: %w", i.number, err)
		}
		return i.ended() || bytes.Contains(text[offset:], []byte("ingestd starts")), nil
	})
}

// name is what it is called in figures.
func (i *instance) name() string { return fmt.Sprintf("instance %d", i.number) }

func (i *instance) launch() error {
	log, err := os.OpenFile(i.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("instance %d: %w", i.number, err)
	}
	defer func() { _ = log.Close() }()                            // the process has it open by itself
	cmd := exec.Command(i.program, "serve", "--config", i.config) //nolint:gosec,noctx // the program under test; it is ended by signals
	cmd.Stdout, cmd.Stderr = log, log
	// The payer's address is loopback, and so is no proxy's business.
	cmd.Env = append(os.Environ(), "GOTRACEBACK=all")
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("instance %d: %w", i.number, err)
	}
	done := make(chan struct{})
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cmd, i.done, i.asked = cmd, done, false
	i.lives++
	go func() {
		defer close(done)
		err := cmd.Wait()
		i.mu.Lock()
		defer i.mu.Unlock()
		if !i.asked {
			i.surprises = append(i.surprises, fmt.Sprintf("instance %d ended by itself in its life %d: %v", i.number, i.lives, err))
		}
	}()
	return nil
}

func (i *instance) ended() bool {
	i.mu.Lock()
	done := i.done
	i.mu.Unlock()
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// expectEnd says that the process is going to be ended.
func (i *instance) expectEnd() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked = true
}

func (i *instance) signal(s syscall.Signal) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("instance %d: signal %s: %w", i.number, s, err)
	}
	return nil
}

// end sends a signal that ends the process, and waits until it has ended.
func (i *instance) end(ctx context.Context, s syscall.Signal) error {
	i.expectEnd()
	if err := i.signal(s); err != nil {
		return err
	}
	return waitFor(ctx, fmt.Sprintf("the end of instance %d", i.number), func() (bool, error) { return i.ended(), nil })
}

// commandTimeout bounds a command of the operator.
const commandTimeout = time.Minute

// operate types a command of ingestd, past all troubles, and returns what it printed.
func (w *world) operate(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.options.Ingestd, append(args, "--config", filepath.Join(w.dir, "operator.yaml"))...) //nolint:gosec // the program under test
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	w.keep("operator", stdout.Bytes(), stderr.Bytes())
	if err != nil {
		return nil, fmt.Errorf("ingestd %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}
