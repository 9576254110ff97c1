//go:build faults

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// memoryGroup makes a control group of the kernel with a hard limit of memory, under which what is started by the command that it
// returns is killed rather than given more. It returns false where this system lets nobody make one.
func memoryGroup(t *testing.T, mebibytes int64) (wrap func(command ...string) []string, ok bool) {
	t.Helper()
	for _, version := range []struct{ root, limit, swap string }{
		{"/sys/fs/cgroup", "memory.max", "memory.swap.max"},
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", ""},
	} {
		group := filepath.Join(version.root, fmt.Sprintf("ingestd-test-%d", os.Getpid()))
		if err := os.Mkdir(group, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() { // once its processes have ended
			for deadline := time.Now().Add(patience); os.Remove(group) != nil; time.Sleep(50 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Errorf("%s is left", group)
					return
				}
			}
		})
		limit, err := os.OpenFile(filepath.Join(group, version.limit), os.O_WRONLY, 0) // the kernel makes it, where it has the controller
		if err != nil {
			continue
		}
		_, err = limit.WriteString(decimal(mebibytes << 20))
		if closeErr := limit.Close(); err != nil || closeErr != nil {
			continue
		}
		if version.swap != "" {
			if swap, err := os.OpenFile(filepath.Join(group, version.swap), os.O_WRONLY, 0); err == nil { // there may be none
				_, _ = swap.WriteString("0")
				_ = swap.Close()
			}
		}
		return func(command ...string) []string {
			return append([]string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(group, "cgroup.procs")}, command...)
		}, true
	}
	return nil, false
}
