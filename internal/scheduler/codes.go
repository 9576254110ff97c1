package scheduler

import (
	"slices"
	"strings"
	"sync"

	"ingestd/internal/export"
	"ingestd/internal/outbound"
	"ingestd/internal/smartauth"
	"ingestd/internal/store"
)

// The codes of failures that the engine itself finds; those of our own side stand in knownFailures.
const (
	codeExportTimeout   = "export_timeout"
	codeJobReused       = "job_reused"
	codeDownloadBudget  = "download_budget"
	codeManifestChanged = "manifest_changed"
	codeClientBusy      = "client_busy"
	codeInternal        = "internal"

	// authPrefix stands before the codes of package smartauth.
	authPrefix = "auth_"
	// codeOther stands for a code that is not in the list: an authorization server may make up its own.
	codeOther = "other"
)

// Codes are the codes of all failures that an export, or a job of it, can have, sorted. docs/runbooks.md has a heading for each.
// The codes that an authorization server makes up are not among them.
func Codes() []string { return slices.Clone(codes()) }

var codes = sync.OnceValue(func() []string {
	all := []string{
		codeExportTimeout, codeJobReused, codeDownloadBudget, codeManifestChanged, codeClientBusy, codeInternal, store.HeldCode,
	}
	for _, known := range knownFailures {
		all = append(all, known.code)
	}
	for _, code := range smartauth.Codes() {
		all = append(all, authPrefix+code)
	}
	all = slices.Concat(all, export.Codes(), outbound.Codes())
	slices.Sort(all)
	return slices.Compact(all)
})

// KnownCode is a code as the label of a metric: of a bounded set, whatever a server says.
func KnownCode(code string) string {
	if _, known := slices.BinarySearch(codes(), code); known {
		return code
	}
	if strings.HasPrefix(code, authPrefix) {
		return authPrefix + codeOther
	}
	return codeOther
}
