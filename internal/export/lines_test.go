package export

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// collected is a Line with copies of its bytes.
type collected struct {
	text    string
	number  int64
	end     int64
	tooLong bool
	length  int64
}

func collect(t *testing.T, r io.Reader, maxLine int64) ([]collected, error) {
	t.Helper()
	lines := NewLineReader(r, maxLine)
	defer lines.Close()
	var all []collected
	for {
		line, err := lines.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return all, err
		}
		c := collected{string(line.Bytes), line.Number, line.End, line.TooLong, line.Length}
		if line.TooLong {
			c.text = string(line.Head)
		}
		all = append(all, c)
	}
}

func TestND1_lines(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text string
		want       []collected
	}{
		{"empty", "", nil},
		{"final newline", "{}\n[]\n", []collected{{"{}", 1, 3, false, 2}, {"[]", 2, 6, false, 2}}},
		{"no final newline", "{}\n[]", []collected{{"{}", 1, 3, false, 2}, {"[]", 2, 5, false, 2}}},
		{"CRLF", "{}\r\n[]\r\n", []collected{{"{}", 1, 4, false, 2}, {"[]", 2, 8, false, 2}}},
		{"CR before the end", "{}\r", []collected{{"{}", 1, 3, false, 2}}},
		{"blank lines", "\n\r\n{}\n \t\n\n[]\n\n", []collected{{"{}", 3, 6, false, 2}, {"[]", 6, 13, false, 2}}},
		{"BOM", "\ufeff{}\n", []collected{{"{}", 1, 6, false, 2}}},
		{"only a BOM", "\ufeff\n{}", []collected{{"{}", 2, 6, false, 2}}},
		{"a BOM later is data", "{}\n\ufeff", []collected{{"{}", 1, 3, false, 2}, {"\ufeff", 2, 6, false, 3}}},
		{"U+2028 and CR are data", "{\"a\":\"\u2028\r\"}\n", []collected{{"{\"a\":\"\u2028\r\"}", 1, 13, false, 12}}},
		{"at the limit", strings.Repeat("x", 16) + "\n" + strings.Repeat("y", 16), []collected{
			{strings.Repeat("x", 16), 1, 17, false, 16}, {strings.Repeat("y", 16), 2, 33, false, 16},
		}},
		{"at the limit with CRLF", strings.Repeat("x", 16) + "\r\n", []collected{{strings.Repeat("x", 16), 1, 18, false, 16}}},
		{"ND-4: over the limit", "{}\n" + strings.Repeat("x", 17) + "\n[]", []collected{
			{"{}", 1, 3, false, 2}, {strings.Repeat("x", 17), 2, 21, true, 17}, {"[]", 3, 23, false, 2},
		}},
		{"ND-4: over the limit at the end", strings.Repeat("x", 40), []collected{{strings.Repeat("x", 40), 1, 40, true, 40}}},
	} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole":    func(r io.Reader) io.Reader { return r },
			"bytes":    iotest.OneByteReader,
			"halves":   iotest.HalfReader,
			"data+EOF": iotest.DataErrReader,
		} {
			got, err := collect(t, wrap(strings.NewReader(test.text)), 16)
			if err != nil {
				t.Errorf("%s, %s: %v", test.name, name, err)
			}
			if len(got) != len(test.want) {
				t.Errorf("%s, %s: got %+v, want %+v", test.name, name, got, test.want)
				continue
			}
			for i := range got {
				if got[i] != test.want[i] {
					t.Errorf("%s, %s: got line %+v, want %+v", test.name, name, got[i], test.want[i])
				}
			}
		}
	}
}

func TestND4_aLongLineBetweenGoodOnesCostsNoMemory(t *testing.T) {
	t.Parallel()
	const limit, long = 8 << 20, 65 << 20
	source := io.MultiReader(strings.NewReader("{\"a\":1}\n"), io.LimitReader(endless('x'), long), strings.NewReader("\n{\"b\":2}\n"))
	lines := NewLineReader(source, limit)
	defer lines.Close()
	if line, err := lines.Next(); err != nil || string(line.Bytes) != `{"a":1}` {
		t.Fatalf("got %q, %v", line.Bytes, err)
	}
	line, err := lines.Next()
	if err != nil || !line.TooLong || line.Length != long || line.Bytes != nil || len(line.Head) != maxLineHead || line.Number != 2 {
		t.Fatalf("got %+v, %v", line, err)
	}
	digest := sha256.New()
	_, _ = io.Copy(digest, io.LimitReader(endless('x'), long))
	if !bytes.Equal(line.SHA256[:], digest.Sum(nil)) {
		t.Errorf("got digest %x, want %x", line.SHA256, digest.Sum(nil))
	}
	if line, err := lines.Next(); err != nil || string(line.Bytes) != `{"b":2}` || line.Number != 3 || line.End != 8+long+1+8 {
		t.Fatalf("got %+v, %v", line, err)
	}
	if got := len(lines.data); got > 2*limit {
		t.Errorf("got a buffer of %d bytes for a limit of %d", got, limit)
	}
}

