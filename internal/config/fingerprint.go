package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Fingerprint tells whether the files of the configuration have changed since it was last asked for: those that were read,
// those that its patterns match now, and those of payers' certificates. It is of their content, so that it does not matter how a file was exchanged: in
// place, by a new one of its name, or by another target of a link above it, as Kubernetes does. A file that cannot be read
// has a fingerprint too.
func (c *Config) Fingerprint() string {
	main := c.Files[0]
	names := []string{main}
	for _, pattern := range c.Include {
		matches, err := filepath.Glob(inDir(filepath.Dir(main), pattern))
		if err != nil {
			continue // the patterns were checked
		}
		slices.Sort(matches)
		names = append(names, matches...)
	}
	return fingerprint(append(names, c.tlsFiles()...))
}

// tlsFiles are the files that secure the connections to payers.
func (c *Config) tlsFiles() []string {
	var names []string
	for _, p := range c.Payers {
		names = append(names, p.TLS.files()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (t TLS) files() []string {
	return slices.DeleteFunc([]string{t.CAFile, t.ClientCertificate, t.ClientKey}, func(name string) bool { return name == "" })
}

// Fingerprint tells whether what lies in the files has changed, whose names may have stayed.
func (t TLS) Fingerprint() string { return fingerprint(t.files()) }

func fingerprint(names []string) string {
	hash := sha256.New()
	for _, name := range names {
		fmt.Fprintf(hash, "%q %s\n", name, contentOf(name))
	}
	return hex.EncodeToString(hash.Sum(nil))
}

func contentOf(name string) string {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() { // a pipe gives its content once
		return "not there"
	}
	file, err := os.Open(name)
	if err != nil {
		return "not readable"
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, io.LimitReader(file, maxFileBytes+1)); err != nil {
		return "not readable"
	}
	return hex.EncodeToString(hash.Sum(nil))
}
