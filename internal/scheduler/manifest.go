package scheduler

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"ingestd/internal/export"
	"ingestd/internal/failpoint"
	"ingestd/internal/store"
)

// loadsAhead reports whether the pages that the payer sends while it is at work are loaded at once (protocol.md MAN-8). An
// adopted export may prove to be another one than ours; and where a payer's pages have changed once, as they must not, the
// export that started again waits for its whole manifest.
func loadsAhead(p Payer, x store.Export) bool {
	return p.Config.Export.PartialManifests && !x.Adopted && x.Restarts == 0
}

// loadPages records the pages that the payer has sent ahead, together with the jobs that load the first of their files.
func (e *Engine) loadPages(ctx context.Context, x store.Export, p Payer, status export.Status) error {
	return e.store.InTx(ctx, func(tx pgx.Tx) error {
		begun, err := e.store.PagesTx(ctx, tx, x.ID, x.Generation, storedManifest(status), p.Config.Limits.Downloads)
		if err != nil {
			return manifestError(err)
		}
		return e.loadFilesTx(ctx, tx, x, begun.Files)
	})
}

// loadManifest records the whole manifest, together with the jobs that load the first of its files, or with the publish where
// nothing is left to load.
func (e *Engine) loadManifest(ctx context.Context, job *river.Job[pollExportArgs], x store.Export, p Payer, status export.Status,
) error {
	err := finish(ctx, e, job, func(tx pgx.Tx) error {
		begun, err := e.store.ManifestTx(ctx, tx, x.ID, x.Generation, storedManifest(status), p.Config.Limits.Downloads)
		if err != nil {
			return manifestError(err)
		}
		if begun.Publish {
			return e.insertTx(ctx, tx, publishExportArgs{ExportID: x.ID, Generation: x.Generation}, x.Queue)
		}
		err = e.loadFilesTx(ctx, tx, x, begun.Files)
		failpoint.Here(failpoint.ManifestCommit)
		return err
	})
	failpoint.Here(failpoint.ManifestCommitted)
	return err
}

func (e *Engine) loadFilesTx(ctx context.Context, tx pgx.Tx, x store.Export, files []int) error {
	for _, ordinal := range files {
		if err := e.insertTx(ctx, tx, loadFileArgs{ExportID: x.ID, File: ordinal}, x.Queue); err != nil {
			return err
		}
	}
	return nil
}

// manifestError makes a manifest that changed a reason to start the export again: what is staged need not be part of it.
func manifestError(err error) error {
	if !errors.Is(err, store.ErrManifestChanged) {
		return err
	}
	return &export.Error{
		Phase: export.PhaseManifest, Code: codeManifestChanged, Action: export.ActionRestart,
		Detail: "the manifest that was asked for again lists other files, or names another transactionTime", Err: err,
		Hint: "a manifest must not change once the payer has sent it; with export.partial_manifests: false it is read once",
	}
}

// storedManifest is what the store keeps of a manifest. Deleted files come last, though they are applied after all output
// anyway: the order is that of the ordinals, and the payer's.
func storedManifest(s export.Status) store.Manifest {
	m := store.Manifest{
		TransactionTime: s.Manifest.TransactionTime, TransactionAt: s.Manifest.Time, ExpiresAt: s.Expires,
		OrganizedBy: s.Manifest.OutputOrganizedBy,
	}
	for _, group := range []struct {
		kind  store.FileKind
		files []export.File
	}{
		{store.FileOutput, s.Manifest.Output},
		{store.FileDeleted, s.Manifest.Deleted},
		{store.FileError, s.Manifest.Errors},
	} {
		for _, f := range group.files {
			kind := group.kind
			if kind == store.FileOutput && f.Type == "OperationOutcome" {
				kind = store.FileError // protocol.md MAN-3
			}
			m.Files = append(m.Files, store.ManifestFile{
				Place: f.Place, Kind: kind, ResourceType: f.Type, URL: f.URL, RequiresToken: f.RequiresAccessToken,
				ExpectedCount: f.Count, ExpectedBytes: f.Size, SHA256: f.SHA256, Protection: f.Protection, ExpiresAt: f.Expires,
			})
		}
	}
	return m
}
