package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"hash"
	"time"

	"ingestd/internal/fhir"
)

// digestBytes is the length of the digest that tells unchanged resources apart.
const digestBytes = 16

// maxQuarantinedBytes is how much of a quarantined line is kept; the quarantine says how long the line was.
const maxQuarantinedBytes = 1 << 20

// Line is one line of a file, as the reader of the file splits it.
type Line struct {
	Bytes   []byte            // without its line end; valid until the next line is asked for; nil where TooLong
	Number  int64             // from 1, blank lines counted
	End     int64             // decompressed bytes of the file up to and with this line
	TooLong bool              // longer than limits.max_line: not kept
	Length  int64             // bytes of the line, without its line end
	Head    []byte            // the beginning of a line that is too long
	Digest  [sha256.Size]byte // SHA-256 of a line that is too long
}

// chunk is what is staged, and committed, at once: rows, or entries of deleted and error files, and the checkpoint that
// holds when they are in. Its memory is reused from chunk to chunk.
type chunk struct {
	arena       []byte // the lines; rows are views of it
	kept        int    // bytes of quarantined lines and of outcomes, which are kept beside the arena
	rows        []row
	deleted     [][]byte // Bundles of deletions, as lines in the arena
	deletions   int      // the entries of them that delete
	outcomes    []outcome
	quarantined []quarantined

	// The checkpoint behind the last line.
	lineNumber   int64
	lines        int64 // of this chunk alone, without blank ones
	outcomeLines int64 // of them, OperationOutcomes
	subsetted    int64 // of them, incomplete resources
	repaired     int64 // of them, mended
	headers      int64 // of them, headers of organized output
	bytes        int64
	prefixDigest []byte
}

// row is a resource on its way to a staging table.
type row struct {
	resourceType string
	id           []byte
	versionID    []byte // nil: null
	lastUpdated  time.Time
	patientID    []byte // nil: null
	resource     []byte
	sent         []byte // the line as it came, where it was mended
	digest       [digestBytes]byte
	line         int64
	offset       int64 // of the line's end in the file
	unchanged    bool  // stands in the published table already, with the same digest
	unread       bool  // not scanned yet: the id is a guess, good for the look-up alone, and other keys are missing
	looked       bool  // its id and digest were looked up
}

type outcome struct {
	line  int64
	issue fhir.Issue
}

// quarantined is a line that cannot be loaded, or the part of it that cannot.
type quarantined struct {
	line, offset             int64
	reason                   fhir.Reason
	detail                   string
	resourceType, resourceID string
	raw                      []byte
	rawBytes                 int64
}

// reset empties the chunk. Nothing of a payer's data stays referred to, but what is overwritten of the arena.
func (c *chunk) reset() {
	c.arena = c.arena[:0]
	clear(c.rows)
	clear(c.outcomes)
	clear(c.quarantined)
	clear(c.deleted)
	c.rows, c.deleted, c.outcomes, c.quarantined = c.rows[:0], c.deleted[:0], c.outcomes[:0], c.quarantined[:0]
	c.deletions, c.lines, c.outcomeLines, c.subsetted, c.repaired, c.headers, c.kept = 0, 0, 0, 0, 0, 0, 0
}

// full reports whether a line of n bytes should go into the next chunk: by the bytes of the lines, and by their number,
// because small lines weigh more by their keys.
func (c *chunk) full(n, size int) bool {
	entries := len(c.rows) + c.deletions + len(c.outcomes) + len(c.quarantined)
	return entries > 0 && (len(c.arena)+c.kept+n > size || entries >= size/256)
}

// chunker turns the lines of one file into chunks.
type chunker struct {
	kind         FileKind
	resourceType string // that the manifest gave the file; "" where its lines may be of any type
	repair       bool   // text that jsonb cannot hold is mended
	organized    bool   // lines may be of any type, and headers stand among them
	defers       bool   // a line is scanned only when it turns out not to stand published as it is
	prefix       hash.Hash
	types        map[string]string // interned names of resource types
}

func newChunker(f File, organized, repair bool) *chunker {
	return &chunker{
		kind: f.Kind, resourceType: f.ResourceType, organized: organized, repair: repair, prefix: sha256.New(),
		types: make(map[string]string),
	}
}

// digest returns the SHA-256 of a line and adds it to the digest of the file's prefix.
func (k *chunker) digest(line Line) [sha256.Size]byte {
	sum := line.Digest
	if !line.TooLong {
		sum = sha256.Sum256(line.Bytes)
	}
	k.prefix.Write(sum[:]) // a hash never fails
	return sum
}

// add puts a line into the chunk: as rows, or into the quarantine.
func (k *chunker) add(c *chunk, line Line) {
	digest := k.digest(line)
	c.lines++
	if line.TooLong {
		c.quarantined = append(c.quarantined, quarantined{
			line: line.Number, offset: line.End, reason: fhir.ReasonTooLong, detail: "longer than limits.max_line",
			raw: append([]byte(nil), line.Head...), rawBytes: line.Length,
		})
		c.kept += len(line.Head)
		return
	}
	switch k.kind {
	case FileOutput:
		k.addResource(c, line, digest)
	case FileDeleted:
		k.addDeletions(c, line)
	case FileError:
		k.addOutcome(c, line)
	}
}

// addResource puts a line of an output file into the chunk. Where the type is published already, most lines stand there as they are:
// the digest says so, and such a line was scanned when it was published. To scan it again would be the greater part of the work.
func (k *chunker) addResource(c *chunk, line Line, digest [sha256.Size]byte) {
	start, rows := len(c.arena), len(c.rows)
	c.arena = append(c.arena, line.Bytes...)
	line.Bytes = c.arena[start:len(c.arena):len(c.arena)]
	if k.defers {
		if id := fhir.GuessID(line.Bytes); id != nil {
			r := row{resourceType: k.resourceType, id: id, resource: line.Bytes, line: line.Number, offset: line.End, unread: true}
			copy(r.digest[:], digest[:])
			c.rows = append(c.rows, r)
			return
		}
	}
	k.scan(c, line, [digestBytes]byte(digest[:digestBytes]))
	if len(c.rows) == rows {
		c.arena = c.arena[:start] // what the line became stands elsewhere
	}
}

