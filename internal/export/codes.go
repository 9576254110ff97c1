package export

// Codes are the codes that an Error of this package may have, beside those of package outbound.
func Codes() []string {
	return []string{
		CodeKickOffRefused, CodeMethodRefused, CodeNotAvailable, CodeUnanswered, CodeNotAsync, CodeNoStatusURL,
		CodePayerBusy, CodeThrottled, CodePayerTransient, CodePayerError, CodeUnauthorized, CodeForbidden,
		CodeAuthorization, CodeJobGone, CodeJobFailed, CodeExportTooLarge, CodeNotAManifest, CodeManifestTooLarge,
		CodeURLRefused, CodeRedirectRefused, CodeUnexpectedStatus, CodeFileGone, CodeFileExpired, CodeFileRefused,
		CodeFileTruncated, CodeFileStalled, CodeFileCorrupt, CodeFileChecksum, CodeFileNotNDJSON, CodeFileEncoding,
		CodeFileExpansion, CodeFileScheme, CodeFileToken, CodeAttachmentRefused, CodeAttachmentTooLarge,
		CodeAttachmentMismatch, CodeAttachmentUnreadable, CodeCapability, CodeNoCapability, CodePagesEndless,
		CodePagesDisagree,
	}
}
