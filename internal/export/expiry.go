package export

import (
	"net/url"
	"strconv"
	"time"
)

// urlExpires reads from a presigned URL until when it is good: of S3 and what imitates it, Google Cloud Storage, and Azure
// shared access signatures. The zero time where the URL does not say, or cannot be read: it is a hint for the order of
// downloads (protocol.md FILE-14), and decides nothing else.
func urlExpires(u *url.URL) time.Time {
	query := u.Query()
	for _, vendor := range []string{"X-Amz-", "X-Goog-"} {
		signed, err := time.Parse("20060102T150405Z", query.Get(vendor+"Date"))
		seconds, wrong := strconv.Atoi(query.Get(vendor + "Expires"))
		if err == nil && wrong == nil && seconds >= 0 && seconds < 10*365*24*3600 {
			return signed.Add(time.Duration(seconds) * time.Second)
		}
	}
	if query.Has("sig") {
		return parseInstant(query.Get("se"))
	}
	if query.Has("Signature") {
		if at, err := strconv.ParseInt(query.Get("Expires"), 10, 64); err == nil && at > 0 && at < 1<<36 {
			return time.Unix(at, 0).UTC()
		}
	}
	return time.Time{}
}
