// Command ingestd loads FHIR Bulk Data exports of many payers into Postgres, on a schedule.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
