package libraries

import (
	"bytes"
	stdgzip "compress/gzip"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"
)

func BenchmarkGunzip(b *testing.B) {
	for set, lines := range sets(b) {
		plain := append(bytes.Join(lines, []byte("\n")), '\n')
		var zipped bytes.Buffer
		w := stdgzip.NewWriter(&zipped)
		if _, err := w.Write(plain); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		for _, r := range []struct {
			name string
			open func(io.Reader) (io.ReadCloser, error)
		}{
			{"compress_gzip", func(r io.Reader) (io.ReadCloser, error) { return stdgzip.NewReader(r) }},
			{"klauspost", func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
			{"pgzip", func(r io.Reader) (io.ReadCloser, error) { return pgzip.NewReader(r) }},
		} {
			b.Run(set+"/"+r.name, func(b *testing.B) {
				b.SetBytes(int64(len(plain)))
				buffer := make([]byte, 512<<10)
				for b.Loop() {
					unzipped, err := r.open(bytes.NewReader(zipped.Bytes()))
					if err != nil {
						b.Fatal(err)
					}
					n := 0
					for err == nil {
						var m int
						m, err = unzipped.Read(buffer)
						n += m
					}
					if err != io.EOF || n != len(plain) {
						b.Fatalf("read %d bytes of %d: %v", n, len(plain), err)
					}
					if err := unzipped.Close(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
