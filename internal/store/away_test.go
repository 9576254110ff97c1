package store_test

import (
	"context"
	"testing"

	"ingestd/internal/store"
	"ingestd/internal/testpg"
)

// What is asked while nobody answers must not look like an answer: no empty list, no false, no zero.
func TestStore_that_is_closed_answers_nothing(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.Context(), store.Options{URL: testpg.New(t, migrate), MaxConnections: 8})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	by := store.Actor{Name: "an operator"}
	for name, ask := range map[string]func(ctx context.Context) error{
		"Attachments":       func(ctx context.Context) error { _, err := s.Attachments(ctx, 1); return err },
		"AuditEvents":       func(ctx context.Context) error { _, err := s.AuditEvents(ctx, store.AuditFilter{}, 1); return err },
		"Certificate":       func(ctx context.Context) error { _, err := s.Certificate(ctx, 1); return err },
		"LateExports":       func(ctx context.Context) error { _, err := s.LateExports(ctx); return err },
		"Exports":           func(ctx context.Context) error { _, err := s.Exports(ctx, "p", 1); return err },
		"CleanedUp":         func(ctx context.Context) error { return s.CleanedUp(ctx, 1) },
		"File":              func(ctx context.Context) error { _, err := s.File(ctx, 1, 0); return err },
		"Files":             func(ctx context.Context) error { _, err := s.Files(ctx, 1); return err },
		"NoteDownload":      func(ctx context.Context) error { return s.NoteDownload(ctx, 1, 0) },
		"BeatWorker":        func(ctx context.Context) error { return s.BeatWorker(ctx, "w") },
		"HostServed":        func(ctx context.Context) error { return s.HostServed(ctx, "h") },
		"LockIndexes":       func(ctx context.Context) error { _, err := s.LockIndexes(ctx, "p"); return err },
		"Retire":            func(ctx context.Context) error { return s.Retire(ctx, "i") },
		"Instances":         func(ctx context.Context) error { _, err := s.Instances(ctx); return err },
		"Mismatches":        func(ctx context.Context) error { _, err := s.Mismatches(ctx); return err },
		"Figures":           func(ctx context.Context) error { _, err := s.Figures(ctx, nil); return err },
		"IsConfigured":      func(ctx context.Context) error { _, err := s.IsConfigured(ctx, "p"); return err },
		"Unconfigured":      func(ctx context.Context) error { _, err := s.Unconfigured(ctx); return err },
		"Load":              func(ctx context.Context) error { _, err := s.Load(ctx); return err },
		"BeginKickOff":      func(ctx context.Context) error { _, err := s.BeginKickOff(ctx, 1, 0, nil); return err },
		"LockExport":        func(ctx context.Context) error { _, err := s.LockExport(ctx, 1); return err },
		"LockFile":          func(ctx context.Context) error { _, err := s.LockFile(ctx, 1, 0); return err },
		"Migrations":        func(ctx context.Context) error { _, err := s.Migrations(ctx); return err },
		"CheckSchema":       s.CheckSchema,
		"WantsFull":         func(ctx context.Context) error { _, err := s.WantsFull(ctx, "p"); return err },
		"Notification":      func(ctx context.Context) error { _, err := s.Notification(ctx, 1); return err },
		"RunningProgress":   func(ctx context.Context) error { _, err := s.RunningProgress(ctx); return err },
		"OpenIncidents":     func(ctx context.Context) error { _, err := s.OpenIncidents(ctx); return err },
		"FileSummaries":     func(ctx context.Context) error { _, err := s.FileSummaries(ctx, 1, 1); return err },
		"NotResources":      func(ctx context.Context) error { _, err := s.NotResources(ctx, 1); return err },
		"QuarantineReasons": func(ctx context.Context) error { _, err := s.QuarantineReasons(ctx, 1); return err },
		"Pauses":            func(ctx context.Context) error { _, err := s.Pauses(ctx); return err },
		"IsPaused":          func(ctx context.Context) error { _, err := s.IsPaused(ctx, "p"); return err },
		"Quarantine":        func(ctx context.Context) error { _, err := s.Quarantine(ctx, store.QuarantineFilter{}, 1); return err },
		"ShowQuarantined":   func(ctx context.Context) error { _, _, err := s.ShowQuarantined(ctx, 1, by); return err },
		"RemovePayer":       func(ctx context.Context) error { _, err := s.RemovePayer(ctx, "p", by); return err },
		"HasPayer":          func(ctx context.Context) error { _, err := s.HasPayer(ctx, "p"); return err },
		"OwnsEngine":        func(ctx context.Context) error { _, err := s.OwnsEngine(ctx); return err },
		"NoteStalled":       func(ctx context.Context) error { return s.NoteStalled(ctx, 1, 0) },
		"PayerStates":       func(ctx context.Context) error { _, err := s.PayerStates(ctx); return err },
		"Progress":          func(ctx context.Context) error { _, err := s.Progress(ctx, 1); return err },
		"TypeLedgers":       func(ctx context.Context) error { _, err := s.TypeLedgers(ctx, 1); return err },
		"HasLeader":         func(ctx context.Context) error { _, err := s.HasLeader(ctx); return err },
		"Ping":              s.Ping,
		"DropStaging":       func(ctx context.Context) error { return s.DropStaging(ctx, 1) },
		"Clock":             func(ctx context.Context) error { _, err := s.Clock(ctx); return err },
	} {
		if ask(t.Context()) == nil {
			t.Errorf("%s answers, though nobody was there to ask", name)
		}
	}
}
