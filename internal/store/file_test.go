package store_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
)

// A load marks its file on another connection than that which holds the lock and copied the lines. In between, the lock may be lost, and
// with it what was staged.
func TestFileLoadedTx_marks_a_file_only_where_all_of_it_is_still_staged(t *testing.T) {
	t.Parallel()
	const chunkBytes = 4 << 10
	text := many(400)
	others := slices.Concat(text[200:], text[:200]) // what a server sends that writes the file anew for each request
	for name, meanwhile := range map[string]func(t *testing.T, s *store.Store, e store.Export){
		"another load has voided it": func(t *testing.T, s *store.Store, e store.Export) {
			t.Helper()
			if _, err := loadFile(t, s, e, 0, &lines{text: others}, chunkBytes); !errors.Is(err, store.ErrFileChanged) {
				t.Fatalf("got %v, want ErrFileChanged", err)
			}
		},
		"another load has voided it and is at work": func(t *testing.T, s *store.Store, e store.Export) {
			t.Helper()
			if _, err := loadFile(t, s, e, 0, &lines{text: others}, chunkBytes); !errors.Is(err, store.ErrFileChanged) {
				t.Fatalf("got %v, want ErrFileChanged", err)
			}
			if _, err := loadFile(t, s, e, 0, &lines{text: others, cut: 300}, chunkBytes); !errors.Is(err, errCut) {
				t.Fatalf("got %v, want it cut", err)
			}
		},
		"a standby without the last chunks has taken over": func(t *testing.T, s *store.Store, e store.Export) {
			t.Helper()
			exec(t, s, `DELETE FROM ingest_stage.e1_patient WHERE line > 100`)
			exec(t, s, `UPDATE ingest.export_file SET line_number = 100, lines = 100, staged = 100, chunks = 1 WHERE export_id = $1`, e.ID)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			e := begin(t, s, store.NewExport{}, output("Patient", text...))
			f, err := loadFile(t, s, e, 0, &lines{text: text}, chunkBytes)
			if err != nil {
				t.Fatal(err)
			}
			meanwhile(t, s, e)
			err = s.InTx(t.Context(), func(tx pgx.Tx) error {
				_, err := s.FileLoadedTx(t.Context(), tx, e, f, false)
				return err
			})
			if !store.IsStale(err) {
				t.Errorf("got %v, want to be told that the file is not where it was", err)
			}
			if e := get(t, s, e.ID); e.State != store.StateLoading {
				t.Errorf("the export is %s, want it loading", e.State)
			}
		})
	}
}
