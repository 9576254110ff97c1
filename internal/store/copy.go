package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
)

// The binary format of COPY (PostgreSQL documentation, COPY, "Binary Format"). It needs no escaping, so a resource goes
// from the chunk to the connection as it came from the payer.
var copyHeader = []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")

const (
	copyTrailer  = 0xffff // a column count of -1
	jsonbVersion = 1      // jsonb's binary form: a version byte, then the text
)

// postgresEpoch is the origin of timestamptz in microseconds of Unix time: 2000-01-01.
const postgresEpoch = 946_684_800_000_000

// rowReader writes rows in the binary format of COPY, for the columns of stageColumns. It is an io.Reader that never holds
// more than one row's keys: resources are read from where they lie.
type rowReader struct {
	file    int32
	rows    []row
	next    int
	pending []byte // what Read gives next
	then    [2][]byte
	scratch []byte
	ended   bool
}

const stageColumns = `id, version_id, last_updated, patient_id, resource, digest, file, line`

func newRowReader(file int32, rows []row, scratch []byte) *rowReader {
	return &rowReader{file: file, rows: rows, pending: copyHeader, scratch: scratch[:0]}
}

// Read implements io.Reader.
func (r *rowReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(r.pending) == 0 && !r.advance() {
			break
		}
		m := copy(p[n:], r.pending)
		r.pending = r.pending[m:]
		n += m
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// advance makes the next piece pending: the keys before a resource, the resource, or the keys behind it.
func (r *rowReader) advance() bool {
	for i, piece := range r.then {
		if len(piece) > 0 {
			r.pending, r.then[i] = piece, nil
			return true
		}
	}
	if r.ended {
		return false
	}
	for r.next < len(r.rows) && r.rows[r.next].unchanged {
		r.next++
	}
	if r.next == len(r.rows) {
		r.ended = true
		r.pending = binary.BigEndian.AppendUint16(r.scratch[:0], copyTrailer)
		return true
	}
	row := &r.rows[r.next]
	r.next++
	b := binary.BigEndian.AppendUint16(r.scratch[:0], 8)
	b = appendBytes(b, row.id)
	b = appendBytes(b, row.versionID)
	b = appendTime(b, row.lastUpdated)
	b = appendBytes(b, row.patientID)
	b = binary.BigEndian.AppendUint32(b, uint32(len(row.resource)+1))
	b = append(b, jsonbVersion)
	before := len(b)
	b = appendBytes(b, row.digest[:])
	b = appendInt4(b, r.file)
	b = appendInt8(b, row.line)
	r.scratch = b
	r.pending, r.then = b[:before], [2][]byte{row.resource, b[before:]}
	return true
}

func appendBytes(b, value []byte) []byte {
	if value == nil {
		return binary.BigEndian.AppendUint32(b, 0xffffffff) // null
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return appendBytes(b, nil)
	}
	return appendInt8(b, t.UnixMicro()-postgresEpoch)
}

func appendInt4(b []byte, v int32) []byte {
	b = binary.BigEndian.AppendUint32(b, 4)
	return binary.BigEndian.AppendUint32(b, uint32(v))
}

func appendInt8(b []byte, v int64) []byte {
	b = binary.BigEndian.AppendUint32(b, 8)
	return binary.BigEndian.AppendUint64(b, uint64(v))
}

// copyRows copies the rows that are not unchanged into a staging table. What Postgres refuses
// though the scanner took it (a number out of range, say) is found by halving: refuse is called for each such row, and the
// others go in.
func copyRows(ctx context.Context, tx pgx.Tx, table string, file int32, rows []row, scratch []byte,
	refuse func(r *row, sqlState string),
) error {
	sql := fmt.Sprintf(`COPY %s (%s) FROM STDIN (FORMAT binary)`, quote(stageSchema, table), stageColumns)
	var try func(rows []row) error
	try = func(rows []row) error {
		savepoint, err := tx.Begin(ctx)
		if err != nil {
			return fmt.Errorf("set a savepoint: %w", err)
		}
		_, err = savepoint.Conn().PgConn().CopyFrom(ctx, newRowReader(file, rows, scratch), sql)
		if err == nil {
			if err := savepoint.Commit(ctx); err != nil {
				return fmt.Errorf("release a savepoint: %w", err)
			}
			return nil
		}
		if !refusesData(err) {
			return fmt.Errorf("copy to staging: %w", err)
		}
		if rollbackErr := savepoint.Rollback(ctx); rollbackErr != nil {
			return fmt.Errorf("return to a savepoint: %w", rollbackErr)
		}
		if len(rows) == 1 {
			refuse(&rows[0], SQLState(err))
			return nil
		}
		if err := try(rows[:len(rows)/2]); err != nil {
			return err
		}
		return try(rows[len(rows)/2:])
	}
	return try(rows)
}

// refusesData reports whether Postgres refused a value, rather than the statement: class 22, data exception, and class 54,
// program limit exceeded.
func refusesData(err error) bool {
	state := SQLState(err)
	return len(state) == 5 && (state[:2] == "22" || state[:2] == "54")
}
