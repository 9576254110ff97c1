package scheduler

import (
	"errors"
	"time"

	"ingestd/internal/export"
	"ingestd/internal/exportlog"
	"ingestd/internal/store"
)

// journal writes an event into the log of an export, where its payer is to have one (export.log).
func (e *Engine) journal(x store.Export, eventID string, detail exportlog.Detail) {
	if p, ok := e.roster.asBegun(x); ok && p.Config.Export.Log != "" {
		e.options.ExportLog.Write(p.Config.Export.Log, x.Payer, x.ID, eventID, detail)
	}
}

// journalKickOff tells of the answer to a kick-off; failure is nil where it was accepted.
func (e *Engine) journalKickOff(x store.Export, client *export.Client, failure error) {
	address, asked := client.Describe(requestOf(x))
	detail := exportlog.Detail{
		"exportUrl": address, "requestParameters": asked, "errorCode": nil, "errorBody": nil, "responseHeaders": exportlog.Detail{},
		"softwareName": nil, "softwareVersion": nil, "softwareReleaseDate": nil, "fhirVersion": nil,
	}
	if failure != nil {
		detail["errorCode"], detail["errorBody"] = codeAndText(failure)
	}
	e.journal(x, exportlog.KickOff, detail)
}

// journalStatus tells of a status that was asked for: an error, progress, or the manifest.
func (e *Engine) journalStatus(x store.Export, status export.Status, failure error) {
	switch {
	case failure != nil:
		code, text := codeAndText(failure)
		e.journal(x, exportlog.StatusError, exportlog.Detail{
			"body": nil, "code": code, "message": text, "responseHeaders": exportlog.Detail{},
		})
	case !status.Complete:
		detail := exportlog.Detail{"body": nil, "xProgress": nil, "retryAfter": nil}
		if status.Progress != "" {
			detail["xProgress"] = status.Progress
		}
		if status.RetryAfter > 0 {
			detail["retryAfter"] = int64(status.RetryAfter.Seconds())
		}
		e.journal(x, exportlog.StatusProgress, detail)
	default:
		m := status.Manifest
		e.journal(x, exportlog.StatusComplete, exportlog.Detail{"transactionTime": m.TransactionTime})
		e.journal(x, exportlog.ManifestComplete, exportlog.Detail{
			"transactionTime": m.TransactionTime, "totalOutputFileCount": len(m.Output), "totalDeletedFileCount": len(m.Deleted),
			"totalErrorFileCount": len(m.Errors), "totalManifests": m.Pages,
		})
	}
}

// journalRequest tells that a file is asked for.
func (e *Engine) journalRequest(x store.Export, f store.File) {
	e.journal(x, exportlog.DownloadRequest, exportlog.Detail{
		"fileUrl": exportlog.Address(f.URL), "itemType": string(f.Kind), "resourceType": f.ResourceType,
	})
}

// journalDownload tells what became of a file.
func (e *Engine) journalDownload(x store.Export, f, loaded store.File, failure error) {
	if failure != nil {
		code, text := codeAndText(failure)
		e.journal(x, exportlog.DownloadError, exportlog.Detail{
			"fileUrl": exportlog.Address(f.URL), "body": nil, "code": code, "message": text, "responseHeaders": exportlog.Detail{},
		})
		return
	}
	e.journal(x, exportlog.DownloadComplete, exportlog.Detail{
		"fileUrl": exportlog.Address(f.URL), "resourceCount": loaded.Lines, "fileSize": loaded.Bytes,
	})
}

// journalEnd tells that all is published.
func (e *Engine) journalEnd(x store.Export, files int) {
	e.journal(x, exportlog.ExportComplete, exportlog.Detail{
		"files": files, "resources": x.Lines, "bytes": x.Bytes, "attachments": 0,
		"duration": time.Since(x.CreatedAt).Milliseconds(),
	})
}

// codeAndText are the HTTP status of a failure, nil where there was none, and its text without the payer's words.
func codeAndText(failure error) (code any, text string) {
	_, text = describe(failure)
	if protocol, ok := errors.AsType[*export.Error](failure); ok && protocol.Status != 0 {
		return protocol.Status, text
	}
	return nil, text
}
