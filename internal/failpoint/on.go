//go:build failpoint

package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// chosen is the place to die at, and how many passes of it are left until then.
var chosen = sync.OnceValue(func() *choice {
	name, pass, _ := strings.Cut(os.Getenv(Variable), ":")
	n, err := strconv.Atoi(pass)
	if err != nil {
		n = 1
	}
	c := &choice{point: Point(name)}
	c.left.Store(int64(n))
	return c
})

type choice struct {
	point Point
	left  atomic.Int64
}

// Here ends the process, as kill -9 does, where p is the place that was named and this is the pass.
func Here(p Point) {
	c := chosen()
	if p != c.point || c.left.Add(-1) != 0 {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // nothing is done between the signal and the end
}
