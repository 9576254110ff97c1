package store_test

import (
	"testing"
	"time"

	"ingestd/internal/store"
)

func TestMAN2_the_watermark_never_moves_back_and_needs_every_type(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	at := func(day int) time.Time { return time.Date(2026, 3, day, 0, 0, 0, 0, time.UTC) }
	publishAt := func(watermark time.Time, types ...string) {
		t.Helper()
		file := output("Patient", patient("a", "", "1"))
		e := begin(t, s, store.NewExport{Series: "s", Types: types}, file)
		stage(t, s, e, file)
		options := permissive
		options.Watermark = watermark
		if _, err := publish(t, s, e.ID, options); err != nil {
			t.Fatal(err)
		}
	}
	want := func(series string, want time.Time, types ...string) {
		t.Helper()
		if got, err := s.Watermark(ctx, "p", series, types); err != nil || !got.Equal(want) {
			t.Errorf("watermark of %v: got %v, %v, want %v", types, got, err, want)
		}
	}
	publishAt(at(2), "Patient")
	want("s", at(2), "Patient")
	want("s", time.Time{}, "Patient", "Observation") // INC-10: a type that is new has no watermark
	want("other", time.Time{}, "Patient")
	publishAt(at(1), "Patient")
	want("s", at(2), "Patient")
	publishAt(time.Time{}, "Patient")
	want("s", at(2), "Patient")
	publishAt(at(3), "Patient", "Observation")
	want("s", at(3), "Patient", "Observation")
}

func TestINC10_ghosts_that_leave_end_the_watermarks_of_other_series(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{Series: "group 1"}, output("Patient", patient("a", "", ""), patient("b", "", "")))
	watermark := func(series string) bool {
		t.Helper()
		at, err := s.Watermark(t.Context(), "p", series, nil)
		if err != nil {
			t.Fatal(err)
		}
		return !at.IsZero()
	}
	run(t, s, store.NewExport{Series: "group 2"}, output("Patient", patient("b", "", "")))
	if !watermark("group 1") {
		t.Error("nothing left, but what was published of the other group counts no more")
	}
	run(t, s, store.NewExport{Series: "group 2", RemovesGhosts: true}, output("Patient", patient("b", "", "")))
	if watermark("group 1") {
		t.Error("a patient of the other group left as a ghost, but an incremental export of that group would not bring it back")
	}
	if !watermark("group 2") {
		t.Error("the series that was published has no watermark")
	}
}
