package payersim

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// serveFile answers a download. Bulk Data 3.0, Output File Request.
func (s *Server) serveFile(w http.ResponseWriter, r *http.Request) {
	j, f := s.findFile(w, r)
	if f == nil {
		return
	}
	if s.misserve(w, r, j, f) {
		return
	}
	s.count.files.Add(1)
	h := w.Header()
	h.Set("Content-Type", "application/fhir+ndjson")
	if contentType := s.plan().File.ContentType; contentType != "" {
		h.Set("Content-Type", contentType)
	}
	h.Set("Vary", "Accept-Encoding")
	out := &sink{
		w: w, ctx: r.Context(), rate: s.plan().BytesPerSecond, cutAt: s.plan().CutFileAtByte, sent: &s.count.fileBytes,
		cut: func() bool { return s.strike("cut_file_at_byte:"+j.id+"/"+f.name, 1) },
	}
	end := s.plan().File.End
	if s.plan().File.EndAt > 0 {
		out.cutAt = s.plan().File.EndAt
		out.cut = func() bool { return s.strike("file.end_at:"+j.id+"/"+f.name, 1) }
	} else {
		end = ""
	}
	out.unsized = end == "eof"
	var err error
	if acceptsGzip(r) && s.plan().File.Gzip != "none" {
		err = s.sendGzip(w, r, f, out)
	} else {
		err = s.sendPlain(w, r, f, out)
	}
	if errors.Is(err, errCut) {
		if end == "eof" {
			return
		}
		_ = http.NewResponseController(w).Flush() // what was written arrives before the connection breaks
		if end == "stall" {
			<-r.Context().Done()
		}
	}
	if err != nil {
		// The status is sent: only a broken connection tells the client that the body is not whole.
		panic(http.ErrAbortHandler)
	}
}

// findFile checks everything that a request for a file must fulfil; where it does not, it answers and returns nil.
func (s *Server) findFile(w http.ResponseWriter, r *http.Request) (*job, *outputFile) {
	var t token
	if s.opts.PublicFiles {
		if _, sent := r.Header["Authorization"]; sent {
			s.refuse(w, r, refusal{
				status: http.StatusBadRequest, code: "security", text: "requiresAccessToken is false: a token must not be sent here",
			})
			return nil, nil
		}
	} else {
		var ok bool
		if t, ok = s.authorize(w, r); !ok {
			return nil, nil
		}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.methodNotAllowed(w, r, "GET, HEAD")
		return nil, nil
	}
	j := s.findJob(w, r, t.client)
	if j == nil {
		return nil, nil
	}
	missing := refusal{status: http.StatusNotFound, code: "not-found", text: "there is no such file"}
	if s.now().Before(j.ready) {
		s.refuse(w, r, missing)
		return nil, nil
	}
	if err := j.plan(context.WithoutCancel(r.Context()), s.source, s.opts.LinesPerFile, s.plan()); err != nil {
		s.refuse(w, r, refusal{status: http.StatusInternalServerError, code: "exception", text: err.Error()})
		return nil, nil
	}
	f := j.find(r.PathValue("file"))
	switch {
	case f == nil:
		s.refuse(w, r, missing)
	case !s.opts.PublicFiles && f.scope != "" && !t.grants.allow(f.scope):
		s.insufficientScope(w, r, f.scope)
	case !acceptsNDJSON(r):
		s.refuse(w, r, refusal{
			status: http.StatusNotAcceptable, code: "not-supported", text: "files are application/fhir+ndjson",
		})
	default:
		return j, f
	}
	return nil, nil
}

func acceptsNDJSON(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return accept == "" || accepts(accept, "application/fhir+ndjson")
}

// acceptsGzip compares the bare token, as AB2D does: a q-value does not count (FILE-5).
func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if strings.TrimSpace(part) == "gzip" {
			return true
		}
	}
	return false
}

var compressors = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is valid
	}
	return w
}}

