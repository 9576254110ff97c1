package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Manifest is what the store keeps of a manifest, or of its first pages.
type Manifest struct {
	TransactionTime string
	TransactionAt   time.Time
	ExpiresAt       time.Time
	OrganizedBy     string // the manifest's outputOrganizedBy
	Files           []ManifestFile
}

// ManifestFile is a file that a manifest lists.
type ManifestFile struct {
	Place         string // page, list and position: which file it is, whatever its URL (protocol.md MAN-8)
	Kind          FileKind
	ResourceType  string
	URL           string
	RequiresToken bool
	ExpectedCount int64 // -1 where the manifest says none
	ExpectedBytes int64 // -1 where the manifest says none
	SHA256        string
	Protection    string
	ExpiresAt     time.Time // until when the URL is good; zero where it does not say
}

// ErrManifestChanged says that a manifest that was asked for again is another one: what is staged need not be part of it.
var ErrManifestChanged = errors.New("the manifest that was asked for again is another one")

// Begun is what follows when files of a manifest have been recorded.
type Begun struct {
	// Files are the ordinals of files whose load is to begin.
	Files []int
	// Publish is set where the manifest is complete and nothing is left to load.
	Publish bool
}

// PagesTx records the files of the pages that a payer sends while it is at work: they are loaded at once, and published
// with all others (Bulk Data 3.0, Status Request, In-Progress Status). Files that are known get the URLs of now. At most
// downloads files are in work at a time. ErrManifestChanged where a page is not what it was.
func (s *Store) PagesTx(ctx context.Context, tx pgx.Tx, id int64, generation int, m Manifest, downloads int) (Begun, error) {
	e, err := lockRow(ctx, tx, id)
	if err != nil {
		return Begun{}, err
	}
	if e.State != StatePolling || e.Generation != generation {
		return Begun{}, errStale
	}
	added, err := s.recordFiles(ctx, tx, e, m, false)
	if err != nil || added == 0 {
		return Begun{}, err
	}
	err = change(ctx, tx, `UPDATE ingest.export SET transaction_time = $2, transaction_at = $3, organized_by = $4, progress_at = now(),
			stalled_at = NULL
		WHERE id = $1`,
		id, cleanText(m.TransactionTime), orNull(m.TransactionAt), clip(m.OrganizedBy, 64))
	if err != nil {
		return Begun{}, err
	}
	files, err := nextFiles(ctx, tx, id, downloads)
	return Begun{Files: files}, err
}

// ManifestTx records the files of a complete export: polling → loading, or → publishing where nothing is left to load. Each
// file that is loaded brings the next, so that a payer never has more than downloads files in work, over all instances.
// ErrManifestChanged where files that are staged ahead are not in it.
func (s *Store) ManifestTx(ctx context.Context, tx pgx.Tx, id int64, generation int, m Manifest, downloads int) (Begun, error) {
	e, err := lockRow(ctx, tx, id)
	if err != nil {
		return Begun{}, err
	}
	if e.State != StatePolling || e.Generation != generation {
		return Begun{}, errStale
	}
	if _, err := s.recordFiles(ctx, tx, e, m, true); err != nil {
		return Begun{}, err
	}
	left, err := filesLeft(ctx, tx, id)
	if err != nil {
		return Begun{}, err
	}
	state := StateLoading
	if !left {
		state = StatePublishing
	}
	err = change(ctx, tx, `
		UPDATE ingest.export
		SET state = $2, transaction_time = $3, transaction_at = $4, expires_at = $5, organized_by = $6, manifest_at = now(), job_due_at = now(),
			loaded_at = CASE WHEN $2 = 'publishing' THEN now() END, progress = '', progress_percent = NULL,
			trouble_at = CASE WHEN trouble_file IS NOT NULL THEN trouble_at END
		WHERE id = $1`,
		id, state, cleanText(m.TransactionTime), orNull(m.TransactionAt), orNull(m.ExpiresAt), clip(m.OrganizedBy, 64))
	if err != nil || !left {
		return Begun{Publish: true}, err
	}
	files, err := nextFiles(ctx, tx, id, downloads)
	return Begun{Files: files}, err
}

// RenewURLsTx stores the URLs of a manifest that was asked for again because links had expired. ErrManifestChanged where
// it does not list the same files.
func (s *Store) RenewURLsTx(ctx context.Context, tx pgx.Tx, exportID int64, m Manifest, complete bool) error {
	e, err := lockRow(ctx, tx, exportID)
	if err != nil {
		return err
	}
	if !e.State.loads() {
		return errStale
	}
	if e.State == StatePolling {
		complete = false // that it is complete now, the next poll finds out
	}
	_, err = s.recordFiles(ctx, tx, e, m, complete)
	return err
}

