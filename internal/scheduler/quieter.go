package scheduler

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// quietFor is how long the same message of the job engine is counted, and not logged again.
const quietFor = time.Minute

// quieter passes the job engine's own log on from warnings upwards: what it says below that is about itself. While Postgres is away, each
// of its loops says so twice a second: a message that has been logged is logged again a minute later, with how often it came. What is said
// of a job is always passed on.
type quieter struct {
	slog.Handler
	said *said
}

// said is what has been logged lately.
type said struct {
	mu       sync.Mutex
	messages map[string]*saying
}

type saying struct {
	at       time.Time
	repeated int
}

func newQuieter(h slog.Handler) quieter { return quieter{h, &said{messages: make(map[string]*saying)}} }

// Enabled implements slog.Handler.
func (q quieter) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (q quieter) Handle(ctx context.Context, r slog.Record) error {
	if !strings.Contains(r.Message, "JobExecutor:") {
		repeated, speak := q.said.again(r.Message, r.Time)
		if !speak {
			return nil
		}
		if repeated > 0 {
			r = r.Clone()
			r.AddAttrs(slog.Int("repeated", repeated))
		}
	}
	return q.Handler.Handle(ctx, r) //nolint:wrapcheck // a handler passes errors of the next on
}

// WithAttrs implements slog.Handler.
func (q quieter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quieter{q.Handler.WithAttrs(attrs), q.said}
}

// WithGroup implements slog.Handler.
func (q quieter) WithGroup(name string) slog.Handler {
	return quieter{q.Handler.WithGroup(name), q.said}
}

// again reports whether a message is to be logged, and how often it has come since it last was. The messages are the job engine's
// constants, so that they are few.
func (s *said) again(message string, now time.Time) (repeated int, speak bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, known := s.messages[message]
	if !known {
		s.messages[message] = &saying{at: now}
		return 0, true
	}
	if now.Sub(last.at) < quietFor {
		last.repeated++
		return 0, false
	}
	repeated, last.at, last.repeated = last.repeated, now, 0
	return repeated, true
}