// sendGzip sends the file compressed, from memory where it was sent before. A Range does not apply: it would cut the
// compressed form, whose length is not known beforehand; RFC 9110, 14.2 lets a server ignore it.
func (s *Server) sendGzip(w http.ResponseWriter, r *http.Request, f *outputFile, out *sink) error {
	w.Header().Set("Content-Encoding", "gzip")
	w.Header().Set("ETag", `"`+s.etagOf(f)+`-gzip"`)
	switch body, err := s.badGzip(r.Context(), f); {
	case err != nil:
		return fmt.Errorf("spoil %s: %w", f.name, err)
	case body != nil:
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, err := out.Write(body)
		return err
	}
	if body, ok := s.cache.get(f.etag); ok {
		if !out.unsized {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		if r.Method == http.MethodHead {
			return nil
		}
		_, err := out.Write(body)
		return err
	}
	if r.Method == http.MethodHead {
		return nil
	}
	kept := &keeper{limit: s.cache.limit / 4}
	compressor, _ := compressors.Get().(*gzip.Writer)
	defer compressors.Put(compressor)
	compressor.Reset(io.MultiWriter(out, kept))
	buffered := bufio.NewWriterSize(compressor, 64<<10)
	if err := f.writeTo(r.Context(), s.source, buffered); err != nil {
		return fmt.Errorf("send %s: %w", f.name, err)
	}
	if err := errors.Join(buffered.Flush(), compressor.Close()); err != nil {
		return fmt.Errorf("send %s: %w", f.name, err)
	}
	if !kept.full {
		s.cache.put(f.etag, kept.body.Bytes())
	}
	return nil
}

// sendPlain sends the file, or a range of it, uncompressed.
func (s *Server) sendPlain(w http.ResponseWriter, r *http.Request, f *outputFile, out *sink) error {
	h := w.Header()
	etag := `"` + s.etagOf(f) + `"`
	h.Set("ETag", etag)
	h.Set("Accept-Ranges", "bytes")
	from, to, ranged := int64(0), int64(-1), false
	if asked := byteRange.FindStringSubmatch(r.Header.Get("Range")); asked != nil && r.Method == http.MethodGet {
		if cond := r.Header.Get("If-Range"); cond == "" || cond == etag {
			size, err := f.size(r.Context(), s.source)
			if err != nil {
				return err
			}
			if from, to, ranged = cutRange(asked, size); !ranged {
				h.Set("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
				s.refuse(w, r, refusal{
					status: http.StatusRequestedRangeNotSatisfiable, code: "invalid", text: "the range lies outside of the file",
				})
				return nil
			}
			if s.plan().File.Range == "wrong" {
				from = max(0, from-1)
			}
			h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, size))
			h.Set("Content-Length", strconv.FormatInt(to-from+1, 10))
			w.WriteHeader(http.StatusPartialContent)
		}
	}
	if size := f.length.Load(); !ranged && size >= 0 && !out.unsized {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	}
	if r.Method == http.MethodHead {
		return nil
	}
	window := &window{w: out, skip: from, left: -1}
	if ranged {
		window.left = to - from + 1
	}
	buffered := bufio.NewWriterSize(window, 64<<10)
	err := f.writeTo(r.Context(), s.source, buffered)
	if err == nil {
		err = buffered.Flush()
	}
	if errors.Is(err, errWindowDone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("send %s: %w", f.name, err)
	}
	f.length.CompareAndSwap(-1, window.seen)
	return nil
}

// byteRange is one range of bytes. Several ranges and other forms are ignored, as RFC 9110, 14.2 allows.
var byteRange = regexp.MustCompile(`^bytes=(\d*)-(\d*)$`)

// cutRange turns a range into first and last byte. ok is false where it selects nothing.
func cutRange(asked []string, size int64) (from, to int64, ok bool) {
	first, errFirst := strconv.ParseInt(asked[1], 10, 64)
	last, errLast := strconv.ParseInt(asked[2], 10, 64)
	switch {
	case errFirst == nil && (errLast == nil || asked[2] == ""):
		if asked[2] == "" {
			last = size - 1
		}
		from, to = first, min(last, size-1)
	case asked[1] == "" && errLast == nil:
		from, to = max(0, size-last), size-1
	}
	return from, to, (errFirst == nil || errLast == nil) && from <= to && from < size
}

// size is the file's uncompressed length, which may take writing it once.
func (f *outputFile) size(ctx context.Context, src source) (int64, error) {
	if size := f.length.Load(); size >= 0 {
		return size, nil
	}
	all := &window{w: io.Discard, left: -1}
	if err := f.writeTo(ctx, src, all); err != nil {
		return 0, fmt.Errorf("measure %s: %w", f.name, err)
	}
	f.length.Store(all.seen)
	return all.seen, nil
}

// keeper copies what passes until it is too much.
type keeper struct {
	body  bytes.Buffer
	limit int64
	full  bool
}

func (k *keeper) Write(p []byte) (int, error) {
	if !k.full && int64(k.body.Len()+len(p)) > k.limit {
		k.full = true
		k.body = bytes.Buffer{}
	}
	if !k.full {
		k.body.Write(p)
	}
	return len(p), nil
}
