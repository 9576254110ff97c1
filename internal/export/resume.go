package export

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// maxResumes bounds how often one read of a file is continued, and maxIdleResumes how often without a byte more.
	maxResumes     = 50
	maxIdleResumes = 3
	resumeWait     = 100 * time.Millisecond
	resumeWaitMost = 2 * time.Second
)

// resumer continues a file whose connection broke, within one read of it, by a range request. Ranges are where servers
// err most: some compress the range anew, some cut it short, some name another one (FILE-7). So it is tried only for a
// file that came without a content encoding and with a strong validator, and what comes is taken only if it is exactly the
// rest of the same file. In every other case the read fails, and the file is read again from its start.
type resumer struct {
	client    *Client
	url       *url.URL // the manifest's: a redirect's target may have expired (FILE-3)
	withToken bool
	accept    string
	etag      string
	total     int64 // size on the wire, -1 where the first response did not say
	resumed   int
	idle      int
	last      int64 // offset at which it was continued last
}

// newResumer returns nil for a response that must not be continued.
func newResumer(c *Client, u *url.URL, withToken bool, response *http.Response) *resumer {
	etag := response.Header.Get("ETag")
	switch encoding := strings.ToLower(strings.TrimSpace(response.Header.Get("Content-Encoding"))); {
	case response.StatusCode != http.StatusOK, encoding != "" && encoding != "identity":
		return nil
	case !strongETag(etag), strings.EqualFold(response.Header.Get("Accept-Ranges"), "none"):
		return nil
	}
	return &resumer{
		client: c, url: u, withToken: withToken, etag: etag, total: response.ContentLength, last: -1,
		accept: acceptLadder[c.accept.Load()],
	}
}

// strongETag reports whether a validator is a quoted, not weak, entity tag (RFC 9110, section 8.8.3).
func strongETag(etag string) bool {
	return len(etag) > 2 && etag[0] == '"' && etag[len(etag)-1] == '"' && !strings.Contains(etag[1:len(etag)-1], `"`)
}

// from returns the rest of the file from offset on, or nil where it cannot be had for certain.
func (r *resumer) from(ctx context.Context, offset int64) io.ReadCloser {
	if offset == r.last {
		r.idle++
	} else {
		r.idle, r.last = 0, offset
	}
	for r.resumed < maxResumes && r.idle < maxIdleResumes {
		r.resumed++
		timer := time.NewTimer(backoff(r.idle, resumeWait, resumeWaitMost))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		response, _, err := r.client.do(ctx, call{
			phase:  PhaseFile,
			method: http.MethodGet,
			url:    r.url,
			header: http.Header{
				"Accept": {r.accept}, "Accept-Encoding": {"identity"},
				"Range": {fmt.Sprintf("bytes=%d-", offset)}, "If-Range": {r.etag},
			},
			token: r.withToken,
		})
		if err != nil {
			r.idle++
			continue
		}
		if !r.isRest(response, offset) {
			_ = response.Body.Close() // not what was asked for
			return nil
		}
		r.client.logger.InfoContext(ctx, "download continued after a broken connection", "payer", r.client.payer.Name,
			"bytes", offset)
		return response.Body
	}
	return nil
}

// isRest reports whether a response is exactly the rest of the file from offset on, and notes the file's size.
func (r *resumer) isRest(response *http.Response, offset int64) bool {
	if response.StatusCode != http.StatusPartialContent {
		return false
	}
	first, last, total, ok := parseContentRange(response.Header.Get("Content-Range"))
	encoding := response.Header.Get("Content-Encoding")
	etag := response.Header.Get("ETag")
	switch {
	case !ok, first != offset, last != total-1, r.total >= 0 && total != r.total:
		return false
	case encoding != "" && !strings.EqualFold(encoding, "identity"), etag != "" && etag != r.etag:
		return false
	case response.ContentLength >= 0 && response.ContentLength != total-offset:
		return false
	}
	r.total = total
	return true
}

// parseContentRange reads "bytes first-last/total" (RFC 9110, section 14.4). An unknown total is not enough here.
func parseContentRange(text string) (first, last, total int64, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), "bytes ")
	if !ok {
		return 0, 0, 0, false
	}
	span, size, ok := strings.Cut(strings.TrimSpace(rest), "/")
	start, end, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 {
		return 0, 0, 0, false
	}
	var err [3]error
	first, err[0] = strconv.ParseInt(start, 10, 64)
	last, err[1] = strconv.ParseInt(end, 10, 64)
	total, err[2] = strconv.ParseInt(size, 10, 64)
	for _, e := range err {
		if e != nil {
			return 0, 0, 0, false
		}
	}
	return first, last, total, first >= 0 && first <= last && last < total
}
