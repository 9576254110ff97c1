package payersim

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// folder is the source of a directory's *.ndjson and *.ndjson.gz. It keeps where each line stands, not the lines;
// compressed files are unpacked once into an unlinked temporary file. Lines are served as they are, broken ones too.
type folder struct {
	files  []*os.File
	lines  map[string][]place // by resource type, in the order of file name and position
	order  []string
	digest string
}

// place is where a line stands.
type place struct {
	offset  int64
	updated int64 // ms since 1970, noInstant where the line does not say
	length  int32 // without the newline
	file    int32
}

const noInstant = int64(-1 << 63)

// maxFolderLine bounds a single line, and with it what opening a folder may allocate.
const maxFolderLine = 1 << 30

// openFolder reads every line once to learn its type, and leaves the files open.
func openFolder(dir string) (_ *folder, err error) {
	names, err := folderFiles(dir)
	if err != nil {
		return nil, err
	}
	f := &folder{lines: map[string][]place{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	sum := sha256.New()
	for _, name := range names {
		file, err := openPlain(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		f.files = append(f.files, file)
		if err := f.index(file, typeHint(name), sum); err != nil {
			return nil, fmt.Errorf("payersim: read %s: %w", name, err)
		}
	}
	for resourceType := range f.lines {
		f.order = append(f.order, resourceType)
	}
	slices.Sort(f.order)
	f.digest = hex.EncodeToString(sum.Sum(nil))
	return f, nil
}

func folderFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("payersim: data folder: %w", err)
	}
	var names []string
	for _, entry := range entries {
		name := entry.Name()
		if !entry.IsDir() && (strings.HasSuffix(name, ".ndjson") || strings.HasSuffix(name, ".ndjson.gz")) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("payersim: data folder %s holds no *.ndjson or *.ndjson.gz", dir)
	}
	return names, nil
}

// typeHint is the resource type that a file's name speaks of, "" if none: "Patient.000.ndjson.gz" → "Patient".
func typeHint(name string) string {
	end := strings.IndexFunc(name, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') })
	if !isTypeName(name[:end]) {
		return ""
	}
	return name[:end]
}

// openPlain opens a file for random access to its uncompressed bytes.
func openPlain(path string) (*os.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("payersim: data folder: %w", err)
	}
	if !strings.HasSuffix(path, ".gz") {
		return file, nil
	}
	plain, err := unpack(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("payersim: unpack %s: %w", path, err)
	}
	return plain, nil
}

// unpack decompresses into a temporary file that has no name any more, so that it vanishes with the process.
func unpack(compressed io.Reader) (*os.File, error) {
	reader, err := gzip.NewReader(bufio.NewReader(compressed))
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	plain, err := os.CreateTemp("", "payersim-*.ndjson")
	if err != nil {
		return nil, fmt.Errorf("temporary file: %w", err)
	}
	if err := os.Remove(plain.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("temporary file: %w", err), plain.Close())
	}
	if _, err := io.Copy(plain, reader); err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	return plain, nil
}

// index notes every line of a file. A line that names no resource type counts under the type of the file's name.
func (f *folder) index(file *os.File, hint string, sum hash.Hash) error {
	number := int32(len(f.files) - 1)
	reader := bufio.NewReaderSize(io.NewSectionReader(file, 0, 1<<62), 1<<20)
	var offset int64
	var long []byte
	empty := true
	for {
		chunk, err := reader.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			if long = append(long, chunk...); len(long) > maxFolderLine {
				return fmt.Errorf("a line at byte %d is longer than %d bytes", offset, maxFolderLine)
			}
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the line at byte %d: %w", offset, err)
		}
		whole := chunk
		if len(long) > 0 {
			long = append(long, chunk...)
			whole, long = long, long[:0]
		}
		_, _ = sum.Write(whole) // a hash never fails
		line := bytes.TrimSuffix(whole, []byte("\n"))
		if len(bytes.TrimSpace(line)) > 0 {
			s := scanLine(line)
			resourceType := s.resourceType
			if !isTypeName(resourceType) {
				resourceType = hint
			}
			if resourceType == "" {
				return fmt.Errorf("the line at byte %d names no resourceType and neither does the file's name", offset)
			}
			at := place{offset: offset, length: int32(len(line)), file: number, updated: noInstant}
			if ms, ok := s.updated(); ok {
				at.updated = ms
			}
			f.lines[resourceType] = append(f.lines[resourceType], at)
			empty = false
		}
		offset += int64(len(whole))
		if err != nil {
			break
		}
	}
	if empty && hint != "" && f.lines[hint] == nil {
		f.lines[hint] = nil // an empty file still says that the payer knows the type
	}
	return nil
}

func (f *folder) types() []string { return f.order }

func (f *folder) round() int { return 0 }

func (f *folder) advance(time.Time) int { return 0 }

func (f *folder) fingerprint(int) string { return "folder-1:" + f.digest }

func (f *folder) identify(line []byte) string { return scanLine(line).id }

func (f *folder) deletions(context.Context, selection, func(id string) bool) error { return nil }

func (f *folder) close() error {
	var err error
	for _, file := range f.files {
		err = errors.Join(err, file.Close())
	}
	f.files = nil
	return err
}

// holds is the folder's reading of `_since`: what bears no instant is always sent, and the boundary belongs to the
// window, as with the servers that repeat what the client has (INC-2).
func (p place) holds(sel selection) bool {
	if p.updated == noInstant || !sel.since.IsZero() && p.updated == sel.since.UnixMilli() {
		return true
	}
	return sel.holds(p.updated)
}

func (f *folder) plan(_ context.Context, sel selection, linesPerPiece int) ([]piece, error) {
	var pieces []piece
	lines := 0
	for i, at := range f.lines[sel.resourceType] {
		if !at.holds(sel) {
			continue
		}
		if lines%linesPerPiece == 0 {
			pieces = append(pieces, piece{selection: sel, from: i, first: lines})
		}
		last := &pieces[len(pieces)-1]
		last.lines++
		last.bytes += int64(at.length) + 1
		lines++
	}
	return pieces, nil
}

func (f *folder) write(ctx context.Context, p piece, yield func(line []byte) bool) error {
	places := f.lines[p.resourceType]
	left := p.lines
	var reader *bufio.Reader
	var file int32 = -1
	var position int64
	var buf []byte
	for i := p.from; i < len(places) && left > 0; i++ {
		at := places[i]
		if !at.holds(p.selection) {
			continue
		}
		if ctx.Err() != nil {
			return fmt.Errorf("read data folder: %w", ctx.Err())
		}
		if at.file != file || at.offset-position > 1<<20 || at.offset < position {
			reader = bufio.NewReaderSize(io.NewSectionReader(f.files[at.file], at.offset, 1<<62-at.offset), 256<<10)
			file, position = at.file, at.offset
		}
		if _, err := reader.Discard(int(at.offset - position)); err != nil {
			return fmt.Errorf("read data folder: %w", err)
		}
		buf = slices.Grow(buf[:0], int(at.length)+1)[:at.length+1]
		buf[at.length] = '\n'
		if _, err := io.ReadFull(reader, buf[:at.length]); err != nil {
			return fmt.Errorf("read data folder: %w", err)
		}
		position = at.offset + int64(at.length)
		left--
		if !yield(buf) {
			return nil
		}
	}
	return nil
}
