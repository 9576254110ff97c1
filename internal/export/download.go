package export

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"ingestd/internal/fhir"
)

// acceptLadder is what files are asked for as, in turn, until the payer answers: DPC's file resource knows only
// application/ndjson (FILE-4).
var acceptLadder = []string{"application/fhir+ndjson", "application/ndjson", "*/*"}

const (
	// peekFirst is how much of a file is looked at to tell data from a page of words, peekWhole how much to tell a file of
	// lines from a single resource.
	peekFirst = 512
	peekWhole = 64 << 10
)

// Open requests a file and returns its body once it has begun and looks like NDJSON (Bulk Data 3.0, Output File Request).
// A file without content is fine, and is at its end at once (FILE-12). The token is sent if and only if the file requires
// it (FILE-1); a file that requires it at a host that may not have it is refused (FILE-2).
func (c *Client) Open(ctx context.Context, f File) (*Body, error) {
	u, err := c.fileURL(f)
	if err != nil {
		return nil, err
	}
	response, err := c.requestFile(ctx, u, f.RequiresAccessToken)
	if err != nil {
		return nil, err
	}
	body, err := newBody(ctx, c, response, u, f)
	if err == nil {
		err = body.inspect(response.Header.Get("Content-Type"))
	}
	if err != nil {
		_ = response.Body.Close() // the error that counts is there already
		return nil, classifyRead(ctx, err, response.StatusCode)
	}
	return body, nil
}

// fileURL checks a file's address once more: it may have been stored under another configuration.
func (c *Client) fileURL(f File) (*url.URL, error) {
	refuse := func(code, detail, hint string) error {
		return &Error{Phase: PhaseFile, Code: code, Action: ActionFail, Detail: detail, Hint: hint}
	}
	parsed, err := url.Parse(f.URL)
	if err != nil || !parsed.IsAbs() {
		return nil, refuse(CodeURLRefused, "refused the file's URL: it is no absolute URL", "")
	}
	u, err := c.resolve(parsed, f.URL)
	switch {
	case err != nil:
		return nil, refuse(CodeURLRefused, "refused the file's URL: "+err.Error(), "")
	case f.Protection != "":
		return nil, refuse(CodeFileScheme, "the file needs a scheme that is not supported: "+fhir.Printable(f.Protection, 80),
			"ask the payer for files that need the access token or nothing")
	case f.RequiresAccessToken && !c.mayHaveToken(u):
		return nil, refuse(CodeFileToken, "the file requires the access token, and "+hostPort(u)+" may not have it",
			"if that host belongs to the payer, list it under download_hosts with token: true")
	}
	return u, nil
}

// requestFile climbs the accept ladder until the payer answers with the file.
func (c *Client) requestFile(ctx context.Context, u *url.URL, withToken bool) (*http.Response, error) {
	for rung := c.accept.Load(); ; rung++ {
		response, _, err := c.do(ctx, call{
			phase:  PhaseFile,
			method: http.MethodGet,
			url:    u,
			header: http.Header{"Accept": {acceptLadder[rung]}, "Accept-Encoding": {"gzip"}},
			token:  withToken,
		})
		if err != nil {
			return nil, err
		}
		switch status := response.StatusCode; {
		case status == http.StatusOK, status == http.StatusNoContent:
			c.accept.Store(rung)
			return response, nil
		case refusesAccept(status) && int(rung) < len(acceptLadder)-1:
			drain(response)
		default:
			return nil, c.refused(PhaseFile, response, withToken)
		}
	}
}

func refusesAccept(status int) bool {
	switch status {
	case http.StatusNotAcceptable, http.StatusBadRequest, http.StatusUnsupportedMediaType:
		return true
	}
	return false
}

