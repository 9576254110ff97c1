package libraries

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/gzip"

	"ingestd/internal/payersim"
)

// maxBytes bounds each set of data.
const maxBytes = 16 << 20

// sets are the lines that are read, by where they come from.
func sets(tb testing.TB) map[string][][]byte {
	tb.Helper()
	all := map[string][][]byte{"claims": claims(tb)}
	files, _ := filepath.Glob("../../../shared/data/synthea-r4/*.ndjson.gz")
	if len(files) > 0 {
		all["synthea"] = archive(tb, files)
	}
	return all
}

// claims is what the simulated payer generates.
func claims(tb testing.TB) [][]byte {
	tb.Helper()
	payer, err := payersim.New(payersim.Options{Patients: 200, Seed: 1, Clients: []payersim.Client{{ID: "none", Secret: "none"}}})
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = payer.Close() }()
	var lines [][]byte
	left := maxBytes
	err = payer.Truth(func(_, _ string, line []byte) bool {
		lines = append(lines, bytes.Clone(line))
		left -= len(line)
		return left > 0
	})
	if err != nil {
		tb.Fatal(err)
	}
	return lines
}

// archive reads the first lines of each file, as many of each.
func archive(tb testing.TB, files []string) [][]byte {
	tb.Helper()
	var lines [][]byte
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			tb.Fatal(err)
		}
		unzipped, err := gzip.NewReader(file)
		if err != nil {
			tb.Fatal(err)
		}
		var text bytes.Buffer
		if _, err := text.ReadFrom(unzipped); err != nil {
			tb.Fatal(err)
		}
		_ = file.Close()
		head := text.Bytes()[:min(text.Len(), maxBytes/len(files))]
		whole := slices.Collect(bytes.Lines(head))
		for _, line := range whole[:len(whole)-1] {
			lines = append(lines, bytes.TrimRight(line, "\n"))
		}
	}
	return lines
}

func size(lines [][]byte) int64 {
	var n int64
	for _, line := range lines {
		n += int64(len(line))
	}
	return n
}
