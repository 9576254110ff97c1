package export

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"ingestd/internal/config"
)

func TestPOLL3_inProgress(t *testing.T) {
	t.Parallel()
	p := newPayer(t, answer(202, map[string]string{
		"X-Progress": "RUNNING: 12.50%", "Retry-After": "120", "Date": "Sat, 03 Jan 2026 10:00:00 GMT",
	}, "<html>still at it</html>"))
	got, err := p.client.Poll(t.Context(), p.URL+"/status")
	if err != nil {
		t.Fatal(err)
	}
	want := Status{
		Progress: "RUNNING: 12.50%", Percent: 12.5, RetryAfter: 2 * time.Minute,
		Date: time.Date(2026, 1, 3, 10, 0, 0, 0, time.UTC),
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestPOLL3_progress(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]float64{
		"": -1, "50%": 50, "50% complete": 50, "RUNNING: 12.00%": 12, "In Progress (80%)": 80, "33,5 % done": 33.5, "100%": 100,
		"75": 75, "3 of 4": 75, "Files 1/8 written": 12.5, "0%": 0, "-5%": -1, "250%": -1, "%": -1, "almost": -1, "101": -1,
		"NaN": -1, "Inf": -1, "4 of 3": -1, "1/0": -1, "1.2.3%": -1, "in-progress": -1,
	} {
		if _, got := parseProgress(header); got != want {
			t.Errorf("%q: got %v, want %v", header, got, want)
		}
	}
	text, _ := parseProgress("a\x1b[31m\r\nb\u202ec\x00" + strings.Repeat("é", 10_000))
	if len(text) > maxProgress+len("…") || strings.ContainsAny(text, "\x1b\r\n\x00\u202e") || !utf8.ValidString(text) {
		t.Errorf("got %d bytes: %q", len(text), text)
	}
}

func TestPOLL2_delay(t *testing.T) {
	t.Parallel()
	c := newClient(t, "https://payer.example/r4", func(o *Options) {
		o.Payer.Limits = config.Limits{PollMin: 5 * time.Second, PollMax: 5 * time.Minute}
	})
	for wish, want := range map[time.Duration]time.Duration{
		time.Second: 5 * time.Second, 5 * time.Second: 6 * time.Second, 2 * time.Minute: 2*time.Minute + time.Second,
		5 * time.Hour: 5 * time.Minute,
	} {
		if got := c.PollDelay(Status{RetryAfter: wish}, 1); got != want {
			t.Errorf("Retry-After %v: got %v, want %v", wish, got, want)
		}
	}
	for polls := range 100 {
		low := min(5*time.Second<<min(max(polls-1, 0), 20), 5*time.Minute)
		for range 50 {
			got := c.PollDelay(Status{}, polls)
			if got < max(low*4/5, 5*time.Second) || got > min(low*6/5, 5*time.Minute) {
				t.Fatalf("poll %d: got %v, want %v ±20 %% between 5s and 5m", polls, got, low)
			}
		}
	}
}

func TestPOLL2_retryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 3, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "5": 5 * time.Second, " 120 ": 2 * time.Minute, "1.2": 2 * time.Second, "-1": 0, "soon": 0, "NaN": 0,
		"18000": 5 * time.Hour, "1e300": maxRetryAfter, "9223372036854775807": maxRetryAfter, "Inf": maxRetryAfter,
		"Sat, 03 Jan 2026 10:01:00 GMT": time.Minute, "Sat, 03 Jan 2026 09:00:00 GMT": 0,
		"Saturday, 03-Jan-26 10:01:00 GMT": time.Minute, "Sat, 03 Jan 2099 10:00:00 GMT": maxRetryAfter,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
	// The server's clock is an hour ahead of ours: its date is judged by its own Date.
	header := http.Header{"Retry-After": {"Sat, 03 Jan 2026 11:00:30 GMT"}, "Date": {"Sat, 03 Jan 2026 11:00:00 GMT"}}
	if got := retryAfter(header, now); got != 30*time.Second {
		t.Errorf("by the server's clock: got %v, want 30s", got)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "0", "-1", "120", "1e9", "Sat, 03 Jan 2026 10:01:00 GMT", "0x10", "١٢"} {
		f.Add(seed, "Sat, 03 Jan 2026 10:00:00 GMT")
	}
	f.Fuzz(func(t *testing.T, text, date string) {
		got := retryAfter(http.Header{"Retry-After": {text}, "Date": {date}}, time.Now())
		if got < 0 || got > maxRetryAfter {
			t.Fatalf("got %v", got)
		}
	})
}

func FuzzProgress(f *testing.F) {
	for _, seed := range []string{"50%", "1/3", "99 of 100", "-%", "\xff%", "9e9%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		text, percent := parseProgress(header)
		if len(text) > maxProgress+len("…") || !utf8.ValidString(text) || strings.ContainsAny(text, "\n\r\x1b\x00") {
			t.Fatalf("got text %q", text)
		}
		if percent != -1 && !(percent >= 0 && percent <= 100) {
			t.Fatalf("got %v %%", percent)
		}
	})
}
