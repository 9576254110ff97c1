package libraries

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/testpg"
)

func TestMain(m *testing.M) { testpg.Main(m) }

// encodings are the formats of COPY. Each is encoded anew for each copy: that is a part of the work.
var encodings = []struct {
	name, sql string
	encode    func(b *bytes.Buffer, lines [][]byte)
}{
	{"text", `COPY into_here FROM STDIN`, func(b *bytes.Buffer, lines [][]byte) {
		escape := strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`)
		for _, line := range lines {
			_, _ = escape.WriteString(b, string(line))
			b.WriteByte('\n')
		}
	}},
	{"binary", `COPY into_here FROM STDIN (FORMAT binary)`, func(b *bytes.Buffer, lines [][]byte) {
		b.WriteString("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")
		for _, line := range lines {
			head := binary.BigEndian.AppendUint16(nil, 1)
			head = binary.BigEndian.AppendUint32(head, uint32(len(line)+1))
			b.Write(append(head, 1))
			b.Write(line)
		}
		b.Write([]byte{0xff, 0xff})
	}},
}

func BenchmarkCOPY(b *testing.B) {
	conn, err := pgx.Connect(b.Context(), testpg.New(b, func(context.Context, string) error { return nil }))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(b.Context(), `CREATE TABLE into_here (resource jsonb COMPRESSION lz4)`); err != nil {
		b.Fatal(err)
	}
	for set, lines := range sets(b) {
		for _, e := range encodings {
			b.Run(set+"/"+e.name, func(b *testing.B) {
				b.SetBytes(size(lines))
				for b.Loop() {
					var buffer bytes.Buffer
					buffer.Grow(int(size(lines)) * 5 / 4)
					e.encode(&buffer, lines)
					if _, err := conn.PgConn().CopyFrom(b.Context(), &buffer, e.sql); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					if _, err := conn.Exec(b.Context(), `TRUNCATE into_here`); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			})
		}
	}
}
