package store_test

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"ingestd/internal/store"
)

// It is not parallel: it counts what the whole process allocates.
func TestLoadFile_takes_the_memory_of_a_chunk_once_for_many_small_files(t *testing.T) { //nolint:paralleltest // see above
	const files, chunkBytes = 40, 8 << 20
	s := newStore(t)
	var small []testFile
	for range files {
		small = append(small, output("Patient", many(10)...))
	}
	// The race detector makes a sync.Pool lose a quarter of what it is given, at random, so that one round may take more.
	const most = uint64(files * chunkBytes / 2)
	least := uint64(math.MaxUint64)
	for round := 0; round < 3 && least > most; round++ {
		e := begin(t, s, store.NewExport{Payer: fmt.Sprintf("p%d", round)}, small...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for ordinal := range files {
			if _, err := loadFile(t, s, e, ordinal, &lines{text: small[ordinal].lines}, chunkBytes); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	if least > most {
		t.Errorf("%d small files took %d bytes, want less than half a chunk each, %d: %s", files, least, most,
			"the chunks of one file are to serve the next")
	}
}

// It is not parallel: it counts what the whole process allocates.
func TestLoadFile_takes_the_memory_of_huge_lines_once_for_all_that_follow_each_other(t *testing.T) { //nolint:paralleltest // see above
	const count, lineBytes, chunkBytes = 16, 8 << 20, 64 << 10
	s := newStore(t)
	pad := strings.Repeat("x", lineBytes)
	var huge []string
	for n := range count {
		huge = append(huge, fmt.Sprintf(`{"resourceType":"Patient","id":"%d","text":{"status":"generated","div":"%s"}}`, n, pad))
	}
	e := begin(t, s, store.NewExport{}, output("Patient", huge...))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := loadFile(t, s, e, 0, &lines{text: huge}, chunkBytes); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	// The source of the test takes each line's length, too.
	if took, most := after.TotalAlloc-before.TotalAlloc, uint64(count*lineBytes*3/2); took > most {
		t.Errorf("%d lines of %d bytes took %d bytes, want %d at the most: two chunks are to hold one after the other", count, lineBytes, took, most)
	}
}
