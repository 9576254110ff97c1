//go:build !linux

package main

import "os/exec"

// handPassword hands psql the password by its environment, which only the same user can read.
func handPassword(child *exec.Cmd, password string) (forget func(), err error) {
	child.Env = append(child.Env, "PGPASSWORD="+password)
	return func() {}, nil
}
