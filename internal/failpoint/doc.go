// Package failpoint names the places between which the daemon must be able to die: before and after each commit, and around each
// request to a payer that changes something there. In a binary that is built with the tag failpoint, the process ends itself with
// SIGKILL at the place that the environment variable INGESTD_FAILPOINT names, as NAME or NAME:PASS for a later pass than the first.
// In every other binary a place is an empty function, of which the compiler leaves nothing.
//
// A test of internal/e2e goes through all of them: it lets the daemon die there, starts it again, and compares its tables with the
// payer. A new place is added to the list here and called with Here where it is; the tests do the rest.
package failpoint
