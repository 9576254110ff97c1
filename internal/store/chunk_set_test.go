package store_test

import (
	"runtime"
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
	e := begin(t, s, store.NewExport{}, small...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for ordinal := range files {
		if _, err := loadFile(t, s, e, ordinal, &lines{text: small[ordinal].lines}, chunkBytes); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	// The race detector makes a sync.Pool lose a quarter of what it is given.
	if took, most := after.TotalAlloc-before.TotalAlloc, uint64(files*chunkBytes/2); took > most {
		t.Errorf("%d small files took %d bytes, want less than half a chunk each, %d: %s", files, took, most,
			"the chunks of one file are to serve the next")
	}
}
