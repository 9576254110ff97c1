package scheduler

import (
	"ingestd/internal/notify"
	"ingestd/internal/store"
)

// Tuning is what can be exchanged while an engine works, beside its payers.
type Tuning struct {
	// ChunkBytes is how much is staged at once; the store's default if 0.
	ChunkBytes int
	// MaxExports bounds the exports that run at once over all instances; 0 is no bound.
	MaxExports int
	// Indexes are what the tables get beside their own.
	Indexes []store.Index
	// Retention is how long what is over is kept; without it, for ever.
	Retention store.Retention
	// Notifier sends notifications; nil tells nobody anything.
	Notifier *notify.Sender
}

// tune goes over to another tuning. What has begun goes on as it began.
func (e *Engine) tune(t Tuning) {
	if t.Notifier == nil {
		t.Notifier = new(notify.Sender)
	}
	e.tuning.Store(&t)
}
