package export

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter bounds what a payer can ask for, so that no arithmetic overflows; callers bound it by their own limits.
const maxRetryAfter = 30 * 24 * time.Hour

// retryAfter reads a Retry-After header: seconds, with or without a fraction, or an HTTP-date (RFC 9110, section 10.2.3).
// A date is judged by the server's own clock where it sent one. The result is 0 for a missing, unreadable, negative or
// past value: all of them leave the choice to the client (POLL-2).
func retryAfter(header http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(header.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		switch {
		case math.IsNaN(seconds) || seconds <= 0:
			return 0
		case seconds >= maxRetryAfter.Seconds():
			return maxRetryAfter
		}
		return time.Duration(math.Ceil(seconds)) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	if served, err := http.ParseTime(header.Get("Date")); err == nil {
		now = served
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// parseExpires reads an Expires header: an HTTP-date, RFC 3339, or the form in which Go prints a time, as BCDA sends it
// ("2026-08-22 19:02:15.123 +0000 UTC m=+0.1"); the zero time for anything else (MAN-13).
func parseExpires(text string) time.Time {
	text = strings.TrimSpace(text)
	if at, err := http.ParseTime(text); err == nil {
		return at.UTC()
	}
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at.UTC()
	}
	if fields := strings.Fields(text); len(fields) >= 3 {
		const goForm = "2006-01-02 15:04:05.999999999 -0700"
		if at, err := time.Parse(goForm, strings.Join(fields[:3], " ")); err == nil {
			return at.UTC()
		}
	}
	return time.Time{}
}

// filesExpire reads until when files are kept from the header of a manifest. An instant that is past already by the payer's own
// clock is meant for caches, and says nothing of files.
func filesExpire(header http.Header, now time.Time) time.Time {
	if served := responseDate(header); !served.IsZero() {
		now = served
	}
	if at := parseExpires(header.Get("Expires")); at.After(now) {
		return at
	}
	return time.Time{}
}

// responseDate reads the Date header, the zero time where there is none.
func responseDate(header http.Header) time.Time {
	at, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}