// recordFiles brings the files of an export in line with its manifest: those that are not known are added, unless
// the list was complete before; those that are known, and not loaded, get the URLs of now. It returns how many it added.
func (s *Store) recordFiles(ctx context.Context, tx pgx.Tx, e Export, m Manifest, complete bool) (int, error) {
	known, err := filesByPlace(ctx, tx, e.ID)
	if err != nil {
		return 0, err
	}
	if len(known) > 0 && (e.TransactionTime != cleanText(m.TransactionTime) || e.OrganizedBy != clip(m.OrganizedBy, 64)) {
		return 0, ErrManifestChanged
	}
	var added []ManifestFile
	var renewed pgx.Batch
	found := 0
	for _, f := range m.Files {
		old, ok := known[f.Place]
		if !ok {
			added = append(added, f)
			continue
		}
		found++
		if old.Kind != f.Kind || old.ResourceType != cleanText(f.ResourceType) || old.ExpectedCount != f.ExpectedCount || old.SHA256 != f.SHA256 {
			return 0, ErrManifestChanged
		}
		if old.State == "loaded" || old.URL == cleanText(f.URL) {
			continue
		}
		renewed.Queue(`UPDATE ingest.export_file SET url = $3, requires_token = $4, expires_at = $5 WHERE export_id = $1 AND ordinal = $2`,
			e.ID, old.Ordinal, cleanText(f.URL), f.RequiresToken, orNull(f.ExpiresAt))
	}
	if complete && found < len(known) || e.State == StateLoading && len(added) > 0 {
		return 0, ErrManifestChanged
	}
	if err := tx.SendBatch(ctx, &renewed).Close(); err != nil {
		return 0, fmt.Errorf("renew the URLs of the manifest: %w", err)
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"ingest", "export_file"},
		[]string{
			"export_id", "ordinal", "place", "kind", "resource_type", "url", "requires_token", "expected_count", "expected_bytes",
			"sha256", "protection", "expires_at",
		},
		pgx.CopyFromSlice(len(added), func(i int) ([]any, error) {
			f := added[i]
			return []any{
				e.ID, len(known) + i, f.Place, string(f.Kind), cleanText(f.ResourceType), cleanText(f.URL), f.RequiresToken,
				atLeastZero(f.ExpectedCount), atLeastZero(f.ExpectedBytes), f.SHA256, clip(f.Protection, 100), orNull(f.ExpiresAt),
			}, nil
		}))
	if err != nil {
		return 0, fmt.Errorf("record the files of the manifest: %w", err)
	}
	return len(added), nil
}

func filesByPlace(ctx context.Context, tx pgx.Tx, exportID int64) (map[string]File, error) {
	rows, err := tx.Query(ctx, `SELECT `+fileColumns+` FROM ingest.export_file WHERE export_id = $1`, exportID)
	if err != nil {
		return nil, fmt.Errorf("read the files: %w", err)
	}
	files, err := pgx.CollectRows(rows, scanFile)
	if err != nil {
		return nil, fmt.Errorf("read the files: %w", err)
	}
	places := make(map[string]File, len(files))
	for _, f := range files {
		places[f.Place] = f
	}
	return places, nil
}

// atLeastZero is a number that the manifest names, null where it does not.
func atLeastZero(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

// filesLeft reports whether an export has files that are not loaded.
func filesLeft(ctx context.Context, tx pgx.Tx, exportID int64) (left bool, err error) {
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM ingest.export_file WHERE export_id = $1 AND state IN ('pending', 'queued'))`,
		exportID).Scan(&left)
	if err != nil {
		return false, fmt.Errorf("look for files that are not loaded: %w", err)
	}
	return left, nil
}

// nextFiles marks files as queued until downloads of them are in work.
func nextFiles(ctx context.Context, tx pgx.Tx, exportID int64, downloads int) ([]int, error) {
	var queued int
	err := tx.QueryRow(ctx, `SELECT count(*) FROM ingest.export_file
		WHERE export_id = $1 AND state = 'queued' AND state IN ('pending', 'queued') -- the index of what is left`, exportID).Scan(&queued)
	if err != nil {
		return nil, fmt.Errorf("count the files in work: %w", err)
	}
	var files []int
	for range downloads - queued {
		ordinal, ok, err := nextFile(ctx, tx, exportID)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		files = append(files, ordinal)
	}
	return files, nil
}

// nextFile marks the next file of an export as queued: what expires first, and among equals as the manifest lists them
// (protocol.md FILE-14).
func nextFile(ctx context.Context, tx pgx.Tx, exportID int64) (int, bool, error) {
	var ordinal int
	err := tx.QueryRow(ctx, `
		UPDATE ingest.export_file SET state = 'queued', job_due_at = now()
		WHERE export_id = $1 AND ordinal = (
			SELECT ordinal FROM ingest.export_file
			WHERE export_id = $1 AND state = 'pending' AND state IN ('pending', 'queued') -- the index of what is left
			ORDER BY expires_at, ordinal LIMIT 1 FOR UPDATE SKIP LOCKED)
		RETURNING ordinal`, exportID).Scan(&ordinal)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("queue the next file: %w", err)
	}
	return ordinal, true, nil
}
