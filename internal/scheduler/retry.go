package scheduler

import (
	"ingestd/internal/config"
	"ingestd/internal/store"
)

// RetryOptions are those by which quarantined lines of an export are loaded again: what the payer's configuration says now.
func RetryOptions(p config.Payer, x store.Export) store.RetryOptions {
	return store.RetryOptions{RepairText: p.Load.RepairText, History: p.Load.History, Newcomers: newcomers(p, x)}
}
