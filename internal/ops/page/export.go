package page

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"ingestd/internal/ops"
	"ingestd/internal/store"
)

const (
	// maxFiles, maxLines and maxEvents bound the tables of a page; commands list all.
	maxFiles   = 500
	maxLines   = 200
	maxEvents  = 50
	maxExports = 100
)

// exportView is all that is shown of an export.
type exportView struct {
	ops.ExportDetail
	Shown      *progress
	Stages     []stage
	Files      []store.FileSummary
	Kept       int // files that are not listed
	Apart      int64
	Reasons    []store.ReasonCount
	Lines      []store.QuarantinedLine
	LinesTotal int64
	Events     []store.AuditEvent
	Tone       string
}

// stage is a step of an export's way.
type stage struct {
	Name string
	At   time.Time
	Took time.Duration // since the one before; 0 where it has not come
	Now  bool
}

func (p *Page) export(ctx context.Context, id int64) (kept[*exportView], error) {
	return read(ctx, &p.known, exportPath(id), func(ctx context.Context) (*exportView, error) {
		d := p.options.Direct
		detail, err := d.Export(ctx, id)
		if err != nil {
			return nil, err
		}
		x := &exportView{ExportDetail: detail, Tone: kindOf(store.State(detail.State))}
		if x.FinishedAt == nil {
			x.Shown = newProgress(x.Progress)
		}
		x.Stages = newStages(detail)
		if x.Files, err = d.Store.FileSummaries(ctx, id, maxFiles); err != nil {
			return nil, err
		}
		x.Kept = max(0, detail.Progress.Files-len(x.Files))
		if x.Apart, err = d.Store.NotResources(ctx, id); err != nil {
			return nil, err
		}
		if x.Reasons, err = d.Store.QuarantineReasons(ctx, id); err != nil {
			return nil, err
		}
		for _, reason := range x.Reasons {
			x.LinesTotal += reason.Lines
		}
		if x.LinesTotal > 0 {
			if x.Lines, err = d.Store.Quarantine(ctx, store.QuarantineFilter{ExportID: id, Loaded: true}, maxLines); err != nil {
				return nil, err
			}
		}
		x.Events, err = d.Store.AuditEvents(ctx, store.AuditFilter{Object: store.ExportObject(id)}, maxEvents)
		return x, err
	})
}

// newStages are the steps that an export has taken, with the time that each needed, and the one that it is at.
func newStages(d ops.ExportDetail) []stage {
	var stages []stage
	last := d.StartedAt
	stages = append(stages, stage{Name: "recorded", At: last})
	next := ""
	for _, step := range []struct {
		name, now string
		at        *time.Time
	}{
		{"accepted by the payer", "asking the payer", d.AcceptedAt},
		{"manifest received", "the payer is at work", d.ManifestAt},
		{"all files loaded", "loading files", d.LoadedAt},
	} {
		if step.at == nil {
			if next == "" {
				next = step.now
			}
			continue
		}
		stages = append(stages, stage{Name: step.name, At: *step.at, Took: max(0, step.at.Sub(last))})
		last = *step.at
	}
	switch {
	case d.FinishedAt != nil:
		return append(stages, stage{Name: d.State, At: *d.FinishedAt, Took: max(0, d.FinishedAt.Sub(last))})
	case d.State == string(store.StateHeld):
		next = "held: an operator has to release or reject it"
	case d.Progress.Waiting:
		next = "waiting for its turn"
	case next == "":
		next = "publishing"
	}
	return append(stages, stage{Name: next, At: last, Now: true})
}

// Active reports whether it can be canceled.
func (x *exportView) Active() bool { return store.State(x.State).Active() }

// Held reports whether it waits for a decision.
func (x *exportView) Held() bool { return x.State == string(store.StateHeld) }

// Retryable reports whether the same can be asked for again.
func (x *exportView) Retryable() bool {
	return x.State == string(store.StateFailed) || x.State == string(store.StateCanceled)
}

// Published reports whether readers see it.
func (x *exportView) Published() bool { return x.State == string(store.StatePublished) }

// LinesRead is how many lines the files have.
func (x *exportView) LinesRead() int64 { return x.ExportSummary.Lines }

// Accounted is how many lines the ledger accounts for: of a published export all of them, or it would not be published.
func (x *exportView) Accounted() int64 {
	return x.Inserted + x.Updated + x.Unchanged + x.Superseded + x.QuarantinedLines() + x.Apart
}

// QuarantinedLines are those of the output files, which alone the ledger counts.
func (x *exportView) QuarantinedLines() int64 {
	n := x.Quarantined
	for _, f := range x.Files {
		if f.Kind != store.FileOutput {
			n -= f.Quarantined
		}
	}
	return n
}

// Balances reports whether every line is accounted for.
func (x *exportView) Balances() bool { return x.Accounted() == x.ExportSummary.Lines }

func (x *exportView) errorText() string {
	if x.LastError == nil {
		return "none was given."
	}
	return x.LastError.Code + ": " + printable(x.LastError.Message) + "."
}

func (p *Page) exportPage(v *visit) error {
	id, err := exportID(v.r)
	if err != nil {
		return err
	}
	k, err := p.export(v.r.Context(), id)
	if err != nil {
		return err
	}
	x := k.Value
	c := v.chrome(fmt.Sprintf("Export %d of %s", id, x.Payer), "exports", x)
	c.Down, c.Since = k.Down, k.At
	if x.Active() {
		p.follow(v, c, x.Payer)
	}
	return v.show(http.StatusOK, "export", c)
}

// follow makes a page follow the changes of a payer.
func (p *Page) follow(v *visit, c *chrome, payer string) {
	c.Follows, c.Watch = true, payer
	if k, err := p.overview(v.r.Context()); err == nil {
		c.Sequence = p.board.sequenceOf(k.Value)
	}
}

// exportsBody is a list of exports.
type exportsBody struct {
	Exports []ops.ExportSummary
	Payer   string
	State   string
	States  []store.State
}

// WithPayer says that the exports are of many payers.
func (exportsBody) WithPayer() bool { return true }

func (p *Page) exportsPage(v *visit) error {
	query := v.r.URL.Query()
	body := exportsBody{Payer: query.Get("payer"), State: query.Get("state"), States: []store.State{
		store.StateStarting, store.StatePolling, store.StateLoading, store.StatePublishing, store.StateHeld, store.StatePublished, store.StateFailed,
		store.StateCanceled,
	}}
	if body.State != "" && !slices.Contains(body.States, store.State(body.State)) {
		body.State = ""
	}
	if body.Payer != "" && len(body.Payer) > maxName {
		return errNoPage
	}
	key := "exports?" + body.Payer + "&" + body.State
	k, err := read(v.r.Context(), &p.known, key, func(ctx context.Context) ([]ops.ExportSummary, error) {
		return p.options.Direct.Exports(ctx, ops.ExportFilter{Payer: body.Payer, State: store.State(body.State), Limit: maxExports})
	})
	if err != nil {
		return err
	}
	body.Exports = k.Value
	c := v.chrome("Exports", "exports", body)
	c.Down, c.Since = k.Down, k.At
	return v.show(http.StatusOK, "exports", c)
}

func (p *Page) auditPage(v *visit) error {
	k, err := read(v.r.Context(), &p.known, "audit", func(ctx context.Context) ([]store.AuditEvent, error) {
		return p.options.Direct.Audit(ctx, store.AuditFilter{}, maxExports)
	})
	if err != nil {
		return err
	}
	c := v.chrome("Audit", "audit", k.Value)
	c.Down, c.Since = k.Down, k.At
	return v.show(http.StatusOK, "audit", c)
}