// inspect looks at the start of the decompressed file: 200 is not yet data (FILE-13). The payer's login page, a gateway's
// error page, a Binary wrapper or a lone OperationOutcome are errors, not lines for the quarantine.
func (b *Body) inspect(contentType string) error {
	start, err := b.firstBytes()
	if len(start) == 0 {
		return err // empty, or broken before it began
	}
	if start[0] != '{' {
		return &Error{
			Phase: PhaseFile, Code: CodeFileNotNDJSON, Status: http.StatusOK, Action: ActionRetry,
			Detail: "the file is no NDJSON but " + describe(contentType, start), Excerpt: excerpt(start),
			Hint: "a login page, a proxy or a firewall may have answered in the payer's place",
		}
	}
	kind := leadingResourceType(start)
	if kind == b.resourceType || b.resourceType == "" || kind != "Binary" && kind != "OperationOutcome" {
		return nil
	}
	whole, err := b.plain.Peek(peekWhole)
	if err == nil || len(bytes.TrimSpace(whole)) == 0 { // longer than a lone resource is
		return nil
	}
	if kind == "OperationOutcome" {
		return b.loneOutcome(whole)
	}
	if bytes.IndexByte(bytes.TrimSpace(whole), '\n') >= 0 || !bytes.Contains(whole, []byte(`"data"`)) {
		return nil
	}
	return &Error{
		Phase: PhaseFile, Code: CodeFileNotNDJSON, Status: http.StatusOK, Action: ActionFail,
		Detail: "the payer wraps the file into a Binary resource",
		Hint:   "the server ignores Accept: application/fhir+ndjson; the payer has to serve files as they are",
	}
}

// loneOutcome refuses a file that is one OperationOutcome and nothing else; a line among others is the caller's to sort
// out (ND-3).
func (b *Body) loneOutcome(whole []byte) error {
	lines := 0
	for line := range bytes.Lines(whole) {
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte(`{"resourceType"`)) {
			lines++
		}
	}
	outcome, ok := fhir.ParseOutcome(whole)
	if !ok || lines > 1 || fhir.SeverityRank(outcome.Worst()) < fhir.SeverityRank("error") {
		return nil
	}
	return &Error{
		Phase: PhaseFile, Code: CodeFileNotNDJSON, Status: http.StatusOK, Action: ActionRetry, Outcome: outcome,
		Detail: "the payer sent an OperationOutcome in the file's place",
	}
}

// firstBytes returns the first bytes of the file behind white space and a byte order mark, without consuming them. They are
// what has arrived, not what may come: a slow file is not waited for.
func (b *Body) firstBytes() ([]byte, error) {
	for want := 1; ; want++ {
		peeked, err := b.plain.Peek(want)
		// Peek is asked for one byte at a time so that it does not wait; all that it has buffered may be looked at.
		if len(peeked) == want {
			peeked, _ = b.plain.Peek(min(b.plain.Buffered(), peekFirst))
		}
		start := bytes.TrimLeft(bytes.TrimPrefix(bytes.TrimLeft(peeked, " \t\r\n"), []byte(byteOrderMark)), " \t\r\n")
		if len(start) > 0 && !strings.HasPrefix(byteOrderMark, string(start)) {
			return start, nil
		}
		if err != nil || want >= peekFirst {
			if errors.Is(err, bufio.ErrBufferFull) {
				err = nil
			}
			return nil, endIsFine(err)
		}
		want = max(want, len(peeked))
	}
}

// classifyRead turns a failure while reading a file into an *Error.
func classifyRead(ctx context.Context, err error, status int) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	e := &Error{Phase: PhaseFile, Code: CodeFileTruncated, Status: status, Action: ActionRetry, Err: err}
	var encoding *encodingError
	switch {
	case errors.Is(err, errStalled):
		e.Code, e.Detail = CodeFileStalled, "the payer sent nothing for too long"
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", PhaseFile, context.Cause(ctx))
	case errors.As(err, &encoding):
		e.Code, e.Action, e.Detail = CodeFileEncoding, ActionFail, "the file came in "+err.Error()
	case errors.Is(err, errExpansion):
		e.Code, e.Action, e.Detail = CodeFileExpansion, ActionFail, "the file expands beyond reason when decompressed"
	case isCorrupt(err):
		e.Code, e.Detail = CodeFileCorrupt, "the file's compression is damaged"
	default:
		e.Detail = "the file broke off before its end"
	}
	return e
}
