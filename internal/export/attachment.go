package export

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // what FHIR's Attachment.hash is; it guards against mistakes, not against attackers
	"encoding/base64"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// Attachment is content that a resource refers to by URL (FHIR R4, Attachment).
type Attachment struct {
	// URL is absolute, or relative to the FHIR base (Binary/x).
	URL string
	// ContentType is what the resource says that it is; empty where it does not.
	ContentType string
	// Size and Hash are those of the resource: bytes, and SHA-1 in base64. Size is -1 where it does not say.
	Size int64
	Hash string
	// RequiresAccessToken is what the manifest says of the file that held the resource.
	RequiresAccessToken bool
}

// AttachmentContent is what was fetched.
type AttachmentContent struct {
	Data        []byte
	ContentType string
}

// FetchAttachment requests the content of an attachment, of at most limit bytes, and checks it against its size and hash
// (Bulk Data 3.0, Attachments; protocol.md ATT-2, ATT-3). The token is sent where the manifest requires it and the host
// may have it; it never goes elsewhere, but the request does: signed URLs need none. An *Error with ActionRetry or
// ActionWait may pass; any other is for good.
func (c *Client) FetchAttachment(ctx context.Context, a Attachment, limit int64) (AttachmentContent, error) {
	fail := func(code, detail string) error {
		return &Error{Phase: PhaseAttachment, Code: code, Action: ActionFail, Detail: detail}
	}
	base := *c.base
	base.Path += "/"
	u, err := c.resolve(&base, a.URL)
	if err != nil {
		return AttachmentContent{}, fail(CodeURLRefused, "refused the attachment's URL: "+err.Error())
	}
	if a.Size > limit {
		return AttachmentContent{}, fail(CodeAttachmentTooLarge, "the attachment is larger than limits.attachment_bytes, by what the resource says")
	}
	response, err := c.requestAttachment(ctx, u, a)
	if err != nil {
		return AttachmentContent{}, err
	}
	defer drain(response)
	// A Binary in JSON is a third larger, and some white space and metadata.
	data, err := readBounded(response, limit+limit/2+4096)
	switch {
	case errors.Is(err, errTooLarge):
		return AttachmentContent{}, fail(CodeAttachmentTooLarge, "the attachment is larger than limits.attachment_bytes")
	case err != nil:
		return AttachmentContent{}, c.attachmentCut(ctx, err)
	case response.ContentLength >= 0 && response.Header.Get("Content-Encoding") == "" && int64(len(data)) != response.ContentLength:
		return AttachmentContent{}, c.attachmentCut(ctx, errors.New("fewer bytes came than announced"))
	}
	content := AttachmentContent{Data: data, ContentType: response.Header.Get("Content-Type")}
	if err := content.unwrap(a.ContentType); err != nil {
		return AttachmentContent{}, fail(CodeAttachmentUnreadable, err.Error())
	}
	sum := sha1.Sum(content.Data) //nolint:gosec // see above
	switch {
	case int64(len(content.Data)) > limit:
		return AttachmentContent{}, fail(CodeAttachmentTooLarge, "the attachment is larger than limits.attachment_bytes")
	case a.Size >= 0 && int64(len(content.Data)) != a.Size:
		return AttachmentContent{}, fail(CodeAttachmentMismatch, "the attachment has another size than the resource says")
	case a.Hash != "" && a.Hash != base64.StdEncoding.EncodeToString(sum[:]):
		return AttachmentContent{}, fail(CodeAttachmentMismatch, "the attachment has another hash than the resource says")
	}
	return content, nil
}

// requestAttachment asks for the content as it is: a FHIR server gives a Binary as JSON to those who accept FHIR's types.
func (c *Client) requestAttachment(ctx context.Context, u *url.URL, a Attachment) (*http.Response, error) {
	accept := "*/*"
	if mediaType, _, err := mime.ParseMediaType(a.ContentType); err == nil {
		accept = mediaType + ", */*;q=0.5"
	}
	response, _, err := c.do(ctx, call{
		phase: PhaseAttachment, method: http.MethodGet, url: u, idempotent: true,
		header: http.Header{"Accept": {accept}, "Accept-Encoding": {"gzip"}},
		token:  a.RequiresAccessToken,
	})
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, c.refused(PhaseAttachment, response, a.RequiresAccessToken)
	}
	return response, nil
}

func (c *Client) attachmentCut(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) //nolint:wrapcheck // the end of ctx is not a failure of the payer
	}
	return &Error{
		Phase: PhaseAttachment, Code: CodeAttachmentUnreadable, Action: ActionRetry, Err: err,
		Detail: "the attachment broke off before its end",
	}
}

// unwrap takes the content out of a FHIR Binary in JSON, unless the attachment is FHIR itself.
func (a *AttachmentContent) unwrap(wanted string) error {
	got, _, _ := mime.ParseMediaType(a.ContentType) // what cannot be parsed is no JSON
	if got != "application/fhir+json" && got != "application/json" {
		return nil
	}
	if want, _, _ := mime.ParseMediaType(wanted); want == got || leadingResourceType(bytes.TrimSpace(a.Data)) != "Binary" {
		return nil
	}
	var binary struct {
		ContentType string `json:"contentType"`
		Data        string `json:"data"`
	}
	if err := json.Unmarshal(a.Data, &binary); err != nil {
		return errors.New("the payer sent a Binary that is no JSON")
	}
	data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(binary.Data), ""))
	if err != nil {
		return errors.New("the payer sent a Binary whose data is no base64")
	}
	a.Data, a.ContentType = data, binary.ContentType
	return nil
}
