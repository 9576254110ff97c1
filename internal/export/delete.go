package export

import (
	"context"
	"net/http"
)

// Delete tells the payer that an export is no longer needed: it cancels one that runs, and frees the files of one that is
// complete (Bulk Data 3.0, Delete Request). statusURL is the kick-off's, never a page's. A payer that does not know the
// export, or cannot delete, is as good as one that did (CLN-1). It is best effort: a failure is worth another try and a
// note, and never fails an export.
func (c *Client) Delete(ctx context.Context, statusURL string) error {
	u, err := c.ownStatusURL(statusURL)
	if err != nil {
		return &Error{
			Phase: PhaseDelete, Code: CodeURLRefused, Action: ActionFail,
			Detail: "refused the status URL: " + err.Error(), Err: err,
		}
	}
	response, _, err := c.do(ctx, call{
		phase:  PhaseDelete,
		method: http.MethodDelete,
		url:    u,
		header: http.Header{"Accept": {"application/json"}},
		token:  true, idempotent: true,
	})
	if err != nil {
		return err
	}
	switch status := response.StatusCode; {
	case status >= 200 && status <= 299:
	case status == http.StatusNotFound, status == http.StatusGone, status == http.StatusMethodNotAllowed,
		status == http.StatusNotImplemented, status == http.StatusBadRequest:
	default:
		return c.refused(PhaseDelete, response, true)
	}
	drain(response)
	return nil
}
