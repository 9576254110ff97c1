package smartauth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// ReadKeyFile reads a private key's file for ParseKey. A file that its group or others can read is refused, with what to do
// about it: a key that was readable is to be replaced, not only hidden.
func ReadKeyFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the private key: %w", err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat() // of what was opened, not of what stands at the path by now
	if err != nil {
		return nil, fmt.Errorf("look at the private key: %w", err)
	}
	if err := checkKeyFile(path, info); err != nil {
		return nil, err
	}
	data, err := readBounded(file, maxKeyBytes)
	if errors.Is(err, errTooLong) {
		return nil, fmt.Errorf("%s is longer than %d bytes: it is no private key", path, maxKeyBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("read the private key %s: %w", path, err)
	}
	return data, nil
}

func checkKeyFile(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file: a private key is expected", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("private key %s has mode %04o, which lets others than its owner use it: run 'chmod 0600 %s', and rotate the"+
			" key if others could have read it", path, mode, path)
	}
	return nil
}

// WriteKeyFile writes a private key to a new file that only its owner can read. A file that exists is an error that matches
// fs.ErrExist: payers may trust the key in it.
func WriteKeyFile(path string, key *Key) (err error) {
	data, err := key.MarshalPEM()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create the private key: %w", err)
	}
	defer func() {
		if closeErr := file.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("close the private key: %w", closeErr)
		}
		if err != nil {
			_ = os.Remove(path) // half a key helps nobody
		}
	}()
	if _, err := file.Write(data); err != nil {
		return fmt.Errorf("write the private key: %w", err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("write the private key: %w", err)
	}
	return nil
}
