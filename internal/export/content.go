package export

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
)

// Body is the content of a file, decompressed. Read returns io.EOF only when the whole file came: the announced length or
// the last chunk was reached, the gzip trailer fits, and so does the manifest's checksum. Every other end is an *Error
// (FILE-6). Close it in any case. Read and Close belong to one goroutine.
type Body struct {
	plain        *bufio.Reader
	wire         *source
	encoding     string
	resourceType string
	digest       hash.Hash // of the decompressed file; nil where the manifest names no checksum
	checksum     string
	delimited    bool
	etag         string
	read         int64
	failure      error // the end, whatever it was
}

func newBody(ctx context.Context, c *Client, response *http.Response, u *url.URL, f File) (*Body, error) {
	b := &Body{
		wire:         &source{ctx: ctx, from: response.Body},
		resourceType: f.Type,
		checksum:     f.SHA256,
		etag:         response.Header.Get("ETag"),
	}
	b.wire.resume = newResumer(c, u, f.RequiresAccessToken, response)
	b.delimited = response.ProtoMajor == 1 && response.ContentLength < 0 && len(response.TransferEncoding) == 0 &&
		response.StatusCode != http.StatusNoContent
	if b.checksum != "" {
		b.digest = sha256.New()
	}
	plain, encoding, err := decode(b.wire, response.Header.Get("Content-Encoding"), c.maxExpansion)
	if err != nil {
		return nil, err
	}
	b.encoding = encoding
	buffered, ok := plain.(*bufio.Reader)
	if !ok {
		buffered = bufio.NewReaderSize(plain, wireBuffer)
	}
	b.plain = buffered
	return b, nil
}

// Read reads decompressed bytes.
func (b *Body) Read(p []byte) (int, error) {
	if b.failure != nil {
		return 0, b.failure
	}
	n, err := b.plain.Read(p)
	b.read += int64(n)
	if b.digest != nil {
		_, _ = b.digest.Write(p[:n]) // hashes do not fail
	}
	if err == nil {
		return n, nil
	}
	b.failure = b.end(err)
	return n, b.failure
}

// end decides what the end of the stream means.
func (b *Body) end(err error) error {
	if !errors.Is(err, io.EOF) {
		return classifyRead(b.wire.ctx, err, http.StatusOK)
	}
	if b.digest == nil {
		return io.EOF
	}
	if got := hex.EncodeToString(b.digest.Sum(nil)); got != b.checksum {
		return &Error{
			Phase: PhaseFile, Code: CodeFileChecksum, Status: http.StatusOK, Action: ActionRetry,
			Detail: "the file's SHA-256 is " + got + ", the manifest says " + b.checksum,
			Hint:   "the payer's file and its manifest disagree: ask the payer",
		}
	}
	return io.EOF
}

// Close ends the request. After a whole file its connection is used again.
func (b *Body) Close() error {
	if b.failure == nil {
		b.failure = io.ErrClosedPipe
	}
	return b.wire.from.Close() //nolint:wrapcheck // the caller knows what it closes
}

// WireBytes is how many bytes came over the connection so far.
func (b *Body) WireBytes() int64 { return b.wire.read.Load() }

// Bytes is how many decompressed bytes were read so far.
func (b *Body) Bytes() int64 { return b.read }

// Encoding names the compression that is undone: "", "gzip" or "gzip, gzip".
func (b *Body) Encoding() string { return b.encoding }

// Resumes is how often the read was continued on a new connection.
func (b *Body) Resumes() int {
	if b.wire.resume == nil {
		return 0
	}
	return b.wire.resume.resumed
}

// ETag is the validator that came with the file, empty where there was none.
func (b *Body) ETag() string { return b.etag }

// Complete reports whether the file was read to its proven end.
func (b *Body) Complete() bool { return errors.Is(b.failure, io.EOF) }

// CloseDelimited reports whether only the end of the connection marks the end of this file, and nothing within it does
// (no compression, no checksum): then a whole file cannot be told from a cut one, except by the manifest's count.
func (b *Body) CloseDelimited() bool { return b.delimited && b.encoding == "" && b.checksum == "" }

// source counts the bytes of a file on the wire and continues it where it breaks off, if that is possible.
type source struct {
	ctx    context.Context //nolint:containedctx // the one that Open was called with, for further requests
	from   io.ReadCloser
	failed error // what the connection said last: an end stays an end, and a cut stays a cut
	resume *resumer
	read   atomic.Int64
}

func (s *source) Read(p []byte) (int, error) {
	if s.failed != nil {
		return 0, s.failed
	}
	n, err := s.from.Read(p)
	read := s.read.Add(int64(n))
	if err != nil {
		err = s.end(read, err)
	}
	s.failed = err
	return n, err
}

// end decides what an end of the connection means: it may be the end of a continued file short of its size, or a break
// after which the file can be continued. nil means that there is more to read.
func (s *source) end(read int64, err error) error {
	if s.resume == nil || s.ctx.Err() != nil {
		return err
	}
	if errors.Is(err, io.EOF) {
		if s.resume.total < 0 || read == s.resume.total {
			return err
		}
		err = io.ErrUnexpectedEOF
	}
	rest := s.resume.from(s.ctx, read)
	if rest == nil {
		return err
	}
	_ = s.from.Close() // it is broken
	s.from = rest
	return nil
}

// endIsFine turns the clean end of an empty file into no error.
func endIsFine(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// isCorrupt reports whether a gzip stream is damaged, as opposed to cut off.
func isCorrupt(err error) bool {
	var damaged flate.CorruptInputError
	return errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) || errors.As(err, &damaged)
}
