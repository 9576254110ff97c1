package embedded

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// maxSocketPath is how many bytes a socket's path may have: sun_path holds 104 on macOS and the BSDs, 108 on Linux.
const maxSocketPath = 103

// makeDir makes the directory, or checks that the one that exists is ours, and gives it to the user that the server runs
// as.
func (s *Server) makeDir() error {
	entries, err := os.ReadDir(s.dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := s.makeNewDir(); err != nil {
			return fmt.Errorf("make the directory of the embedded Postgres: %w", err)
		}
	case err != nil:
		return fmt.Errorf("embedded:%s: %w", s.dir, err)
	default:
		if err := s.recognize(entries); err != nil {
			return err
		}
	}
	if err := s.owner.reaches(s.dir); err != nil {
		return err
	}
	return s.owner.take(s.dir)
}

// makeNewDir makes the directory, private, and the missing ones above it, which the server's user must be able to pass
// whatever the umask is.
func (s *Server) makeNewDir() error {
	var missing []string
	for parent := filepath.Dir(s.dir); ; parent = filepath.Dir(parent) {
		if _, err := os.Stat(parent); !errors.Is(err, os.ErrNotExist) || parent == filepath.Dir(parent) {
			break
		}
		missing = append(missing, parent)
	}
	for _, parent := range slices.Backward(missing) {
		if err := os.Mkdir(parent, 0o755); err != nil && !errors.Is(err, os.ErrExist) { //nolint:gosec // passed by another user
			return fmt.Errorf("embedded:%s: %w", s.dir, err)
		}
		if err := os.Chmod(parent, 0o755); err != nil { //nolint:gosec // passed by another user
			return fmt.Errorf("embedded:%s: %w", s.dir, err)
		}
	}
	if err := os.Mkdir(s.dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("embedded:%s: %w", s.dir, err)
	}
	return nil
}

// recognize refuses a directory that holds something else: its owner is about to be changed.
func (s *Server) recognize(entries []os.DirEntry) error {
	foreign := ""
	for _, entry := range entries {
		switch entry.Name() {
		case "data", "data.new", startLock:
			return nil
		case "PG_VERSION":
			return fmt.Errorf("embedded:%s: this is a Postgres data directory itself: name an empty directory, or connect to the "+
				"server that it belongs to by postgres://…", s.dir)
		case "lost+found": // of a file system of its own
		default:
			foreign = entry.Name()
		}
	}
	if foreign != "" {
		return fmt.Errorf("embedded:%s: the directory holds something else (%s): name an empty one, or one that does not exist",
			s.dir, foreign)
	}
	return nil
}

// makeSocketDir picks the directory of the socket: the cluster's own, or one of the temporary ones where the path is too
// long for a socket.
func (s *Server) makeSocketDir() error {
	s.socket = s.dir
	if len(socketPath(s.dir)) <= maxSocketPath {
		return nil
	}
	s.socket = s.longSocketDir()
	err := os.Mkdir(s.socket, 0o700)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the directory of the socket: %w", err)
	}
	// Its name can be foretold and its place is open to all: it must be ours, and nobody's trap.
	info, err := os.Lstat(s.socket)
	if err != nil {
		return fmt.Errorf("make the directory of the socket: %w", err)
	}
	if by := ownerOf(info); !info.IsDir() || info.Mode().Perm() != 0o700 || by != uint32(os.Geteuid()) && by != s.owner.uid {
		return fmt.Errorf("%s, where the socket belongs, is not a private directory of ours: remove it, or choose a shorter "+
			"path than %s", s.socket, s.dir)
	}
	return s.owner.take(s.socket)
}

// longSocketDir is the place of the socket of a cluster with a long path.
func (s *Server) longSocketDir() string {
	sum := sha256.Sum256([]byte(s.dir))
	name := "ingestd-" + hex.EncodeToString(sum[:8])
	if dir := filepath.Join(os.TempDir(), name); len(socketPath(dir)) <= maxSocketPath {
		return dir
	}
	return filepath.Join("/tmp", name)
}

func socketPath(dir string) string { return filepath.Join(dir, ".s.PGSQL."+port) }

// ownerOf returns the uid of a file's owner.
func ownerOf(info os.FileInfo) uint32 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Uid
	}
	return uint32(os.Geteuid())
}
