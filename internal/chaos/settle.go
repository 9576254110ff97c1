package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// over are the states in which an export stays.
const over = `('published', 'failed', 'canceled')`

// settle leaves everything in peace: no more troubles, no more ticks, every export that runs comes to its end, and each payer is exported once
// more, as its schedule would. It returns the numbers of these last exports.
func (w *world) settle(ctx context.Context) (map[string]int64, error) {
	for _, p := range w.payers {
		p.gone.Store(false)
		if err := p.sim.SetFaults(calm()); err != nil {
			return nil, fmt.Errorf("calm payer %s: %w", p.name, err)
		}
	}
	client := &http.Client{Timeout: scrapeTimeout}
	defer client.CloseIdleConnections()
	for _, i := range w.instances {
		err := waitFor(ctx, fmt.Sprintf("instance %d to be ready", i.number), func() (bool, error) {
			text, err := get(ctx, client, "http://"+i.admin+"/readyz")
			return err == nil && strings.Contains(string(text), `"ready"`), nil
		})
		if err != nil {
			return nil, err
		}
	}
	if _, err := w.operate(ctx, "pause", "--all"); err != nil {
		return nil, err
	}
	if err := w.idle(ctx); err != nil {
		return nil, err
	}
	// What is held is an operator's to decide. Nothing that the payers do should lead to it.
	held, err := w.number(ctx, `SELECT count(*) FROM ingest.export WHERE state = 'held'`)
	if err != nil {
		return nil, err
	}
	if held > 0 {
		return nil, fmt.Errorf("%d exports are held, although no payer's data have shrunk", held)
	}
	last := make(map[string]int64)
	for _, p := range w.payers {
		out, err := w.operate(ctx, "run", p.name, "--detach", "--output", "json")
		if err != nil {
			return nil, err
		}
		var started struct {
			ExportID int64 `json:"export_id"`
		}
		if err := json.Unmarshal(out, &started); err != nil {
			return nil, fmt.Errorf("read what run printed: %w", err)
		}
		last[p.name] = started.ExportID
	}
	return last, w.idle(ctx)
}

// idle waits until no export runs and each is cleaned up. Jobs of the engine are not waited for: those of an instance that died stay
// until the engine finds them, long after others have done their work.
func (w *world) idle(ctx context.Context) error {
	return waitFor(ctx, "the exports to end", func() (bool, error) {
		n, err := w.number(ctx, `SELECT count(*) FROM ingest.export WHERE state <> 'held' AND (state NOT IN `+over+`
			OR status_url <> '' AND cleaned_up_at IS NULL)`)
		return n == 0, err
	})
}
