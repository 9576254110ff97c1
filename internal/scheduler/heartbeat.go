package scheduler

import (
	"context"
	"time"
)

const (
	// beatInterval is between two heartbeats of an instance, and beatPatience how long it may be without one before what it was
	// asking of payers is asked again by others. Where it is alive after all, the generation of the job makes that harmless.
	beatInterval = 2 * time.Second
	beatPatience = 15 * time.Second
)

// beat tells the others that this instance is alive, until ctx ends. One that cannot tell them, because it has lost the
// database, cannot work either; the jobs that fail for it say so.
func (e *Engine) beat(ctx context.Context) {
	ticker := time.NewTicker(beatInterval)
	defer ticker.Stop()
	for {
		bounded, cancel := context.WithTimeout(ctx, beatPatience)
		if err := e.store.BeatWorker(bounded, e.client.ID()); err != nil {
			e.logger.DebugContext(ctx, "no heartbeat", "error", err)
		}
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
