package scheduler

import (
	"context"
	"errors"
	"net/http"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/store"
)

// backfillPatients is how many patients one back-fill asks for: what a POST of moderate size holds.
const backfillPatients = 500

// newcomers says what becomes of Patients that this export brings for the first time. Only an incremental export of a group
// says something of them: in any other, whoever is new comes with all that the payer has (protocol.md INC-5).
func newcomers(p config.Payer, x store.Export) store.Newcomers {
	if x.Kind != store.KindIncremental || p.Export.Level != "group" || len(p.Export.Patients) > 0 {
		return ""
	}
	switch {
	case p.Export.Newcomers == "ignore":
		return ""
	case p.Export.Newcomers == "full", x.Queue != "":
		// A run in the foreground ends with its own export, and may be the only thing that runs: what it finds is left to the
		// next one.
		return store.NewcomersFull
	}
	return store.NewcomersBackfill
}

// backfillTx starts an export of the newcomers' data, in the transaction that publishes what they were found in, or the
// back-fill of those before them.
func (e *Engine) backfillTx(ctx context.Context, tx pgx.Tx, p config.Payer, x store.Export) error {
	if p.Export.Newcomers != "backfill" || p.Export.Level != "group" || x.Queue != "" {
		return nil
	}
	patients, err := e.store.NewcomersTx(ctx, tx, p.Name, backfillPatients)
	if err != nil || len(patients) == 0 {
		return err
	}
	id, err := e.beginTx(ctx, tx, store.NewExport{
		Payer: p.Name, Kind: store.KindBackfill, Trigger: store.TriggerNewcomers, Types: sortedTypes(p), Series: series(p),
		Since: p.Export.FullSince, Patients: patients, Settings: settingsOf(p),
	})
	if err != nil {
		return err
	}
	e.logger.InfoContext(ctx, "patients joined the group: asking for their history", "payer", p.Name, "export_id", id,
		"patients", len(patients))
	return nil
}

// noteRefusedBackfillTx notes that the payer does not take the patient parameter, or no POST, when that is why a back-fill
// failed.
func (e *Engine) noteRefusedBackfillTx(ctx context.Context, tx pgx.Tx, x store.Export, failure error) error {
	refused, ok := errors.AsType[*export.Error](failure)
	if !ok || x.Kind != store.KindBackfill || refused.Phase != export.PhaseKickOff {
		return nil
	}
	if refused.Status != http.StatusNotImplemented && (refused.Status < 400 || refused.Status > 499) {
		return nil
	}
	e.logger.WarnContext(ctx, "the payer exports no single patients: the next export will be a full one, for those who joined",
		"payer", x.Payer, "export_id", x.ID)
	return e.store.RefuseBackfillTx(ctx, tx, x.Payer)
}
