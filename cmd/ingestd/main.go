// Command ingestd loads FHIR Bulk Data exports of many payers into Postgres, on a schedule.
package main

import (
	"context"
	"os"
	"syscall"
)

func main() {
	withoutCoreDumps()
	logLibrariesTo(os.Stderr)
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// withoutCoreDumps keeps this process and its children, an embedded Postgres among them, from writing their memory to the disk
// when they crash: it holds PHI, tokens and keys. Where the limit cannot be set, the service's unit or the container has to.
func withoutCoreDumps() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_CORE, &limit) == nil {
		limit.Cur = 0
		_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &limit) // see above
	}
}
