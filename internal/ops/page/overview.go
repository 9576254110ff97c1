package page

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"ingestd/internal/store"
)

// historyLength is how many runs the strip of a payer shows.
const historyLength = store.KeptExports

// snapshot is the state of the fleet at an instant.
type snapshot struct {
	At        time.Time
	Rows      []row
	Counts    counts
	Instances []store.Instance
	About     store.About
	Took      time.Duration // what the database needed
}

// counts are the figures at the head of the overview, which are its filters as well. A payer may count twice: failed, and stale.
type counts struct {
	Payers, Running, Waiting, Held, Failed, Stale, Paused, Good int
}

// overview returns the state of the fleet, by a constant number of queries.
func (p *Page) overview(ctx context.Context) (kept[*snapshot], error) {
	k, err := read(ctx, &p.known, "overview", func(ctx context.Context) (*snapshot, error) {
		s, err := p.look(ctx, time.Now())
		if err == nil {
			p.board.update(s)
		}
		return s, err
	})
	if err == nil {
		p.board.note(k)
	}
	return k, err
}

func (p *Page) look(ctx context.Context, now time.Time) (*snapshot, error) {
	db, payers := p.options.Direct.Store, p.options.Direct.Payers()
	names := make([]string, 0, len(payers))
	for _, payer := range payers {
		names = append(names, payer.Name)
	}
	statuses, err := p.options.Direct.Status(ctx)
	if err != nil {
		return nil, err
	}
	histories, err := db.Histories(ctx, names, historyLength)
	if err != nil {
		return nil, err
	}
	running, err := db.RunningProgress(ctx)
	if err != nil {
		return nil, err
	}
	incidents, err := db.OpenIncidents(ctx)
	if err != nil {
		return nil, err
	}
	s := &snapshot{At: now}
	if s.Instances, err = db.Instances(ctx); err != nil {
		return nil, err
	}
	if s.About, err = db.About(ctx); err != nil {
		return nil, err
	}
	for _, status := range statuses {
		r := newRow(status, now)
		r.Incidents = incidents[status.Payer]
		r.Strip = newStrip(histories[status.Payer])
		if e := status.LastExport; e != nil {
			if progress, ok := running[e.ExportID]; ok {
				r.Progress = newProgress(progress)
			}
		}
		r = r.judged()
		s.Counts.add(r)
		s.Rows = append(s.Rows, r)
	}
	slices.SortStableFunc(s.Rows, func(a, b row) int { return cmp.Or(a.Rank-b.Rank, strings.Compare(a.Payer, b.Payer)) })
	s.Took = time.Since(now)
	return s, nil
}

func (c *counts) add(r row) {
	c.Payers++
	for tag, n := range map[string]*int{
		"running": &c.Running, "waiting": &c.Waiting, "held": &c.Held, "failed": &c.Failed, "stale": &c.Stale, "paused": &c.Paused, "good": &c.Good,
	} {
		if slices.Contains(r.Tags, tag) {
			*n++
		}
	}
}

// figure is one of the counts as it is shown.
type figure struct {
	Tag, Label, Tone string
	N                int
	Shown            bool // it is the filter that is set
}

// summaryBody is the head of the overview.
type summaryBody struct {
	Figures   []figure
	Instances []store.Instance
	Live      int
	Versions  []string
	About     store.About
	Took      time.Duration
	At        time.Time
	Down      bool
}

func newSummary(k kept[*snapshot], filter string) summaryBody {
	s := k.Value
	b := summaryBody{Instances: s.Instances, About: s.About, Took: s.Took, At: k.At, Down: k.Down}
	for _, i := range s.Instances {
		if i.Live {
			b.Live++
			if !slices.Contains(b.Versions, i.Version) {
				b.Versions = append(b.Versions, i.Version)
			}
		}
	}
	c := s.Counts
	for _, f := range []figure{
		{Tag: "failed", Label: "failed", Tone: "bad", N: c.Failed},
		{Tag: "held", Label: "held", Tone: "warn", N: c.Held},
		{Tag: "stale", Label: "stale", Tone: "warn", N: c.Stale},
		{Tag: "running", Label: "running", Tone: "busy", N: c.Running},
		{Tag: "waiting", Label: "waiting", Tone: "busy", N: c.Waiting},
		{Tag: "paused", Label: "paused", Tone: "off", N: c.Paused},
		{Tag: "good", Label: "in order", Tone: "ok", N: c.Good},
		{Tag: "", Label: "payers", Tone: "", N: c.Payers},
	} {
		f.Shown = f.Tag == filter
		b.Figures = append(b.Figures, f)
	}
	return b
}

// overviewBody is what the overview shows.
type overviewBody struct {
	Summary summaryBody
	Rows    []shownRow
	Query   string
	Filter  string
	Hidden  int
}

// shownRow is a row and whether the filter lets it be seen. All stand in the page, so that a script can filter without asking.
type shownRow struct {
	row
	Hidden bool
}

func (p *Page) overviewPage(v *visit) error {
	k, err := p.overview(v.r.Context())
	if err != nil {
		return err
	}
	query := v.r.URL.Query()
	body := overviewBody{Query: query.Get("q"), Filter: query.Get("state")}
	body.Summary = newSummary(k, body.Filter)
	for _, r := range k.Value.Rows {
		hidden := !r.matches(body.Query, body.Filter)
		if hidden {
			body.Hidden++
		}
		body.Rows = append(body.Rows, shownRow{row: r, Hidden: hidden})
	}
	c := v.chrome("Payers", "payers", body)
	c.Follows, c.Sequence, c.Down, c.Since = true, p.board.sequenceOf(k.Value), k.Down, k.At
	return v.show(http.StatusOK, "overview", c)
}

// matches reports whether a filter lets a row be seen.
func (r row) matches(query, filter string) bool {
	if filter != "" && !slices.Contains(r.Tags, filter) {
		return false
	}
	return strings.Contains(strings.ToLower(r.Payer), strings.ToLower(strings.TrimSpace(query)))
}
