package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// silentClasses are the classes of SQLSTATE whose messages name tables, settings and states of the server, and never a value
// of a row (PostgreSQL, Appendix A). What is not listed here may: invalid input and values out of range (22), constraints
// (23), check options (44), and whatever a function or a trigger of the operator's raises (P0, 2F, 38, 39).
var silentClasses = []string{
	"00", "01", "02", "03", "08", "0A", "0B", "24", "25", "26", "28", "2B", "2D", "34", "3B", "3D", "3F", "40", "42", "53", "54", "55",
	"57", "58", "72", "F0", "XX",
}

// scrub takes the values of rows out of an error or a notice of Postgres: detail and context quote rows, and so do messages of
// some classes. What is left names the state, the table, the column and the constraint.
func scrub(e *pgproto3.ErrorResponse) {
	e.Detail, e.Where, e.InternalQuery, e.UnknownFields = "", "", "", nil
	if len(e.Code) < 2 || !slices.Contains(silentClasses, e.Code[:2]) {
		e.Hint = ""
		e.Message = "Postgres refused a value" + placeOf(e)
	}
}

// placeOf says where a value was refused, as far as Postgres does.
func placeOf(e *pgproto3.ErrorResponse) string {
	var places []string
	for _, place := range []struct{ kind, name string }{
		{"table", e.TableName}, {"column", e.ColumnName}, {"constraint", e.ConstraintName}, {"type", e.DataTypeName},
	} {
		if place.name != "" {
			places = append(places, place.kind+" "+place.name)
		}
	}
	if len(places) == 0 {
		return ""
	}
	return ": " + strings.Join(places, ", ")
}

// The form of a message of the protocol: its type, its length with the length itself, and its body (PostgreSQL, Message
// Formats).
const (
	messageHeader  = 5
	messageError   = 'E'
	messageNotice  = 'N'
	maxErrorLength = 16 << 20
)

// scrubbedFrontend is the connections' BuildFrontend: what Postgres says of an error is scrubbed on its way in, so that no
// way of wrapping, logging or storing an error can tell the value of a row.
func scrubbedFrontend(r io.Reader, w io.Writer) *pgproto3.Frontend {
	return pgproto3.NewFrontend(&scrubber{from: r}, w)
}

// scrubber passes the messages of a server on, errors and notices scrubbed.
type scrubber struct {
	from    io.Reader
	in      []byte // what was read and not yet passed on
	pass    int    // how much of a body, which is no error's, is still to be passed on
	out     []byte // what is to be returned
	failure error  // what the source said last
	buffer  [16 << 10]byte
}

// Read implements io.Reader. It passes the source's errors on behind the bytes that came before them; a deadline that has
// passed is one after which the reading goes on.
func (s *scrubber) Read(p []byte) (int, error) {
	for len(s.out) == 0 {
		if s.failure != nil {
			err := s.failure
			s.failure = nil
			return 0, err
		}
		if s.pass > 0 && len(s.in) == 0 { // most of what comes
			n, err := s.from.Read(p[:min(len(p), s.pass)])
			s.pass -= n
			return n, err //nolint:wrapcheck // the source's own errors
		}
		n, err := s.from.Read(s.buffer[:])
		s.in, s.failure = append(s.in, s.buffer[:n]...), err
		if err := s.sort(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.out)
	if s.out = s.out[n:]; len(s.out) == 0 {
		s.out = nil
	}
	return n, nil
}

// sort moves what has come whole from in to out.
func (s *scrubber) sort() error {
	for len(s.in) > 0 {
		if s.pass > 0 {
			n := min(s.pass, len(s.in))
			s.out, s.in, s.pass = append(s.out, s.in[:n]...), s.in[n:], s.pass-n
			continue
		}
		if len(s.in) < messageHeader {
			return nil
		}
		kind, length := s.in[0], int64(binary.BigEndian.Uint32(s.in[1:]))-4
		if kind != messageError && kind != messageNotice {
			s.out, s.in, s.pass = append(s.out, s.in[:messageHeader]...), s.in[messageHeader:], int(max(length, 0))
			continue
		}
		if length < 0 || length > maxErrorLength {
			return errors.New("an error of Postgres has an impossible length")
		}
		end := messageHeader + int(length)
		if len(s.in) < end {
			return nil
		}
		var e pgproto3.ErrorResponse
		if err := e.Decode(s.in[messageHeader:end]); err != nil {
			return fmt.Errorf("read an error of Postgres: %w", err)
		}
		scrub(&e)
		start := len(s.out)
		out, err := e.Encode(s.out)
		if err != nil {
			return fmt.Errorf("scrub an error of Postgres: %w", err)
		}
		out[start] = kind
		s.out, s.in = out, s.in[end:]
	}
	s.in = nil
	return nil
}
