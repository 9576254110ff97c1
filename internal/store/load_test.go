package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/fhir"
	"ingestd/internal/store"
)

// many makes n patients.
func many(n int) []string {
	text := make([]string, n)
	for i := range text {
		text[i] = patient(fmt.Sprintf("p%05d", i), "", strings.Repeat("x", 100))
	}
	return text
}

func TestLoadFile_goes_on_from_its_checkpoint(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	text := many(1000)
	e := begin(t, s, store.NewExport{}, output("Patient", text...))
	const chunkBytes = 16 << 10

	var f store.File
	var err error
	for attempt, cut := range []int{300, 301, 700} {
		f, err = loadFile(t, s, e, 0, &lines{text: text, cut: cut}, chunkBytes)
		var readError *store.ReadError
		if !errors.As(err, &readError) || !errors.Is(err, errCut) {
			t.Fatalf("attempt %d: got %v, want the source's error", attempt, err)
		}
		if f.LineNumber != int64(cut) {
			t.Errorf("attempt %d: the checkpoint stands behind line %d, want %d: what was read is good", attempt, f.LineNumber, cut)
		}
	}
	if f, err = loadFile(t, s, e, 0, &lines{text: text}, chunkBytes); err != nil {
		t.Fatal(err)
	}
	if f.Lines != 1000 || f.Staged != 1000 {
		t.Errorf("got %d lines, %d staged, want 1000", f.Lines, f.Staged)
	}
	if next := loaded(t, s, e, 0); !next.Publish {
		t.Fatal("no publish follows the last file")
	}
	if e, err = publish(t, s, e.ID, permissive); err != nil {
		t.Fatal(err)
	}
	wantLedger(t, e, store.Ledger{Lines: 1000, Inserted: 1000})
}

