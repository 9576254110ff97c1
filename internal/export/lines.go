package export

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"sync"
)

const (
	// lineBuffer is the size of a new line buffer. It grows with the longest line, up to the limit.
	lineBuffer = 512 << 10
	// maxPooledLine is the largest buffer that is kept for the next file: a single long line must not hold memory for good.
	maxPooledLine = 4 << 20
	// maxDoubled is up to where a buffer doubles. A line that is longer still gets the largest buffer at once: what it does not fill is not
	// resident, while each buffer that is outgrown stays until the garbage collector comes.
	maxDoubled = 8 << 20
	// maxLineHead is how much is kept of a line that is too long.
	maxLineHead = 4 << 10
	// defaultMaxLine is the longest line where the caller gives no limit.
	defaultMaxLine = 64 << 20

	byteOrderMark = "\ufeff"
)

// lineBuffers keeps line buffers for the next file.
var lineBuffers = sync.Pool{New: func() any { b := make([]byte, lineBuffer); return &b }}

// Line is one line of an NDJSON file.
type Line struct {
	// Bytes is the line without its line end, valid until the next call of Next; nil where it is too long.
	Bytes []byte
	// Number is the physical line, from 1; blank lines count.
	Number int64
	// End is the offset in the decompressed file behind the line and its line end.
	End int64
	// TooLong is true for a line over the limit. It is read past; Length, SHA256 and Head are what is left of it.
	TooLong bool
	// Length is the line's length in bytes without its line feed.
	Length int64
	// Head is the first 4 KiB of a line that is too long, valid until the next call of Next.
	Head []byte
	// SHA256 is the digest of a line that is too long, without its line feed.
	SHA256 [sha256.Size]byte
}

// LineReader splits an NDJSON file at line feeds and nothing else: U+2028 is data (ND-1). It strips a carriage return
// before the line feed, passes over blank lines and a byte order mark, and takes a last line without a line feed. Its
// memory is bounded by the longest line that is allowed (ND-4). It is not safe for concurrent use.
type LineReader struct {
	from    io.Reader
	max     int64
	buffer  *[]byte
	data    []byte // what was read and not yet returned: buffer[start:end]
	start   int
	end     int
	number  int64
	offset  int64 // of data's first byte in the file
	failure error // what the source said last; all data before it is still to be returned
}

// NewLineReader returns a reader of the lines of r, which are at most maxLine bytes long; 0 means 64 MiB. Close returns its
// buffer.
func NewLineReader(r io.Reader, maxLine int64) *LineReader {
	if maxLine <= 0 {
		maxLine = defaultMaxLine
	}
	buffer, _ := lineBuffers.Get().(*[]byte)
	return &LineReader{from: r, max: maxLine, buffer: buffer, data: *buffer}
}

// Close gives the buffer back. Lines that were returned are no longer valid.
func (l *LineReader) Close() {
	if l.buffer != nil {
		if len(l.data) <= maxPooledLine {
			*l.buffer = l.data
			lineBuffers.Put(l.buffer)
		}
		l.buffer, l.data = nil, nil
		l.failure = io.ErrClosedPipe
		l.start, l.end = 0, 0
	}
}

// Next returns the next line that is not blank. The error is io.EOF at the end of the file; any other error of the source
// comes back as it is, and what stood before it of an unfinished line is dropped, because it is not known to be a line.
func (l *LineReader) Next() (Line, error) {
	for {
		line, err := l.physical()
		if err != nil {
			return Line{}, err
		}
		if line.TooLong || !isBlank(line.Bytes) {
			return line, nil
		}
	}
}

// physical returns the next line, blank or not.
func (l *LineReader) physical() (Line, error) {
	searched := 0 // bytes behind start that hold no line feed
	for {
		window := l.data[l.start:l.end]
		if i := bytes.IndexByte(window[searched:], '\n'); i >= 0 {
			i += searched
			if l.tooLong(window[:i]) {
				return l.skipLong()
			}
			return l.take(i, i+1), nil
		}
		searched = len(window)
		switch {
		case int64(searched) > l.max+1:
			return l.skipLong()
		case l.failure == nil:
			l.fill()
		case !errors.Is(l.failure, io.EOF):
			return Line{}, l.failure
		case searched == 0:
			return Line{}, io.EOF
		case l.tooLong(window):
			return l.skipLong()
		default:
			return l.take(searched, searched), nil
		}
	}
}

// tooLong reports whether a line, with its carriage return if it has one, is over the limit.
func (l *LineReader) tooLong(line []byte) bool {
	length := int64(len(line))
	return length > l.max+1 || length > l.max && line[length-1] != '\r'
}

// take returns the line of the given length and moves past it and its line end.
func (l *LineReader) take(length, whole int) Line {
	line := l.data[l.start : l.start+length]
	l.start += whole
	l.offset += int64(whole)
	l.number++
	if length > 0 && line[length-1] == '\r' {
		line = line[:length-1]
	}
	if l.number == 1 {
		line = bytes.TrimPrefix(line, []byte(byteOrderMark))
	}
	return Line{Bytes: line, Number: l.number, End: l.offset, Length: int64(len(line))}
}

// skipLong reads past a line that is too long, in the buffer that there is.
func (l *LineReader) skipLong() (Line, error) {
	line := Line{TooLong: true, Number: l.number + 1}
	digest := sha256.New()
	for {
		window := l.data[l.start:l.end]
		i := bytes.IndexByte(window, '\n')
		if i >= 0 {
			line.swallow(digest, window[:i])
			l.start += i + 1
			l.offset += int64(i) + 1
			break
		}
		line.swallow(digest, window)
		l.offset += int64(len(window))
		l.start, l.end = 0, 0
		if l.failure != nil {
			if !errors.Is(l.failure, io.EOF) {
				return Line{}, l.failure
			}
			break
		}
		l.fill()
	}
	l.number++
	line.End = l.offset
	digest.Sum(line.SHA256[:0])
	return line, nil
}

func (line *Line) swallow(digest hash.Hash, data []byte) {
	line.Length += int64(len(data))
	_, _ = digest.Write(data) // hashes do not fail
	if room := maxLineHead - len(line.Head); room > 0 {
		line.Head = append(line.Head, data[:min(room, len(data))]...)
	}
}

// fill reads once from the source, after making room: first by moving what is left to the buffer's start, then by a larger
// buffer, which no line within the limit outgrows.
func (l *LineReader) fill() {
	if l.start == l.end {
		l.start, l.end = 0, 0
	}
	if l.start > 0 && l.end == len(l.data) {
		l.end = copy(l.data, l.data[l.start:l.end])
		l.start = 0
	}
	if l.end == len(l.data) {
		size, most := 2*int64(len(l.data)), max(l.max, lineBuffer)+lineBuffer
		if size > maxDoubled {
			size = most
		}
		larger := make([]byte, min(size, most))
		copy(larger, l.data[:l.end])
		l.data = larger
	}
	const patience = 100 // empty reads in a row, as in package bufio
	for range patience {
		n, err := l.from.Read(l.data[l.end:])
		l.end += n
		if err != nil {
			l.failure = err
		}
		if n > 0 || err != nil {
			return
		}
	}
	l.failure = io.ErrNoProgress
}

// isBlank reports whether a line holds nothing but white space.
func isBlank(line []byte) bool {
	for _, c := range line {
		if c != ' ' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}
