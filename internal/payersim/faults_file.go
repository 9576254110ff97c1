package payersim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// FileFaults are the ways in which downloads go wrong.
type FileFaults struct {
	// Answers are what correct requests for files get, in turn, before good answers.
	Answers []Answer `yaml:"answers"`
	// ContentType replaces that of the files.
	ContentType string `yaml:"content_type"`

	// ExpireAfter is how many requests the URL of a file is good for, 0 for all; then it is answered with ExpiredStatus (403
	// without), until the client has asked for the manifest again, which has other URLs.
	ExpireAfter   int `yaml:"expire_after"`
	ExpiredStatus int `yaml:"expired_status"`
	// Budget is how often a file is read at all before it is answered 500, as AB2D does; 0: no budget.
	Budget int `yaml:"budget"`

	// EndAt ends the answer after that many body bytes, once a file: End is "eof", as if that were all; or "stall", in silence
	// until the client gives up. See cut_file_at_byte for a broken connection.
	EndAt int64  `yaml:"end_at"`
	End   string `yaml:"end"`

	// Range is what becomes of requests for a part: "ignored" (200 and the whole), "wrong" (another part than was asked for), or
	// "refused" (416).
	Range string `yaml:"range"`
	// ChangesETag gives each answer another ETag.
	ChangesETag bool `yaml:"changes_etag"`

	// Gzip is what is wrong with compressed answers: "corrupt", "truncated", "members" (two of them), "garbage" (behind the end),
	// "empty_member" (behind the end), "double", or "bomb"; with "none" nothing is compressed. GzipTimes is how many answers of each file it befalls; 0: all.
	Gzip      string `yaml:"gzip"`
	GzipTimes int    `yaml:"gzip_times"`

	// Text is how lines are written: "crlf", "bom", "blank_lines", or "no_final_newline".
	Text string `yaml:"text"`
	// LongLine puts a Patient of so many bytes before all others.
	LongLine int `yaml:"long_line"`
}

func (f FileFaults) check() error {
	var errs []error
	for name, n := range map[string]int64{
		"expire_after": int64(f.ExpireAfter), "budget": int64(f.Budget), "end_at": f.EndAt, "gzip_times": int64(f.GzipTimes),
		"long_line": int64(f.LongLine),
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("payersim: fault file.%s must not be negative", name))
		}
	}
	for _, mode := range []struct {
		name, value string
		known       []string
	}{
		{"end", f.End, []string{"eof", "stall"}},
		{"range", f.Range, []string{"ignored", "wrong", "refused"}},
		{"gzip", f.Gzip, []string{"corrupt", "truncated", "members", "garbage", "empty_member", "double", "bomb", "none"}},
		{"text", f.Text, []string{"crlf", "bom", "blank_lines", "no_final_newline"}},
	} {
		if mode.value != "" && !slices.Contains(mode.known, mode.value) {
			errs = append(errs, fmt.Errorf("payersim: fault file.%s must be one of %s, not %q", mode.name, strings.Join(mode.known, ", "), mode.value))
		}
	}
	if f.EndAt > 0 && f.End == "" {
		errs = append(errs, errors.New("payersim: fault file.end_at needs an end: eof or stall"))
	}
	return errors.Join(append(errs, checkAnswers("file.answers", f.Answers), checkStatus("file.expired_status", f.ExpiredStatus))...)
}

