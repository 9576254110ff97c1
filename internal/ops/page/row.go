package page

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ingestd/internal/ops"
	"ingestd/internal/store"
)

// The tones of what is shown. None is told by its colour alone.
const (
	toneBad  = "bad"
	toneWarn = "warn"
	toneBusy = "busy"
	toneGood = "ok"
	toneOff  = "off"
)

// row is a payer in the overview. It holds instants and no ages, so that it changes only when something happens.
type row struct {
	Payer string
	State string
	Tone  string
	Tags  []string // the figures that it counts in
	Rank  int      // trouble first

	Last        *ops.ExportSummary
	Progress    *progress
	FreshAt     time.Time // the data are as of then
	LastSuccess time.Time
	SLO         time.Duration
	StaleSince  time.Time
	NextRun     time.Time
	Stalled     time.Time
	PausedAt    time.Time
	PausedBy    string
	Mismatch    string
	Error       *ops.ErrorSummary
	Retrying    *ops.ErrorSummary
	Incidents   []store.Incident
	Strip       strip
}

func newRow(s ops.PayerStatus, now time.Time) row {
	r := row{
		Payer: s.Payer, State: s.State, Last: s.LastExport, LastSuccess: orZero(s.LastSuccess), StaleSince: orZero(s.StaleSince),
		SLO: time.Duration(s.FreshnessSLOSeconds * float64(time.Second)), NextRun: orZero(s.NextRun), Stalled: orZero(s.StalledSince),
		PausedAt: orZero(s.PausedAt), PausedBy: s.PausedBy, Error: s.LastError, Retrying: s.Retrying, Mismatch: mismatchText(s.ConfigMismatch),
	}
	if s.FreshnessSeconds != nil {
		r.FreshAt = now.Add(-time.Duration(*s.FreshnessSeconds * float64(time.Second))).Round(time.Second)
	}
	if r.Last != nil && r.Last.FinishedAt == nil {
		running := *r.Last
		running.Seconds = 0 // it counts on, and StartedAt says it
		r.Last = &running
	}
	return r
}

// Running reports whether the payer has an export that is not over.
func (r row) Running() bool { return r.Last != nil && store.State(r.Last.State).Active() }

// Failing are the incidents that the row's error does not tell: that exports failed before the one that it shows.
func (r row) Failing() []store.Incident {
	var failing []store.Incident
	for _, i := range r.Incidents {
		if i.Event == store.IncidentFailed && (i.Exports > 1 || r.State != string(store.StateFailed)) {
			failing = append(failing, i)
		}
	}
	return failing
}

// Late reports whether the data are older than the payer's bound.
func (r row) Late() bool { return !r.StaleSince.IsZero() }

// judged says how a payer fares. Where an operator has to look, it stands on top.
func (r row) judged() row {
	failing := slices.ContainsFunc(r.Incidents, func(i store.Incident) bool { return i.Event == store.IncidentFailed })
	r.Rank, r.Tone = 8, toneGood
	switch {
	case r.State == string(store.StateFailed):
		r.Rank, r.Tone = 0, toneBad
	case r.State == string(store.StateHeld):
		r.Rank, r.Tone = 1, toneWarn
	case failing || !r.Stalled.IsZero():
		r.Rank, r.Tone = 2, toneWarn
	case r.Late():
		r.Rank, r.Tone = 3, toneWarn
	case r.Mismatch != "":
		r.Rank, r.Tone = 4, toneWarn
	case r.State == ops.StateWaiting:
		r.Rank, r.Tone = 6, toneBusy
	case r.Running():
		r.Rank, r.Tone = 5, toneBusy
	case r.State == string(store.StateCanceled):
		r.Rank, r.Tone = 7, toneOff
	case r.State == "never", r.State == "disabled":
		r.Rank, r.Tone = 9, toneOff
	}
	tag := func(when bool, name string) {
		if when {
			r.Tags = append(r.Tags, name)
		}
	}
	waiting := r.State == ops.StateWaiting
	tag(r.State == string(store.StateFailed), "failed")
	tag(r.State == string(store.StateHeld), "held")
	tag(r.Late(), "stale")
	tag(r.Running() && !waiting && r.State != string(store.StateHeld), "running")
	tag(waiting, "waiting")
	tag(!r.PausedAt.IsZero(), "paused")
	tag(r.Tone == toneGood && r.PausedAt.IsZero(), "good")
	return r
}

// StateTone is the tone of the state's own badge: a payer that runs is at work, also where it is in trouble.
func (r row) StateTone() string {
	if r.Tone == toneWarn && r.Running() && r.State != string(store.StateHeld) {
		return toneBusy
	}
	return r.Tone
}

// progress is how far a running export is.
type progress struct {
	Text    string
	Detail  string
	Percent int // -1 where unknown
}

func newProgress(p store.Progress) *progress {
	shown := &progress{Percent: -1, Text: string(p.State)}
	switch p.State {
	case store.StateStarting:
		shown.Text, shown.Detail = "starting", "asks the payer for an export"
		if p.Waiting {
			shown.Text, shown.Detail = "waiting", "has not had its turn"
		}
	case store.StatePolling:
		shown.Text, shown.Detail = "polling", "the payer is at work"
		if p.PayerProgress != "" {
			shown.Detail = "the payer says " + printable(p.PayerProgress)
		}
		if p.PayerPercent >= 0 {
			shown.Percent = int(p.PayerPercent)
		}
		if p.Files > 0 {
			shown.Detail += fmt.Sprintf("; %d of %s ahead, %s", p.FilesLoaded, plural(p.Files, "file"), byteCount(p.Bytes))
		}
	case store.StateLoading:
		shown.Percent = share(p.Lines, p.Expected)
		if shown.Percent < 0 {
			shown.Percent = share(int64(p.FilesLoaded), int64(p.Files))
		}
		parts := []string{
			fmt.Sprintf("%s of %s", count(p.FilesLoaded), plural(p.Files, "file")), count(p.Lines) + " lines", byteCount(p.Bytes),
		}
		if p.Quarantined > 0 {
			parts = append(parts, count(p.Quarantined)+" quarantined")
		}
		shown.Detail = strings.Join(parts, " · ")
	case store.StatePublishing:
		shown.Detail = fmt.Sprintf("%s lines · %s", count(p.Lines), byteCount(p.Bytes))
	case store.StateHeld:
		shown.Detail = fmt.Sprintf("%s lines · %s staged, and not published", count(p.Lines), byteCount(p.Bytes))
	case store.StatePublished, store.StateFailed, store.StateCanceled:
	}
	return shown
}

// changed is what an export brought, in a few words.
func changed(e ops.ExportSummary) string {
	var parts []string
	for _, part := range []struct {
		n    int64
		name string
	}{
		{e.Inserted, "new"}, {e.Updated, "changed"}, {e.Deleted + e.Ghosts, "removed"}, {e.Unchanged, "as before"}, {e.Quarantined, "quarantined"},
	} {
		if part.n > 0 {
			parts = append(parts, count(part.n)+" "+part.name)
		}
	}
	if len(parts) == 0 {
		return "nothing new"
	}
	return strings.Join(parts, " · ")
}

// Changed is what the last export brought.
func (r row) Changed() string { return changed(*r.Last) }

func mismatchText(digests map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(digests)) {
		text := name + " " + digests[name]
		if digests[name] == "" {
			text = name + " has none"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
