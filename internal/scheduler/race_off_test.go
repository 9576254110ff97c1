//go:build !race

package scheduler

import "testing"

// simulatedSize is how many payers and days are simulated.
func simulatedSize() (payers, days int) {
	if testing.Short() {
		return 60, 120
	}
	return 500, 365
}
