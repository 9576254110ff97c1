package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// handPassword hands psql the password as a password file of libpq in memory, for whatever it connects to: what
// stands in arguments can be seen by every user of the machine, what stands in the environment is inherited by every
// program that psql starts and kept in its core dump, and a file on the disk outlives a process that is killed.
func handPassword(child *exec.Cmd, password string) (forget func(), err error) {
	fd, err := unix.MemfdCreate("password", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("hand the password to psql: %w", err)
	}
	file := os.NewFile(uintptr(fd), "password")
	line := "*:*:*:*:" + strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(password) + "\n"
	if _, err = file.WriteString(line); err == nil {
		err = file.Chmod(0o600) // libpq takes no file that others could read
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("hand the password to psql: %w", err)
	}
	child.ExtraFiles = []*os.File{file}
	child.Env = append(child.Env, "PGPASSFILE=/proc/self/fd/3") // the first behind stderr
	return func() { _ = file.Close() }, nil
}
