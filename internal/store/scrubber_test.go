package store

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgproto3"
)

// messages is what a server says, with n bytes of a row beside an error and a notice about it.
func messages(t testing.TB, n int) []byte {
	t.Helper()
	value := []byte(strings.Repeat("E", n)) // looks like the start of an error
	var data []byte
	for _, message := range []pgproto3.BackendMessage{
		&pgproto3.DataRow{Values: [][]byte{value, value}},
		&pgproto3.ErrorResponse{Severity: "ERROR", Code: "23505", Message: "Jane", Detail: "Key (id)=(Jane)", ConstraintName: "patient_pkey"},
		&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: "fine", Where: "COPY patient, line 1: Jane"},
		&pgproto3.DataRow{Values: [][]byte{value}},
		&pgproto3.ReadyForQuery{TxStatus: 'I'},
	} {
		var err error
		if data, err = message.Encode(data); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

func TestScrubber_changes_errors_and_notices_alone_however_the_bytes_come(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 10, 4080, 4096, 5000, 100_000} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "by halves": iotest.HalfReader,
			"with the end": iotest.DataErrReader,
		} {
			front := scrubbedFrontend(wrap(bytes.NewReader(messages(t, n))), io.Discard)
			var kinds []string
			for {
				message, err := front.Receive()
				if err != nil {
					break
				}
				switch m := message.(type) {
				case *pgproto3.DataRow:
					kinds = append(kinds, "row")
					if len(m.Values[0]) != n {
						t.Errorf("%d bytes, %s: a value of %d bytes came", n, name, len(m.Values[0]))
					}
				case *pgproto3.ErrorResponse:
					kinds = append(kinds, m.Message+"|"+m.Detail)
				case *pgproto3.NoticeResponse:
					kinds = append(kinds, m.Message+"|"+m.Where)
				case *pgproto3.ReadyForQuery:
					kinds = append(kinds, "ready")
				}
			}
			const want = "row Postgres refused a value: constraint patient_pkey| fine| row ready"
			if got := strings.Join(kinds, " "); got != want {
				t.Errorf("%d bytes, %s:\ngot  %s\nwant %s", n, name, got, want)
			}
		}
	}
}

func TestScrubber_goes_on_behind_a_deadline(t *testing.T) {
	t.Parallel()
	front := scrubbedFrontend(iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(messages(t, 10)))), io.Discard)
	received, failed := 0, 0
	for {
		_, err := front.Receive()
		if err == nil {
			received++
			continue
		}
		if failed++; failed > 1 {
			break
		}
	}
	if received != 5 {
		t.Errorf("got %d messages, want 5", received)
	}
}

// FuzzScrubber proves that no bytes of a server make it panic, and that nothing of an error's detail comes through.
func FuzzScrubber(f *testing.F) {
	f.Add(messages(f, 3), uint8(1))
	f.Add(messages(f, 300), uint8(64))
	f.Add([]byte("E\x00\x00\x00\x04"), uint8(2))
	f.Add([]byte("E\xff\xff\xff\xff"), uint8(2))
	f.Add([]byte("E\x00\x00\x00\x10SERROR\x00Dx\x00\x00\x00"), uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		s := &scrubber{from: bytes.NewReader(data)}
		p := make([]byte, int(size)+1)
		var out []byte
		for {
			n, err := s.Read(p)
			out = append(out, p[:n]...)
			if err != nil {
				break
			}
		}
		if len(out) > 2*len(data)+64 {
			t.Errorf("%d bytes became %d", len(data), len(out))
		}
	})
}
