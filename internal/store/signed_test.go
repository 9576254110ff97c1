package store_test

import (
	"strings"
	"testing"

	"ingestd/internal/store"
)

func TestCleanedUp_keeps_no_signature_of_a_files_URL(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e, other := begin(t, s, store.NewExport{}, output("Patient", `{}`), output("Patient", `{}`)), begin(t, s, store.NewExport{Payer: "q"}, output("Patient", `{}`))
	if _, err := s.Pool().Exec(t.Context(), `UPDATE ingest.export_file SET url = url || '?sv=1&sig=c2lnbmF0dXJl?' WHERE ordinal = 0`); err != nil {
		t.Fatal(err)
	}
	if err := s.CleanedUp(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	for _, of := range []struct {
		export  int64
		ordinal int
		want    string
	}{{e.ID, 0, "https://payer.example/0"}, {e.ID, 1, "https://payer.example/1"}, {other.ID, 0, "https://payer.example/0?sv=1&sig=c2lnbmF0dXJl?"}} {
		var got string
		err := s.Pool().QueryRow(t.Context(), `SELECT url FROM ingest.export_file WHERE export_id = $1 AND ordinal = $2`, of.export, of.ordinal).Scan(&got)
		if err != nil || got != of.want {
			t.Errorf("file %d of export %d: got %q, %v, want %q", of.ordinal, of.export, got, err, of.want)
		}
	}
	if x := get(t, s, e.ID); x.CleanedUpAt.IsZero() || !strings.HasPrefix(x.StatusURL, "https://") {
		t.Errorf("got %+v", x)
	}
}
