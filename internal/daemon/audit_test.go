package daemon

import (
	"fmt"
	"testing"
	"time"
)

func TestDiary_counts_a_storm_of_tokens_as_one_and_loses_nothing_that_could_not_be_written(t *testing.T) {
	t.Parallel()
	d := newDiary()
	for range 100 {
		d.token("p", "auth.example", 5*time.Minute)
	}
	d.token("q", "auth.example", time.Minute)
	d.configured("a", nil)
	entries, tokens := d.take()
	if len(entries) != 1 || len(tokens) != 2 || tokens[tokenKey{"p", "auth.example"}].grants != 100 {
		t.Fatalf("got %v, %v", entries, tokens)
	}
	// The database was away, and more has happened since.
	d.token("p", "auth.example", time.Hour)
	d.configured("b", nil)
	d.putBack(entries, tokens)
	again, counts := d.take()
	if fmt.Sprint(again[0].object, again[1].object) != "configuration aconfiguration b" {
		t.Errorf("got %v, want the events in their order", again)
	}
	c := counts[tokenKey{"p", "auth.example"}]
	if c.grants != 101 || c.lifetime != time.Hour || c.first.After(c.last) || counts[tokenKey{"q", "auth.example"}].grants != 1 {
		t.Errorf("got %+v, want 101 tokens, and the last one's lifetime", counts)
	}
	for range 2 * auditLimit {
		d.configured("", nil)
	}
	if entries, _ := d.take(); len(entries) != auditLimit {
		t.Errorf("%d events wait, want %d at most", len(entries), auditLimit)
	}
}
