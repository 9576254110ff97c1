package export

import (
	"net/url"
	"testing"
	"time"
)

func TestFILE14_when_a_presigned_URL_expires_is_read_from_it(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"X-Amz-Date=20260102T030405Z&X-Amz-Expires=3600&X-Amz-Signature=x":  "2026-01-02T04:04:05Z",
		"X-Goog-Date=20260102T030405Z&X-Goog-Expires=60&X-Goog-Signature=x": "2026-01-02T03:05:05Z",
		"sv=2024-01-01&se=2026-01-02T03%3A04%3A05Z&sig=x":                   "2026-01-02T03:04:05Z",
		"Expires=1767323045&Signature=x":                                    "2026-01-02T03:04:05Z",
		"X-Amz-Date=yesterday&X-Amz-Expires=3600":                           "",
		"X-Amz-Date=20260102T030405Z&X-Amz-Expires=-1":                      "",
		"X-Amz-Date=20260102T030405Z&X-Amz-Expires=99999999999999999999":    "",
		"Expires=1767323045":          "",
		"Expires=-5&Signature=x":      "",
		"se=2026-01-02T03%3A04%3A05Z": "",
		"":                            "",
	} {
		got := ""
		if at := urlExpires(&url.URL{RawQuery: query}); !at.IsZero() {
			got = at.Format(time.RFC3339)
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
}