// scanUnread scans the rows that were left for later and do not stand published. Rows that turn out to be none leave the chunk's.
func (k *chunker) scanUnread(c *chunk) {
	rows := c.rows
	c.rows = rows[:0] // written behind what is read
	for _, r := range rows {
		if !r.unread || r.unchanged {
			c.rows = append(c.rows, r)
			continue
		}
		n := len(c.rows)
		k.scan(c, Line{Bytes: r.resource, Number: r.line, End: r.offset}, r.digest)
		if len(c.rows) > n {
			c.rows[n].looked = bytes.Equal(c.rows[n].id, r.id)
		}
	}
	clear(rows[len(c.rows):])
}

// scan makes of a line, whose bytes stand in the arena, a row, or puts it where else it belongs.
func (k *chunker) scan(c *chunk, line Line, digest [digestBytes]byte) {
	text := line.Bytes
	keys, err := fhir.Scan(text)
	var sent []byte
	if k.repair && isTextError(err) {
		sent = bytes.Clone(text)
		fhir.RepairText(text) // the digest stays that of the line as it came
		keys, err = fhir.Scan(text)
	}
	resourceType := k.intern(keys.ResourceType)
	// A server reports trouble within its output too (Bulk Data 3.0, Output File Organization); an outcome need have no id.
	if resourceType == "OperationOutcome" {
		k.addOutcome(c, line)
		return
	}
	if k.organized && resourceType == "Parameters" && isHeader(text) {
		c.headers++
		return
	}
	if err == nil {
		err = k.checkType(resourceType)
	}
	if err != nil {
		resourceID := string(keys.ID) // a view of what is now overwritten
		copy(text, sent)
		c.quarantine(line, err, resourceType, resourceID)
		return
	}
	if sent != nil {
		c.repaired++
		c.kept += len(sent)
	}
	if keys.Subsetted {
		c.subsetted++
	}
	c.rows = append(c.rows, row{
		resourceType: resourceType, id: keys.ID, versionID: keys.VersionID, lastUpdated: keys.LastUpdated,
		patientID: keys.PatientID, resource: text, sent: sent, digest: digest, line: line.Number, offset: line.End,
	})
}

// isTextError reports whether a line holds text that jsonb cannot.
func isTextError(err error) bool {
	refused, ok := errors.AsType[*fhir.LineError](err)
	return ok && (refused.Reason == fhir.ReasonNUL || refused.Reason == fhir.ReasonLoneSurrogate)
}

func (k *chunker) checkType(resourceType string) error {
	if !fhir.KnownType(resourceType) {
		return &fhir.LineError{Reason: fhir.ReasonUnknownType, Want: "a resource type of FHIR R4, R4B or R5"}
	}
	if !k.organized && k.resourceType != "" && resourceType != k.resourceType {
		return &fhir.LineError{Reason: ReasonTypeMismatch, Want: k.resourceType + ", the type that the manifest gives this file"}
	}
	return nil
}

// isHeader reports whether a Parameters resource opens a block of organized output: the resources of one instance follow it
// (Bulk Data 3.0, Output File Organization).
func isHeader(text []byte) bool {
	var resource struct {
		Parameter []struct {
			Name string `json:"name"`
		} `json:"parameter"`
	}
	if json.Unmarshal(text, &resource) != nil {
		return false
	}
	for _, p := range resource.Parameter {
		if p.Name == "header" {
			return true
		}
	}
	return false
}

// ReasonTypeMismatch says that a resource stands in a file of another type.
const ReasonTypeMismatch fhir.Reason = "type_mismatch"

func (k *chunker) addOutcome(c *chunk, line Line) {
	parsed, ok := fhir.ParseOutcome(line.Bytes)
	if !ok {
		c.quarantine(line, &fhir.LineError{Reason: fhir.ReasonNotJSON, Want: "an OperationOutcome"}, "", "")
		return
	}
	c.outcomeLines++
	c.kept += len(line.Bytes)
	for _, issue := range parsed.Issues {
		c.outcomes = append(c.outcomes, outcome{line.Number, issue})
	}
}

// quarantine keeps a line that cannot be loaded.
func (c *chunk) quarantine(line Line, err error, resourceType, resourceID string) {
	q := quarantined{
		line: line.Number, offset: line.End, reason: fhir.ReasonNotJSON, detail: err.Error(),
		resourceType: clip(resourceType, 64), resourceID: clip(resourceID, fhir.MaxIDBytes),
		raw: append([]byte(nil), line.Bytes[:min(len(line.Bytes), maxQuarantinedBytes)]...), rawBytes: int64(len(line.Bytes)),
	}
	if lineError, ok := errors.AsType[*fhir.LineError](err); ok {
		q.reason = lineError.Reason
	}
	c.quarantined = append(c.quarantined, q)
	c.kept += len(q.raw)
}

// intern returns a type's name without allocating it for each line.
func (k *chunker) intern(name []byte) string {
	if s, ok := k.types[string(name)]; ok {
		return s
	}
	s := string(name)
	if len(k.types) < 1000 && len(s) < 100 { // a hostile file must not fill the memory with names
		k.types[s] = s
	}
	return s
}

// clip makes text that a payer sent fit for a text column: short, and free of what UTF-8 text in Postgres cannot hold.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return cleanText(s)
}
