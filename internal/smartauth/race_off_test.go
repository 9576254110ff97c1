//go:build !race

package smartauth

// raceEnabled shortens tests of long virtual times, which the race detector makes ten times slower.
const raceEnabled = false
