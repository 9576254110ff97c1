//go:build race

package scheduler

import "testing"

// simulatedSize is how many payers and days are simulated: with the race detector some, that still hold changes of clocks.
func simulatedSize() (payers, days int) {
	if testing.Short() {
		return 20, 100
	}
	return 60, 120
}
