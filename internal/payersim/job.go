package payersim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// job is one export, pinned to the round in which it was kicked off.
type job struct {
	exportRequest
	id              string
	client          string
	request         string // the kick-off's URL
	round           int
	transactionTime time.Time
	ready           time.Time
	lifetime        time.Duration

	mu    sync.Mutex
	polls int
	// manifests is how often the manifest was given.
	manifests int
	nextPoll  time.Time // no earlier poll is welcome; zero: any is

	planOnce sync.Once
	planErr  error
	output   []*outputFile
	deleted  []*outputFile
	problems []*outputFile
	byName   map[string]*outputFile
}

func (j *job) expires() time.Time { return j.ready.Add(j.lifetime) }

// outputFile is one file of a manifest.
type outputFile struct {
	name         string
	resourceType string // of the manifest entry
	scope        string // the type that a token must cover to read it
	count        int
	etag         string // without quotes
	piece        piece
	bad          []BadLine
	text         string // how the lines are written, see FileFaults
	fixed        []byte // the content, where it is no piece
	length       atomic.Int64
}

// entriesPerBundle is how many deletions a Bundle holds.
const entriesPerBundle = 100

// plan lists the job's files, once; who asks first waits for it. ctx must not end with a single request.
func (j *job) plan(ctx context.Context, src source, linesPerFile int, faults *faultPlan) error {
	j.planOnce.Do(func() { j.planErr = j.planFiles(ctx, src, linesPerFile, faults) })
	return j.planErr
}

func (j *job) planFiles(ctx context.Context, src source, linesPerFile int, faults *faultPlan) error {
	fingerprint := src.fingerprint(j.round)
	for _, resourceType := range j.types {
		sel := selection{resourceType: resourceType, round: j.round, since: j.since, until: j.until}
		pieces, err := src.plan(ctx, sel, linesPerFile)
		if err != nil {
			return fmt.Errorf("plan %s: %w", resourceType, err)
		}
		for n, p := range pieces {
			j.output = append(j.output, newPieceFile(n, p, faults, fingerprint))
		}
		if err := j.planDeletions(ctx, src, sel, linesPerFile); err != nil {
			return fmt.Errorf("plan deletions of %s: %w", resourceType, err)
		}
	}
	if issues := faults.Manifest.outcomeFile(); len(issues) > 0 {
		j.problems = append(j.problems, newFixedFile("OperationOutcome.issues.ndjson", "OperationOutcome", "", issues))
	}
	if len(j.ignored) > 0 {
		j.problems = append(j.problems, newFixedFile("OperationOutcome.0.ndjson", "OperationOutcome", "", j.ignoredOutcomes()))
	}
	j.byName = map[string]*outputFile{}
	for i := range faults.Manifest.EmptyFiles {
		f := newFixedFile(fmt.Sprintf("empty.%d.ndjson", i), "Patient", "Patient", nil)
		j.byName[f.name] = f
	}
	for _, f := range slices.Concat(j.output, j.deleted, j.problems) {
		j.byName[f.name] = f
	}
	return nil
}

func newPieceFile(n int, p piece, faults *faultPlan, fingerprint string) *outputFile {
	f := &outputFile{
		name: p.resourceType + "." + strconv.Itoa(n) + ".ndjson", resourceType: p.resourceType, scope: p.resourceType,
		piece: p, bad: faults.badLines(p), count: p.lines,
	}
	length := p.bytes
	sum := sha256.New()
	fmt.Fprintln(sum, fingerprint, p.resourceType, p.round, p.since.UnixNano(), p.until.UnixNano(), p.from, p.lines)
	for _, bad := range f.bad {
		f.count++
		if length >= 0 {
			length += int64(len(bad.Raw)) + 1
		}
		fmt.Fprintln(sum, bad.AfterLine, bad.Raw)
	}
	if f.text = faults.File.Text; f.text != "" {
		fmt.Fprintln(sum, f.text)
		length = -1
	}
	f.etag = hex.EncodeToString(sum.Sum(nil)[:16])
	f.length.Store(length)
	return f
}

func newFixedFile(name, resourceType, scope string, content []byte) *outputFile {
	sum := sha256.Sum256(content)
	f := &outputFile{
		name: name, resourceType: resourceType, scope: scope, fixed: content, count: bytes.Count(content, []byte("\n")),
		etag: hex.EncodeToString(sum[:16]),
	}
	f.length.Store(int64(len(content)))
	return f
}

// planDeletions writes the deletions since the client's last export as transaction Bundles. Bulk Data 3.0, manifest
// `deleted`: only with `_since`.
func (j *job) planDeletions(ctx context.Context, src source, sel selection, linesPerFile int) error {
	if sel.since.IsZero() {
		return nil
	}
	var content []byte
	entries, lines, files := 0, 0, 0
	flush := func() {
		if len(content) > 0 {
			name := "deleted." + sel.resourceType + "." + strconv.Itoa(files) + ".ndjson"
			j.deleted = append(j.deleted, newFixedFile(name, "Bundle", sel.resourceType, content))
			content, lines = nil, 0
			files++
		}
	}
	closeBundle := func() {
		if entries > 0 {
			content = append(content, "]}\n"...)
			entries = 0
			if lines++; lines == linesPerFile {
				flush()
			}
		}
	}
	err := src.deletions(ctx, sel, func(id string) bool {
		if entries == 0 {
			content = append(content, `{"resourceType":"Bundle","type":"transaction","entry":[`...)
		} else {
			content = append(content, ',')
		}
		content = append(content, `{"request":{"method":"DELETE","url":"`+sel.resourceType+`/`+id+`"}}`...)
		if entries++; entries == entriesPerBundle {
			closeBundle()
		}
		return true
	})
	closeBundle()
	flush()
	return err
}

// ignoredOutcomes are what the server did not do, for a client that prefers lenient handling (KICK-10).
func (j *job) ignoredOutcomes() []byte {
	var content []byte
	for _, name := range j.ignored {
		content = append(content, outcomeJSON("warning", "not-supported", "parameter "+name+" was ignored")...)
		content = append(content, '\n')
	}
	return content
}

// find returns the job's file of a name, nil without one. The job is planned.
func (j *job) find(name string) *outputFile { return j.byName[name] }

// writeTo writes the file's whole content. It always writes the same bytes.
func (f *outputFile) writeTo(ctx context.Context, src source, w io.Writer) error {
	if f.piece.resourceType == "" {
		_, err := w.Write(f.fixed)
		return err
	}
	if f.text != "" {
		w = &respell{to: w, mode: f.text}
	}
	var failed error
	put := func(line []byte) bool {
		if failed == nil {
			_, failed = w.Write(line)
		}
		return failed == nil
	}
	at := f.piece.first
	inject := func() {
		for _, bad := range f.bad {
			if bad.AfterLine == at {
				put([]byte(bad.Raw + "\n"))
			}
		}
	}
	if at == 0 {
		inject()
	}
	err := src.write(ctx, f.piece, func(line []byte) bool {
		put(line)
		at++
		inject()
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}
