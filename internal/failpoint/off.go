//go:build !failpoint

package failpoint

// Here does nothing in this binary.
func Here(Point) {}