func TestLoadFile_stops_at_a_checkpoint_when_told_to(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	text := many(1000)
	e := begin(t, s, store.NewExport{}, output("Patient", text...))
	lease, err := s.LockFile(t.Context(), e.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.File(t.Context(), e.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	close(stop)
	f, err = s.LoadFile(t.Context(), lease, e, f, store.LoadOptions{
		ChunkBytes: 16 << 10, Stop: stop,
		Open: func(context.Context) (store.LineSource, error) { return &lines{text: text}, nil },
	})
	lease.Release(t.Context())
	if !errors.Is(err, store.ErrStopped) || f.Chunks != 1 || f.LineNumber == 0 || f.LineNumber == 1000 {
		t.Fatalf("got %v after %d chunks at line %d, want it stopped after one", err, f.Chunks, f.LineNumber)
	}
	if f, err = loadFile(t, s, e, 0, &lines{text: text}, 0); err != nil || f.Staged != 1000 {
		t.Errorf("got %d staged, %v, want 1000", f.Staged, err)
	}
}

func TestFILE7_a_file_that_begins_with_other_lines_is_loaded_anew(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	text := append(many(400), `{"resourceType":"Patient"}`)
	e := begin(t, s, store.NewExport{}, output("Patient", text...))
	if _, err := loadFile(t, s, e, 0, &lines{text: text, cut: 401}, 16<<10); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	changed := append([]string{patient("other", "", "1")}, text...)
	if _, err := loadFile(t, s, e, 0, &lines{text: changed}, 16<<10); !errors.Is(err, store.ErrFileChanged) {
		t.Fatalf("got %v, want ErrFileChanged", err)
	}
	f, err := s.File(t.Context(), e.ID, 0)
	if err != nil || f.LineNumber != 0 || f.Staged != 0 {
		t.Fatalf("got %+v, %v, want the file at its beginning", f, err)
	}
	if _, err = loadFile(t, s, e, 0, &lines{text: changed}, 16<<10); err != nil {
		t.Fatal(err)
	}
	loaded(t, s, e, 0)
	if e, err = publish(t, s, e.ID, permissive); err != nil {
		t.Fatal(err)
	}
	wantLedger(t, e, store.Ledger{Lines: 402, Inserted: 401, Quarantined: 1})
}

func TestFILE7_a_file_with_other_lines_of_the_same_length_is_loaded_anew(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	text := many(400)
	e := begin(t, s, store.NewExport{}, output("Patient", text...))
	if _, err := loadFile(t, s, e, 0, &lines{text: text, cut: 400}, 16<<10); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	changed := append([]string{}, text...)
	changed[7] = strings.Replace(changed[7], "xx", "xy", 1)
	if changed[7] == text[7] || len(changed[7]) != len(text[7]) {
		t.Fatalf("line %q is to be another one of the same length", text[7])
	}
	if _, err := loadFile(t, s, e, 0, &lines{text: changed}, 16<<10); !errors.Is(err, store.ErrFileChanged) {
		t.Fatalf("got %v, want ErrFileChanged", err)
	}
}

func TestLoadFile_from_a_checkpoint_that_another_load_has_passed_stages_nothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	text := many(400)
	e := begin(t, s, store.NewExport{}, output("Patient", text...))
	old, err := s.File(ctx, e.ID, 0) // as a load knows it that lost its lock and does not know it yet
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loadFile(t, s, e, 0, &lines{text: text, cut: 400}, 16<<10); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	passed, err := s.File(ctx, e.ID, 0)
	if err != nil || passed.Chunks == 0 {
		t.Fatalf("got %+v, %v, want a checkpoint", passed, err)
	}
	lease, err := s.LockFile(ctx, e.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release(ctx)
	open := func(context.Context) (store.LineSource, error) { return &lines{text: text}, nil }
	if _, err := s.LoadFile(ctx, lease, e, old, store.LoadOptions{Open: open, ChunkBytes: 16 << 10}); !store.IsStale(err) {
		t.Errorf("got %v, want to be told that the checkpoint has moved", err)
	}
	if now, err := s.File(ctx, e.ID, 0); err != nil || now.LineNumber != passed.LineNumber || now.Staged != passed.Staged {
		t.Errorf("got %+v, %v, want the checkpoint where it stood: %+v", now, err, passed)
	}
}

func TestFILE7_a_file_that_ends_before_its_checkpoint_is_loaded_anew(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	text := many(400)
	e := begin(t, s, store.NewExport{}, output("Patient", text...))
	if _, err := loadFile(t, s, e, 0, &lines{text: text, cut: 400}, 16<<10); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	if _, err := loadFile(t, s, e, 0, &lines{text: text[:10]}, 16<<10); !errors.Is(err, store.ErrFileChanged) {
		t.Fatalf("got %v, want ErrFileChanged", err)
	}
}

func TestMAN7_a_file_with_other_lines_than_promised_is_refused(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, promised := range []int64{2, 4} {
		file := output("Patient", many(3)...)
		file.count = promised
		e := begin(t, s, store.NewExport{Payer: fmt.Sprintf("p%d", promised)}, file)
		_, err := loadFile(t, s, e, 0, &lines{text: file.lines}, 0)
		var mismatch *store.CountMismatchError
		if !errors.As(err, &mismatch) || mismatch.Want != promised || mismatch.Got != 3 {
			t.Errorf("got %v, want 3 lines against %d", err, promised)
		}
	}
}

func TestLoadFile_quarantines_what_cannot_be_loaded_and_loads_the_rest(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	bad := []struct {
		line   string
		reason fhir.Reason
	}{
		{`{"resourceType":"Patient","id":"n"`, fhir.ReasonNotJSON},
		{`[]`, fhir.ReasonNotObject},
		{`{"resourceType":"Patient","id":"nul","v":"\u0000"}`, fhir.ReasonNUL},
		{`{"resourceType":"Patient","id":"surrogate","v":"\ud800"}`, fhir.ReasonLoneSurrogate},
		{"{\"resourceType\":\"Patient\",\"id\":\"utf8\",\"v\":\"\xff\"}", fhir.ReasonInvalidUTF8},
		{`{"resourceType":"Patient"}`, fhir.ReasonNoID},
		{`{"resourceType":"Robot'; DROP TABLE x","id":"a"}`, fhir.ReasonUnknownType},
		{`{"resourceType":"Observation","id":"a"}`, store.ReasonTypeMismatch},
		{`{"resourceType":"Patient","id":"big","v":1e1000000}`, fhir.ReasonRefused},
		{`{"resourceType":"Patient","id":"digits","v":` + strings.Repeat("9", 200_000) + `}`, fhir.ReasonRefused},
		{"TOO LONG", fhir.ReasonTooLong},
	}
	var text []string
	for i, b := range bad {
		text = append(text, patient(fmt.Sprintf("good%d", i), "", "1"), b.line)
	}
	text = append(text, `{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"informational"}]}`)
	e := run(t, s, store.NewExport{}, output("Patient", text...))
	if e.Inserted != int64(len(bad)) || e.Quarantined != int64(len(bad)) || e.Lines != int64(len(text)) {
		t.Errorf("got %+v, want %d good and %d bad lines", e.Ledger, len(bad), len(bad))
	}
	found, err := s.Pool().Query(t.Context(), `SELECT line, reason, raw, raw_bytes FROM ingest.quarantine ORDER BY line`)
	if err != nil {
		t.Fatal(err)
	}
	type quarantined struct {
		Line     int64
		Reason   string
		Raw      []byte
		RawBytes int64
	}
	got, err := pgx.CollectRows(found, pgx.RowToStructByPos[quarantined])
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(bad) {
		t.Fatalf("got %d quarantined lines, want %d", len(got), len(bad))
	}
	for i, q := range got {
		if q.Line != int64(2*i+2) || q.Reason != string(bad[i].reason) || string(q.Raw) != bad[i].line || q.RawBytes != int64(len(bad[i].line)) {
			t.Errorf("line %d: got %s, %d bytes %.40q, want %s %.40q", q.Line, q.Reason, q.RawBytes, q.Raw, bad[i].reason, bad[i].line)
		}
	}
}

func TestLoadFile_takes_files_of_many_types(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e := run(t, s, store.NewExport{}, output("", patient("a", "", "1"), observation("x", "a", "1"), patient("b", "", "1")))
	wantLedger(t, e, store.Ledger{Lines: 3, Inserted: 3})
	if len(rows(t, s, "fhir.patient")) != 2 || len(rows(t, s, "fhir.observation")) != 1 {
		t.Error("the lines are not in the tables of their types")
	}
}

func TestLoadFile_of_an_export_that_is_over_stages_nothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	text := many(10)
	e := begin(t, s, store.NewExport{}, output("Patient", text...))
	if err := s.InTx(ctx, func(tx pgx.Tx) error { return s.CancelTx(ctx, tx, e.ID, "by hand") }); err != nil {
		t.Fatal(err)
	}
	if _, err := loadFile(t, s, e, 0, &lines{text: text}, 0); !store.IsStale(err) {
		t.Errorf("got %v, want to be told that the export is over", err)
	}
}

func TestLockFile_is_held_by_one(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	lease, err := s.LockFile(t.Context(), 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.LockFile(t.Context(), 1, 2); !errors.Is(err, store.ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	lease.Release(t.Context())
	if lease, err = s.LockFile(t.Context(), 1, 2); err != nil {
		t.Fatal(err)
	}
	lease.Release(t.Context())
}

func TestDropStaging_leaves_other_exports_alone(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for id := range 12 {
		if _, err := s.Pool().Exec(t.Context(), fmt.Sprintf(`CREATE TABLE ingest_stage.e%d_patient ()`, id+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DropStaging(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := s.Pool().QueryRow(t.Context(), `SELECT count(*) FROM pg_tables WHERE schemaname = 'ingest_stage'`).Scan(&left); err != nil || left != 11 {
		t.Errorf("got %d tables, %v, want 11", left, err)
	}
}

func TestLoadFile_of_an_export_that_was_canceled_meanwhile_makes_no_staging_table(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e := begin(t, s, store.NewExport{}, output("Patient", patient("a", "", "")))
	if err := s.InTx(t.Context(), func(tx pgx.Tx) error { return s.CancelTx(t.Context(), tx, e.ID, "by a test") }); err != nil {
		t.Fatal(err)
	}
	if err := s.DropStaging(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := loadFile(t, s, e, 0, &lines{text: []string{patient("a", "", "")}}, 1<<20); !store.IsStale(err) {
		t.Errorf("got %v, want it to come too late", err)
	}
	var left int
	if err := s.Pool().QueryRow(t.Context(), `SELECT count(*) FROM pg_tables WHERE schemaname = 'ingest_stage'`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d staging tables are left, %v", left, err)
	}
}

func TestLoadFile_bounds_what_it_keeps_of_bad_lines(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	text := make([]string, 40)
	for i := range text {
		text[i] = strings.Repeat("x", 100_000)
	}
	e := begin(t, s, store.NewExport{}, output("Patient", text...))
	f, err := loadFile(t, s, e, 0, &lines{text: text}, 256<<10)
	if err != nil {
		t.Fatal(err)
	}
	if f.Quarantined != 40 || f.Chunks < 15 {
		t.Errorf("%d bad lines of 100 kB were held in %d chunks of 256 KiB", f.Quarantined, f.Chunks)
	}
}

func TestLoadFile_of_an_export_that_started_again_stages_nothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	text := many(10)
	e := begin(t, s, store.NewExport{}, output("Patient", text...))
	lease, err := s.LockFile(ctx, e.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release(ctx)
	f, err := s.File(ctx, e.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	// The payer loses the job while this load reads, and a new one gives a file of the same number.
	open := func(context.Context) (store.LineSource, error) {
		err := s.InTx(ctx, func(tx pgx.Tx) error {
			if err := s.RestartTx(ctx, tx, e.ID, 0); err != nil {
				return err
			}
			again := get(t, s, e.ID)
			if err := s.KickedOffTx(ctx, tx, e.ID, again.Generation+1, "https://payer.example/again", time.Now(), nil); err != nil {
				return err
			}
			_, err := s.ManifestTx(ctx, tx, e.ID, 1, store.Manifest{Files: []store.ManifestFile{
				{Kind: store.FileOutput, ResourceType: "Patient", URL: "https://payer.example/other", ExpectedCount: -1},
			}}, 1)
			return err
		})
		return &lines{text: text}, err
	}
	if _, err := s.LoadFile(ctx, lease, e, f, store.LoadOptions{Open: open}); !store.IsStale(err) {
		t.Errorf("got %v, want to be told that the export is another one", err)
	}
	if err := s.InTx(ctx, func(tx pgx.Tx) error { _, err := s.FileLoadedTx(ctx, tx, e, f, false); return err }); !store.IsStale(err) {
		t.Errorf("got %v, want to be told that the file is another one", err)
	}
}

// endless is a file that goes on until its download is ended.
type endless struct {
	ctx  context.Context
	next int64
}

func (l *endless) Next() (store.Line, error) {
	if l.ctx.Err() != nil {
		return store.Line{}, errCut
	}
	l.next++
	text := []byte(patient("a", "", ""))
	return store.Line{Bytes: text, Number: l.next, End: l.next * int64(len(text)+1), Length: int64(len(text))}, nil
}

func (l *endless) Close() error { return nil }

func TestLoadFile_reports_why_a_chunk_failed_and_not_that_the_download_was_ended(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	file := output("Patient")
	e := begin(t, s, store.NewExport{}, file)
	lease, err := s.LockFile(ctx, e.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release(ctx)
	f, err := s.File(ctx, e.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.InTx(ctx, func(tx pgx.Tx) error { return s.CancelTx(ctx, tx, e.ID, "by a test") }); err != nil {
		t.Fatal(err)
	}
	for range 40 {
		_, err = s.LoadFile(ctx, lease, e, f, store.LoadOptions{
			ChunkBytes: 1000,
			Open:       func(ctx context.Context) (store.LineSource, error) { return &endless{ctx: ctx}, nil },
		})
		if !store.IsStale(err) {
			t.Fatalf("got %v (cut: %v), want that it comes too late", err, errors.Is(err, errCut))
		}
	}
}
