package store

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"ingestd/internal/fhir"
)

// bundleOf returns a Bundle of n deletions.
func bundleOf(n int) string {
	var b strings.Builder
	b.WriteString(`{"resourceType":"Bundle","type":"transaction","entry":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"request":{"method":"DELETE","url":"Patient/%d"}}`, i)
	}
	b.WriteString(`]}`)
	return b.String()
}

func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

//nolint:paralleltest // it measures what the process keeps
func TestChunk_of_a_Bundle_of_a_million_deletions_keeps_little_more_than_the_line(t *testing.T) {
	const entries = 1_000_000
	text := []byte(bundleOf(entries))
	before := liveHeap()
	k, c := newChunker(File{Kind: FileDeleted}, false, false), &chunk{}
	k.add(c, Line{Bytes: text, Number: 1, End: int64(len(text)) + 1, Length: int64(len(text))})
	if c.deletions != entries || len(c.quarantined) != 0 {
		t.Fatalf("got %d deletions and %d lines in the quarantine, want %d and none", c.deletions, len(c.quarantined), entries)
	}
	seen, most := 0, int64(0)
	for ref := range c.eachDeletion() {
		if want := fmt.Sprint(seen); ref.Type != "Patient" || ref.ID != want {
			t.Fatalf("entry %d is %v, want Patient/%s", seen, ref, want)
		}
		if seen++; seen%(entries/4) == 0 {
			most = max(most, liveHeap()-before)
		}
	}
	if seen != entries {
		t.Errorf("got %d entries, want %d", seen, entries)
	}
	// The line in the arena, which grows by a quarter more than it needs, and nothing for each entry.
	if bound := int64(len(text))*3/2 + 8<<20; most > bound {
		t.Errorf("kept %d MiB for a line of %d MiB, want at most %d", most>>20, len(text)>>20, bound>>20)
	}
	t.Logf("kept %d MiB for a line of %d MiB", most>>20, len(text)>>20)
	runtime.KeepAlive(text)
}

func TestChunk_ranges_over_the_deletions_of_its_Bundles_until_it_is_told_to_stop(t *testing.T) {
	t.Parallel()
	k, c := newChunker(File{Kind: FileDeleted}, false, false), &chunk{}
	for n := range int64(3) {
		k.add(c, Line{Bytes: []byte(bundleOf(2)), Number: n + 1})
	}
	k.add(c, Line{Bytes: []byte(`{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"PUT","url":"Patient/x"}}]}`), Number: 4})
	var got []fhir.Reference
	for ref := range c.eachDeletion() {
		if got = append(got, ref); len(got) == 5 {
			break
		}
	}
	if c.deletions != 6 || len(got) != 5 || got[4] != (fhir.Reference{Type: "Patient", ID: "0"}) || len(c.quarantined) != 1 {
		t.Errorf("got %d deletions, %v, and %d lines in the quarantine", c.deletions, got, len(c.quarantined))
	}
	if c.reset(); c.deletions != 0 || len(c.deleted) != 0 {
		t.Error("a chunk that was reset still holds deletions")
	}
}
