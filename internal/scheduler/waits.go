package scheduler

import (
	"sync"
	"time"

	"ingestd/internal/store"
)

// sameWait is how long it is no news that an export still waits for the same thing.
const sameWait = 10 * time.Minute

// waits remembers what the export of each payer was last said to wait for: one that waits for hours looks every few seconds whether it
// has to.
type waits struct {
	mu   sync.Mutex
	last map[string]lastWait // by payer, of which one export runs at a time
}

type lastWait struct {
	export int64
	code   string
	at     time.Time
}

// news reports whether it is worth a line that an export waits, and why.
func (w *waits) news(x store.Export, code string, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.last[x.Payer]
	if last.export == x.ID && last.code == code && now.Sub(last.at) < sameWait {
		return false
	}
	if w.last == nil {
		w.last = make(map[string]lastWait)
	}
	w.last[x.Payer] = lastWait{x.ID, code, now}
	return true
}

// waitsFor says whose wish it is that an export waits.
func waitsFor(code string) string {
	switch code {
	case codeClientBusy:
		return "the export waits for that of another payer with the same client and group"
	case codeElsewhere:
		return "the export is left to instances that have its payer in their configuration"
	}
	return "payer asks to wait"
}
