// Package reliability reads the table of faults in docs/reliability.md, runs the tests that it names, and says row by row what came of
// them. A row is proven when each of its tests ran, and none of them failed or was skipped.
package reliability
