package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
	"ingestd/internal/testpg"
)

func TestMain(m *testing.M) { testpg.Main(m) }

// migrate is what the template of all test databases is made with.
func migrate(ctx context.Context, url string) error {
	s, err := store.Open(ctx, store.Options{URL: url})
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.Migrate(ctx)
	return err
}

func newStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: testpg.New(t, migrate), MaxConnections: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// lines is a file in memory. With cut set, it ends in an error behind that many lines.
type lines struct {
	text []string
	next int
	end  int64
	cut  int
}

var errCut = errors.New("connection reset")

func (l *lines) Next() (store.Line, error) {
	if l.cut > 0 && l.next == l.cut {
		return store.Line{}, errCut
	}
	if l.next == len(l.text) {
		return store.Line{}, io.EOF
	}
	text := l.text[l.next]
	l.next++
	l.end += int64(len(text)) + 1
	line := store.Line{Bytes: []byte(text), Number: int64(l.next), End: l.end, Length: int64(len(text))}
	if strings.HasPrefix(text, "TOO LONG") {
		line.Bytes, line.TooLong, line.Head, line.Digest = nil, true, []byte(text), sha256.Sum256([]byte(text))
	}
	return line, nil
}

func (l *lines) Close() error { return nil }

// testFile is a file of an export that a test makes.
type testFile struct {
	kind         store.FileKind
	resourceType string
	lines        []string
	count        int64 // -1 for none
}

func output(resourceType string, text ...string) testFile {
	return testFile{store.FileOutput, resourceType, text, -1}
}

// begin brings an export of payer "p" to loading, with the given files.
func begin(t *testing.T, s *store.Store, n store.NewExport, files ...testFile) store.Export {
	t.Helper()
	ctx := t.Context()
	n.Payer, n.Trigger = orElse(n.Payer, "p"), store.TriggerManual
	if n.Kind == "" {
		n.Kind = store.KindFull
	}
	m := store.Manifest{TransactionTime: "2026-01-01T00:00:00Z", TransactionAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	for i, f := range files {
		m.Files = append(m.Files, store.ManifestFile{
			Place: fmt.Sprintf("0/output/%d", i), Kind: f.kind, ResourceType: f.resourceType, URL: fmt.Sprintf("https://payer.example/%d", i), ExpectedCount: f.count,
		})
	}
	var id int64
	err := s.InTx(ctx, func(tx pgx.Tx) error {
		var err error
		if id, err = s.CreateExportTx(ctx, tx, n); err != nil {
			return err
		}
		if err := s.KickedOffTx(ctx, tx, id, 0, "https://payer.example/status", time.Now(), nil); err != nil {
			return err
		}
		_, err = s.ManifestTx(ctx, tx, id, 0, m, len(files)+1)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return get(t, s, id)
}

func get(t *testing.T, s *store.Store, id int64) store.Export {
	t.Helper()
	e, err := s.Export(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// loadFile loads one file from its checkpoint on.
func loadFile(t *testing.T, s *store.Store, e store.Export, ordinal int, source *lines, chunkBytes int) (store.File, error) {
	t.Helper()
	ctx := t.Context()
	lease, err := s.LockFile(ctx, e.ID, ordinal)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release(ctx)
	f, err := s.File(ctx, e.ID, ordinal)
	if err != nil {
		t.Fatal(err)
	}
	return s.LoadFile(ctx, lease, e, f, store.LoadOptions{
		ChunkBytes: chunkBytes,
		Open:       func(context.Context) (store.LineSource, error) { return source, nil },
	})
}

func loaded(t *testing.T, s *store.Store, e store.Export, ordinal int) store.Next {
	t.Helper()
	f, err := s.File(t.Context(), e.ID, ordinal)
	if err != nil {
		t.Fatal(err)
	}
	var next store.Next
	err = s.InTx(t.Context(), func(tx pgx.Tx) (err error) {
		next, err = s.FileLoadedTx(t.Context(), tx, e, f, false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// stage loads all files of an export, so that it is publishing.
func stage(t *testing.T, s *store.Store, e store.Export, files ...testFile) {
	t.Helper()
	for i, f := range files {
		if _, err := loadFile(t, s, e, i, &lines{text: f.lines}, 0); err != nil {
			t.Fatal(err)
		}
		if next := loaded(t, s, e, i); next.Publish != (i == len(files)-1) {
			t.Fatalf("file %d: publish %v follows", i, next.Publish)
		}
	}
}

// permissive publishes whatever the ledger lets pass.
var permissive = store.PublishOptions{
	QuarantineMaxShare: 1, GhostMaxShare: 1, History: "deletes", Watermark: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
}

func publish(t *testing.T, s *store.Store, id int64, o store.PublishOptions) (store.Export, error) {
	t.Helper()
	return publishThen(t, s, id, o, nil)
}

// publishThen publishes an export in a transaction that then fails, unless with is nil.
func publishThen(t *testing.T, s *store.Store, id int64, o store.PublishOptions, with error) (store.Export, error) {
	t.Helper()
	lease, err := s.LockExport(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release(t.Context())
	return s.Publish(t.Context(), lease, id, o, func(context.Context, pgx.Tx) error { return with })
}

// run makes, loads and publishes an export.
func run(t *testing.T, s *store.Store, n store.NewExport, files ...testFile) store.Export {
	t.Helper()
	e := begin(t, s, n, files...)
	stage(t, s, e, files...)
	e, err := publish(t, s, e.ID, permissive)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DropStaging(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	return e
}

func wantLedger(t *testing.T, e store.Export, want store.Ledger) {
	t.Helper()
	got := e.Ledger
	got.Bytes, got.WireBytes = 0, 0
	if got != want {
		t.Errorf("export %d: got ledger\n%+v, want\n%+v", e.ID, got, want)
	}
}

// row is what a test looks at of a published row.
type row struct {
	ID, Resource string
	ExportID     int64
	XMin         uint32
}

func rows(t *testing.T, s *store.Store, table string) map[string]row {
	t.Helper()
	found, err := s.Pool().Query(t.Context(),
		`SELECT id, resource::text, export_id, xmin::text::bigint FROM `+pgx.Identifier(strings.Split(table, ".")).Sanitize())
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(found, pgx.RowToStructByPos[row])
	if err != nil {
		t.Fatal(err)
	}
	byID := make(map[string]row)
	for _, r := range all {
		if _, twice := byID[r.ID]; twice {
			t.Errorf("%s holds %s twice", table, r.ID)
		}
		byID[r.ID] = r
	}
	return byID
}

func patient(id, lastUpdated, note string) string {
	meta := ""
	if lastUpdated != "" {
		meta = fmt.Sprintf(`"meta":{"lastUpdated":%q},`, lastUpdated)
	}
	return fmt.Sprintf(`{"resourceType":"Patient","id":%q,%s"note":%q}`, id, meta, note)
}

func observation(id, patient, note string) string {
	return fmt.Sprintf(`{"resourceType":"Observation","id":%q,"subject":{"reference":"Patient/%s"},"note":%q}`, id, patient, note)
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
