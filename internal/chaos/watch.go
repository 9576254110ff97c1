package chaos

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// scrapeEvery is how often each instance is looked at, as a Prometheus would.
	scrapeEvery = 2 * time.Second
	// scrapeTimeout bounds a look: an instance may be frozen.
	scrapeTimeout = 5 * time.Second
	maxScrape     = 16 << 20
)

// pages are what is asked for at the admin listener; what they answer is searched at the end.
var pages = []string{"/metrics", "/", "/api/v1/payers", "/api/v1/exports", "/api/v1/config", "/api/v1/audit", "/readyz"}

// peaks are the highest figures that any instance showed.
type peaks struct {
	rss, goroutines float64
}

// watch looks at the instances until ctx ends.
func (w *world) watch(ctx context.Context) {
	client := &http.Client{Timeout: scrapeTimeout}
	defer client.CloseIdleConnections()
	for pause(ctx, scrapeEvery) {
		var looks sync.WaitGroup
		for _, i := range w.instances {
			looks.Go(func() {
				for _, page := range pages {
					text, err := get(ctx, client, "http://"+i.admin+page)
					if err != nil {
						return // it is down, frozen or busy
					}
					w.keep(fmt.Sprintf("%s of instance %d", page, i.number), text)
					if page == "/metrics" {
						w.peak(text)
					}
				}
			})
		}
		looks.Wait()
	}
}

func (w *world) peak(metrics []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.peaks.rss = max(w.peaks.rss, sample(metrics, "process_resident_memory_bytes"))
	w.peaks.goroutines = max(w.peaks.goroutines, sample(metrics, "go_goroutines"))
}

func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxScrape))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	return text, nil
}

// sample is the value of a metric without labels; 0 where it is not there.
func sample(metrics []byte, name string) float64 {
	for line := range bytes.Lines(metrics) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(string(line)), name+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err == nil {
				return n
			}
		}
	}
	return 0
}
