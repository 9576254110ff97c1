package notify

import "time"

// Kind is what an event tells.
type Kind string

// The kinds of events.
const (
	Failed    Kind = "failed"    // an export ended without being published
	Held      Kind = "held"      // an export waits for an operator to release or reject it
	Stale     Kind = "stale"     // nothing was published for longer than freshness_slo
	Recovered Kind = "recovered" // an export was published, after one of the others had been told
	Test      Kind = "test"      // somebody tries the target
)

// Version is that of the JSON form of an Event. Members are added without raising it.
const Version = 1

// Event is what a target is told. Its JSON form is a public interface: docs/notifications.md.
type Event struct {
	Version int `json:"version"`
	// ID is the same however often the event is sent: a receiver that has seen it ignores it.
	ID         int64     `json:"id"`
	Event      Kind      `json:"event"`
	OccurredAt time.Time `json:"occurred_at"`
	Payer      string    `json:"payer"`
	// Incident is what the event begins; a recovered event names those that it ends in Incidents.
	Incident  int64      `json:"incident,omitempty"`
	Incidents []Incident `json:"incidents,omitempty"`
	// Export is what failed, was held or was published.
	Export *Export `json:"export,omitempty"`
	// Code is the stable code of the failure, and Hint what to do about it.
	Code string `json:"code,omitempty"`
	Hint string `json:"hint,omitempty"`
	// LastSuccess is when an export of the payer was last published; a recovered event has none.
	LastSuccess *time.Time `json:"last_success,omitempty"`
	// FreshnessSLOSeconds is for how long the payer may be without a publish.
	FreshnessSLOSeconds float64 `json:"freshness_slo_seconds,omitempty"`
}

// Incident is what was told before, and is over.
type Incident struct {
	ID       int64     `json:"id"`
	Event    Kind      `json:"event"`
	OpenedAt time.Time `json:"opened_at"`
	// Code is that of the failure that was told.
	Code string `json:"code,omitempty"`
	// Exports is how many exports failed, or were held, in it.
	Exports int `json:"exports,omitempty"`
}

// Export is the export that an event is about, in numbers.
type Export struct {
	ID          int64  `json:"id"`
	Kind        string `json:"kind"`
	Lines       int64  `json:"lines"`
	Inserted    int64  `json:"inserted"`
	Updated     int64  `json:"updated"`
	Unchanged   int64  `json:"unchanged"`
	Deleted     int64  `json:"deleted"`
	Ghosts      int64  `json:"ghosts"`
	Quarantined int64  `json:"quarantined"`
	// Rows is how many of the payer's rows were compared with a held export, whose Ghosts would be removed.
	Rows int64 `json:"rows,omitempty"`
}

// Sample is an event of a kind, to try templates and targets with.
func Sample(kind Kind, now time.Time) Event {
	earlier := now.Add(-26 * time.Hour)
	e := Event{
		Version: Version, ID: 1, Event: kind, OccurredAt: now, Payer: "example", Incident: 1, LastSuccess: &earlier,
		FreshnessSLOSeconds: (24 * time.Hour).Seconds(),
		Export:              &Export{ID: 42, Kind: "full", Lines: 1000},
	}
	switch kind {
	case Failed:
		e.Code, e.Hint = "kickoff_refused", "an example of a hint"
	case Held:
		e.Code, e.Hint = "ghost_guard", "an example of a hint"
		e.Export.Ghosts, e.Export.Rows = 400, 1000
	case Stale:
		e.Export = nil
	case Recovered:
		e.LastSuccess = nil
		e.Incident, e.Incidents = 0, []Incident{{ID: 1, Event: Failed, OpenedAt: earlier, Code: "kickoff_refused", Exports: 2}}
	case Test:
		e.Payer, e.Incident, e.LastSuccess, e.FreshnessSLOSeconds, e.Export = "", 0, nil, 0, nil
	}
	return e
}