// misserve answers a correct request for a file where a fault has its turn; false leaves it to be answered as it deserves.
func (s *Server) misserve(w http.ResponseWriter, r *http.Request, j *job, f *outputFile) bool {
	plan := s.plan()
	file := plan.File
	if s.strike("file_fail_first", plan.FileFailFirst) {
		s.refuse(w, r, s.unavailable())
		return true
	}
	if bad := s.badAnswer("file.answers", file.Answers); bad != nil {
		s.misanswer(w, r, bad, func() {})
		return true
	}
	version := r.URL.Query().Get("v")
	if file.ExpireAfter > 0 && (version != j.version() || !plan.strike("file.url:"+j.id+"/"+f.name+"/"+version, file.ExpireAfter)) {
		s.count.faults.Add(1)
		status := file.ExpiredStatus
		if status == 0 {
			status = http.StatusForbidden
		}
		s.refuse(w, r, refusal{status: status, code: "expired", text: "this URL has expired"})
		return true
	}
	if file.Budget > 0 && !plan.strike("file.budget:"+j.id+"/"+f.name, file.Budget) {
		s.count.faults.Add(1)
		s.refuse(w, r, refusal{status: http.StatusInternalServerError, code: "exception", text: "this file was read too often"})
		return true
	}
	if file.Range == "refused" && r.Header.Get("Range") != "" {
		s.count.faults.Add(1)
		s.refuse(w, r, refusal{status: http.StatusRequestedRangeNotSatisfiable, code: "invalid", text: "no ranges here"})
		return true
	}
	if file.Range == "ignored" {
		r.Header.Del("Range")
	}
	return false
}

// version is what tells the URLs of one manifest from those of the next.
func (j *job) version() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strconv.Itoa(j.manifests)
}

// etagOf is the file's ETag without quotes.
func (s *Server) etagOf(f *outputFile) string {
	if s.plan().File.ChangesETag {
		return f.etag + "-" + strconv.FormatInt(s.count.files.Load(), 10)
	}
	return f.etag
}

// bombBytes is what a bomb expands to: more than clients may grant before they look at the ratio.
const bombBytes = 160 << 20

// badGzip is the compressed file with what is wrong with it; nil where it has to be good.
func (s *Server) badGzip(ctx context.Context, f *outputFile) ([]byte, error) {
	file := s.plan().File
	if file.Gzip == "" || file.GzipTimes > 0 && !s.strike("file.gzip:"+f.etag, file.GzipTimes) {
		return nil, nil
	}
	var plain bytes.Buffer
	if err := f.writeTo(ctx, s.source, &plain); err != nil {
		return nil, err
	}
	text := plain.Bytes()
	half := bytes.IndexByte(text[len(text)/2:], '\n') + len(text)/2 + 1
	if half > len(text) || len(text) == 0 {
		half = len(text)
	}
	body := member(text)
	switch file.Gzip {
	case "corrupt":
		body[len(body)/2] ^= 0xff
	case "truncated":
		body = body[:len(body)/2]
	case "members":
		body = append(member(text[:half]), member(text[half:])...)
	case "garbage":
		body = append(body, "garbage behind the end"...)
	case "empty_member":
		body = append(body, member(nil)...)
	case "double":
		body = member(body)
	case "bomb":
		body = member(bytes.Repeat([]byte{' '}, bombBytes/64), 64)
	}
	return body, nil
}

// member is one gzip member that holds a text, once or several times.
func member(text []byte, times ...int) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	for range append(times, 1)[0] {
		_, _ = w.Write(text) // memory takes all
	}
	_ = w.Close()
	return out.Bytes()
}

// respell writes lines as a text fault has them. It is told of each line with its end.
type respell struct {
	to      io.Writer
	mode    string
	started bool
	pending []byte // the last newline, until it is known not to be the final one
}

func (v *respell) Write(line []byte) (int, error) {
	n := len(line)
	text, ended := bytes.CutSuffix(line, []byte("\n"))
	out := append([]byte(nil), v.pending...)
	v.pending = nil
	if v.mode == "bom" && !v.started {
		out = append(out, "\ufeff"...)
	}
	v.started = true
	out = append(out, text...)
	switch {
	case !ended:
	case v.mode == "crlf":
		out = append(out, "\r\n"...)
	case v.mode == "blank_lines":
		out = append(out, "\n\n \t\n"...)
	case v.mode == "no_final_newline":
		v.pending = []byte("\n")
	default:
		out = append(out, '\n')
	}
	if _, err := v.to.Write(out); err != nil {
		return 0, err
	}
	return n, nil
}
