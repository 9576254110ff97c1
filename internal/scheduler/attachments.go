package scheduler

import (
	"context"
	"errors"

	"ingestd/internal/export"
	"ingestd/internal/store"
)

// attachments says what becomes of content that the payer's resources refer to by URL; nil where nothing is fetched.
func attachments(p Payer) *store.AttachmentOptions {
	c := p.Config
	if !c.Export.FetchesAttachments() {
		return nil
	}
	return &store.AttachmentOptions{
		Inline: c.Export.Attachments == "inline", Types: c.Export.AttachmentTypes, Parallel: c.Limits.Downloads,
		Fetch: func(ctx context.Context, a store.Attachment) (store.AttachmentContent, error) {
			content, err := p.Client.FetchAttachment(ctx, export.Attachment{
				URL: a.URL, ContentType: a.ContentType, Size: a.Size, Hash: a.Hash, RequiresAccessToken: a.RequiresToken,
			}, int64(c.Limits.AttachmentBytes))
			return store.AttachmentContent(content), err
		},
		IsRefused: func(err error) bool {
			// A payer that does not let us in at all is no fault of the attachment's.
			protocol, ok := errors.AsType[*export.Error](err)
			return ok && protocol.Action == export.ActionFail && protocol.Code != export.CodeAuthorization
		},
		IsWait: func(err error) bool { return actionOf(err) == export.ActionWait },
	}
}

// warnOfAttachments tells how many attachments an export was published without.
func (e *Engine) warnOfAttachments(ctx context.Context, x store.Export) {
	a, err := e.store.Attachments(ctx, x.ID)
	log := e.logger.With("payer", x.Payer, "export_id", x.ID, "fetched", a.Fetched, "bytes", a.Bytes)
	switch {
	case err != nil: // the export is published; this was a count for a log
	case a.Failed > 0:
		log.WarnContext(ctx, "attachments could not be fetched: ingest.attachment says why", "failed", a.Failed)
	case a.Fetched > 0:
		log.InfoContext(ctx, "attachments published")
	}
}
