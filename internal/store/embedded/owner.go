package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// owner is the user that the server runs as: the one that runs this process, unless that is root.
type owner struct {
	root     bool
	name     string
	uid, gid uint32
}

// findOwner picks the user: as root, the one that the cluster's data belong to, else that of the distribution's own
// Postgres, or else nobody. Whoever is not root must own the data.
func findOwner(data string) (owner, error) {
	self := os.Geteuid()
	info, err := os.Stat(data)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return owner{}, fmt.Errorf("look at the cluster: %w", err)
	case self == 0 && ownerOf(info) != 0:
		stat, _ := info.Sys().(*syscall.Stat_t)
		return owner{root: true, name: nameOf(stat.Uid), uid: stat.Uid, gid: stat.Gid}, nil
	case self != 0 && ownerOf(info) != uint32(self):
		return owner{}, fmt.Errorf("the cluster belongs to user %s: run ingestd as that user", nameOf(ownerOf(info)))
	}
	if self != 0 {
		return owner{name: nameOf(uint32(self)), uid: uint32(self), gid: uint32(os.Getegid())}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
		if uidErr == nil && gidErr == nil && uid != 0 {
			return owner{root: true, name: name, uid: uint32(uid), gid: uint32(gid)}, nil
		}
	}
	return owner{}, errors.New("the embedded Postgres cannot run as root, and there is no user postgres or nobody to run it as")
}

// nameOf is a user's name, or the number of one that has none.
func nameOf(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	if account, err := user.LookupId(number); err == nil {
		return account.Username
	}
	return number
}

// command is a program of Postgres, to be run as the owner, in a session of its own: a Ctrl-C is for ingestd, not for the
// server, which ingestd stops itself.
func (o owner) command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = "/"
	cmd.WaitDelay = 5 * time.Second                                // for its output, should a child hold it
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"} // nothing of ours: the environment may hold secrets
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if o.root {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: o.uid, Gid: o.gid}
	}
	return cmd
}

// take gives a file or directory to the owner.
func (o owner) take(path string) error {
	if !o.root {
		return nil
	}
	if err := os.Chown(path, int(o.uid), int(o.gid)); err != nil {
		return fmt.Errorf("give %s to user %s: %w", path, o.name, err)
	}
	return nil
}

// takeFile is take for an open file, which cannot turn into another one meanwhile.
func (o owner) takeFile(f *os.File) error {
	if !o.root {
		return nil
	}
	if err := f.Chown(int(o.uid), int(o.gid)); err != nil {
		return fmt.Errorf("give %s to user %s: %w", f.Name(), o.name, err)
	}
	return nil
}

// reaches reports, by name, the first directory above dir that the owner cannot pass through.
func (o owner) reaches(dir string) error {
	if !o.root {
		return nil
	}
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		if err != nil {
			return fmt.Errorf("embedded:%s: %w", dir, err)
		}
		if !o.passes(info) {
			return fmt.Errorf("embedded:%s: user %s, which Postgres runs as, cannot pass through %s: "+
				"choose another directory, or permit it with 'chmod o+x %s'", dir, o.name, parent, parent)
		}
		if parent == filepath.Dir(parent) {
			return nil
		}
	}
}

func (o owner) passes(info fs.FileInfo) bool {
	const ownerExec, groupExec, otherExec = 0o100, 0o010, 0o001
	mode := info.Mode().Perm()
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case ok && stat.Uid == o.uid:
		return mode&ownerExec != 0
	case ok && stat.Gid == o.gid:
		return mode&groupExec != 0
	default:
		return mode&otherExec != 0
	}
}