type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

func TestLineReader_keeps_lines_up_to_the_limit_whole(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("z", 5<<20)
	got, err := collect(t, strings.NewReader("a\n"+long+"\nb\n"), 8<<20)
	if err != nil || len(got) != 3 || got[1].text != long || got[2].text != "b" {
		t.Errorf("got %d lines, %v", len(got), err)
	}
}

func TestFILE6_theStartOfACutLineIsNoLine(t *testing.T) {
	t.Parallel()
	cut := errors.New("cut")
	for _, limit := range []int64{64, 2} {
		source := io.MultiReader(strings.NewReader("{}\n{\"resourceType\":"), iotest.ErrReader(cut))
		got, err := collect(t, source, limit)
		if !errors.Is(err, cut) || len(got) != 1 {
			t.Errorf("got %+v, %v, want one line and the error of the source", got, err)
		}
	}
}

func TestLineReader_ends_with_a_source_that_gives_nothing(t *testing.T) {
	t.Parallel()
	_, err := collect(t, nothing{}, 16)
	if !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got %v, want io.ErrNoProgress", err)
	}
}

type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, nil }

func TestLineReader_is_closed_for_good(t *testing.T) {
	t.Parallel()
	lines := NewLineReader(strings.NewReader("{}\n{}\n"), 0)
	lines.Close()
	lines.Close()
	if _, err := lines.Next(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want io.ErrClosedPipe", err)
	}
}

// FuzzLineReader compares the reader with a simple one, for all ways in which the data may arrive.
func FuzzLineReader(f *testing.F) {
	f.Add([]byte("{}\r\n\n{\"a\":\"\u2028\"}\n"), 3, int64(8))
	f.Add([]byte("\ufeff{}\n"+strings.Repeat("x", 100)), 1, int64(16))
	f.Add([]byte("\r\r\n\r"), 2, int64(1))
	f.Fuzz(func(t *testing.T, data []byte, step int, limit int64) {
		if limit < 1 || limit > 1<<20 || step < 1 {
			return
		}
		got, err := collect(t, &stepReader{data, step}, limit)
		if err != nil {
			t.Fatal(err)
		}
		want := simpleLines(data, limit)
		if len(got) != len(want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("line %d: got %+v, want %+v", i, got[i], want[i])
			}
		}
	})
}

type stepReader struct {
	data []byte
	step int
}

func (s *stepReader) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.step)], s.data)
	s.data = s.data[n:]
	return n, nil
}

// simpleLines is what LineReader is to yield, without regard for memory.
func simpleLines(data []byte, limit int64) []collected {
	var all []collected
	var number, end int64
	for raw := range bytes.SplitAfterSeq(data, []byte("\n")) {
		if len(raw) == 0 {
			continue
		}
		number++
		end += int64(len(raw))
		line := bytes.TrimSuffix(raw, []byte("\n"))
		plain := bytes.TrimSuffix(line, []byte("\r"))
		if int64(len(plain)) > limit {
			all = append(all, collected{string(line[:min(len(line), maxLineHead)]), number, end, true, int64(len(line))})
			continue
		}
		if number == 1 {
			plain = bytes.TrimPrefix(plain, []byte(byteOrderMark))
		}
		if len(bytes.Trim(plain, " \t\r")) == 0 {
			continue
		}
		all = append(all, collected{string(plain), number, end, false, int64(len(plain))})
	}
	return all
}

// benchmarkData is 64 MiB of lines of about 6 KiB, as of explanations of benefit.
func benchmarkData() []byte {
	line := []byte(`{"resourceType":"ExplanationOfBenefit","id":"1","text":"` + strings.Repeat("abcdefgh", 750) + `"}` + "\n")
	return bytes.Repeat(line, (64<<20)/len(line))
}

func BenchmarkLineReader(b *testing.B) {
	data := benchmarkData()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		lines := NewLineReader(bytes.NewReader(data), 0)
		for {
			if _, err := lines.Next(); err != nil {
				break
			}
		}
		lines.Close()
	}
}

// BenchmarkBufioScanner is what LineReader is measured by.
func BenchmarkBufioScanner(b *testing.B) {
	data := benchmarkData()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		scanner := bufio.NewScanner(bytes.NewReader(data))
		for scanner.Scan() {
			_ = scanner.Bytes()
		}
	}
}
