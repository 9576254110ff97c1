package export

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
)

const (
	// wireBuffer is how much is read from a connection at once.
	wireBuffer = 128 << 10
	// maxGzipLayers is how many times a file may be compressed: stored .gz objects are at times compressed once more on
	// the way.
	maxGzipLayers = 2
	// expansionAllowance is what a file may become whatever its size on the wire.
	expansionAllowance = 64 << 20
)

var (
	errExpansion = errors.New("the file becomes too large when decompressed")
	gzipMagic    = []byte{0x1f, 0x8b}
)

// encodingError says that a body has a Content-Encoding that was not asked for.
type encodingError struct{ encoding string }

func (e *encodingError) Error() string { return "a content encoding that was not asked for" }

// decode undoes the content encoding of a body. The header is only a claim: stored gzip objects come without one, and
// plain text comes with one, so that the first bytes decide (FILE-5). Members that follow one another in a gzip stream are
// all read. With expansion, more than expansion times the wire's size is an error beyond a first 64 MiB. The result names
// the encodings that were undone: "", "gzip" or "gzip, gzip".
func decode(wire io.Reader, header string, expansion int64) (io.Reader, string, error) {
	for coding := range strings.SplitSeq(strings.ToLower(header), ",") {
		switch strings.TrimSpace(coding) {
		case "", "identity", "none", "gzip", "x-gzip", "utf-8", "binary":
		case "aws-chunked": // of an upload, which stores of objects hand on
		default:
			return nil, "", &encodingError{header}
		}
	}
	counted := &countingReader{from: wire}
	plain := bufio.NewReaderSize(counted, wireBuffer)
	var layers []string
	for range maxGzipLayers {
		magic, _ := plain.Peek(len(gzipMagic)) // an error comes back with the first read
		if !bytes.Equal(magic, gzipMagic) {
			break
		}
		unzipped, err := gzip.NewReader(plain)
		if err != nil {
			return nil, "", fmt.Errorf("read the gzip header: %w", noEOF(err))
		}
		layers = append(layers, "gzip")
		plain = bufio.NewReaderSize(&unzipReader{from: unzipped, wire: counted, expansion: expansion}, wireBuffer)
	}
	return plain, strings.Join(layers, ", "), nil
}

// unzipReader reads a gzip stream, bounds its expansion, and never takes a cut stream for a whole one.
type unzipReader struct {
	from      *gzip.Reader
	wire      *countingReader
	expansion int64
	read      int64
}

func (u *unzipReader) Read(p []byte) (int, error) {
	n, err := u.from.Read(p)
	u.read += int64(n)
	if u.expansion > 0 && u.read > expansionAllowance && u.read/u.expansion > u.wire.read {
		return n, errExpansion
	}
	return n, err //nolint:wrapcheck // io.EOF must stay io.EOF
}

type countingReader struct {
	from io.Reader
	read int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.read += int64(n)
	return n, err //nolint:wrapcheck // io.EOF must stay io.EOF
}

// noEOF turns an end where more was promised into an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
