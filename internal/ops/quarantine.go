package ops

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/scheduler"
	"ingestd/internal/store"
)

// QuarantinedLine says where a line stands that could not be loaded, and why. Its JSON form is a public interface.
type QuarantinedLine struct {
	ID           int64  `json:"id"`
	ExportID     int64  `json:"export_id"`
	Payer        string `json:"payer"`
	File         int    `json:"file"`
	Line         int64  `json:"line"`
	ByteOffset   int64  `json:"byte_offset"`
	Reason       string `json:"reason"`
	Detail       string `json:"detail"`
	ResourceType string `json:"resource_type"`
	Bytes        int64  `json:"bytes"`
	CreatedAt    string `json:"created_at"`
	Result       string `json:"result,omitempty"`
}

// QuarantinedRaw is a line with what was kept of it, as the payer sent it: PHI.
type QuarantinedRaw struct {
	QuarantinedLine
	Raw []byte `json:"raw"`
}

func quarantinedLine(q store.QuarantinedLine) QuarantinedLine {
	return QuarantinedLine{
		q.ID, q.ExportID, q.Payer, q.File, q.Line, q.ByteOffset, q.Reason, q.Detail, q.ResourceType, q.RawBytes,
		q.CreatedAt.UTC().Format(time.RFC3339), q.Result,
	}
}

// Quarantine lists the lines that could not be loaded, those of the newest export first. The error is a *scheduler.UnknownPayerError for the
// name of no payer.
func (d Direct) Quarantine(ctx context.Context, f store.QuarantineFilter, limit int) ([]QuarantinedLine, error) {
	lines, err := d.Store.Quarantine(ctx, f, limit)
	if err != nil {
		return nil, err
	}
	if len(lines) == 0 {
		if err := d.knows(ctx, f.Payer); err != nil {
			return nil, err
		}
	}
	list := make([]QuarantinedLine, 0, len(lines))
	for _, q := range lines {
		list = append(list, quarantinedLine(q))
	}
	return list, nil
}

// QuarantinedRaw returns one line with what it holds, and leaves an event that says who read it; store.ErrNoQuarantinedLine where there is none of that number.
func (d Direct) QuarantinedRaw(ctx context.Context, id int64, by store.Actor) (QuarantinedRaw, error) {
	q, raw, err := d.Store.ShowQuarantined(ctx, id, by)
	if err != nil {
		return QuarantinedRaw{}, fmt.Errorf("%d: %w", id, err)
	}
	return QuarantinedRaw{quarantinedLine(q), raw}, nil
}

// RetryQuarantine loads the quarantined lines of a published export again, by what the configuration says of its payer now. Errors are
// those of store.RetryQuarantine, and *scheduler.UnknownPayerError.
func (d Direct) RetryQuarantine(ctx context.Context, id int64, by store.Actor) (store.Retried, error) {
	x, err := d.Store.Export(ctx, id)
	if err != nil {
		return store.Retried{}, ofExport(id, err)
	}
	payers := d.Payers()
	i := slices.IndexFunc(payers, func(p config.Payer) bool { return p.Name == x.Payer })
	if i < 0 {
		return store.Retried{}, ofExport(id, &scheduler.UnknownPayerError{Name: x.Payer})
	}
	options := scheduler.RetryOptions(payers[i], x)
	options.By = by
	retried, err := d.Store.RetryQuarantine(ctx, id, options)
	return retried, ofExport(id, err)
}

// Certificate returns the balanced ledger of an export; store.ErrNoExport where there is none of that number.
func (d Direct) Certificate(ctx context.Context, id int64) (store.Certificate, error) {
	c, err := d.Store.Certificate(ctx, id)
	return c, ofExport(id, err)
}

// RemovePayer removes all that is stored of a payer. It has to have left the configuration, this one and that of all instances;
// without yes nothing is removed.
func (d Direct) RemovePayer(ctx context.Context, payer string, yes bool, by store.Actor) (store.Removed, error) {
	if slices.ContainsFunc(d.Payers(), func(p config.Payer) bool { return p.Name == payer }) {
		return store.Removed{}, configured("payer %s is in the configuration: take it out first, and let the daemons know", payer)
	}
	elsewhere, err := d.Store.IsConfigured(ctx, payer)
	if err != nil {
		return store.Removed{}, err
	}
	if elsewhere {
		return store.Removed{}, configured("payer %s is in the configuration of an instance that runs: take it out there first, and reload it", payer)
	}
	known, err := d.Store.HasPayer(ctx, payer)
	switch {
	case err != nil:
		return store.Removed{}, err
	case !known:
		return store.Removed{}, &Problem{Code: "no_data", Message: fmt.Sprintf("nothing is stored of a payer %q", payer), Status: http.StatusNotFound}
	case !yes:
		return store.Removed{}, &Problem{
			Code: CodeBadRequest, Message: "this would remove all that is stored of payer " + payer, Status: http.StatusBadRequest,
			Hint: `say --yes, or "yes": true in the body, if you mean it`,
		}
	}
	removed, err := d.Store.RemovePayer(ctx, payer, by)
	if err != nil {
		return removed, fmt.Errorf("remove payer %s: %w", payer, err)
	}
	return removed, nil
}

func configured(format string, args ...any) error {
	return &Problem{Code: CodeConfigured, Message: fmt.Sprintf(format, args...), Status: http.StatusConflict}
}

// Quarantine is Direct.Quarantine.
func (c *Client) Quarantine(ctx context.Context, f store.QuarantineFilter, limit int) ([]QuarantinedLine, error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	set(query, "payer", f.Payer)
	set(query, "reason", f.Reason)
	if f.ExportID != 0 {
		query.Set("export", strconv.FormatInt(f.ExportID, 10))
	}
	if f.Loaded {
		query.Set("loaded", "true")
	}
	var lines []QuarantinedLine
	err := c.get(ctx, "quarantine", query, &lines)
	return lines, err
}

// QuarantinedRaw is Direct.QuarantinedRaw.
func (c *Client) QuarantinedRaw(ctx context.Context, id int64, by store.Actor) (QuarantinedRaw, error) {
	var line QuarantinedRaw
	err := c.getBy(ctx, "quarantine/"+strconv.FormatInt(id, 10), nil, by, &line)
	return line, err
}

// RetryQuarantine is Direct.RetryQuarantine.
func (c *Client) RetryQuarantine(ctx context.Context, id int64, by store.Actor) (store.Retried, error) {
	var retried store.Retried
	err := c.patient().post(ctx, exportPath(id)+"/quarantine/retry", nil, by, &retried)
	return retried, err
}

// Certificate is Direct.Certificate.
func (c *Client) Certificate(ctx context.Context, id int64) (store.Certificate, error) {
	var certificate store.Certificate
	err := c.get(ctx, exportPath(id)+"/certificate", nil, &certificate)
	return certificate, err
}

// RemovePayer is Direct.RemovePayer.
func (c *Client) RemovePayer(ctx context.Context, payer string, yes bool, by store.Actor) (store.Removed, error) {
	var removed store.Removed
	err := c.patient().post(ctx, "payers/"+url.PathEscape(payer)+"/remove", removeRequest{Yes: yes}, by, &removed)
	return removed, err
}

// patient is a client that waits for what takes long.
func (c *Client) patient() *Client {
	patient, client := *c, *c.http
	client.Timeout = longTimeout + clientTimeout
	patient.http = &client
	return &patient
}
