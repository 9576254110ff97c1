package config

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"
)

// FuzzWindow proves that a window that is accepted lies within a day and holds its beginning.
func FuzzWindow(f *testing.F) {
	for _, seed := range []string{"08:00-18:00", "22:00-06:00", "00:00-24:00", "24:00-00:00", "8-18", "", "23:59-23:58"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := ParseWindow(text)
		if err != nil {
			return
		}
		if w.From < 0 || w.To < 0 || w.From >= 24*time.Hour || w.To >= 24*time.Hour || w.Length() <= 0 || !w.Holds(w.From) || w.Holds(w.To) {
			t.Errorf("%q became %+v", text, w)
		}
	})
}

// FuzzSize proves that a size that is accepted is not negative, and is written as what is read as the same.
func FuzzSize(f *testing.F) {
	for _, seed := range []string{"1", "512KiB", "64MiB", "8EiB", "9223372036854775807", "-1", "1.5GiB", "1e9", "", "KiB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		size, err := parseSize(text)
		if err != nil {
			return
		}
		if size < 0 {
			t.Fatalf("%q became %d", text, size)
		}
		if again, err := parseSize(size.String()); err != nil || again != size {
			t.Errorf("%q became %d, written %s, read again %d, %v", text, size, size, again, err)
		}
	})
}

// FuzzSecret proves that no reference can be made to print what may be a secret, and that one outside the schemes is refused.
func FuzzSecret(f *testing.F) {
	for _, seed := range []string{"env:HOME", "file:/nowhere", "credential:../x", "credential:x", "hunter2", "postgres://u:p@h/d", "postgres://00", "postgres://u:a-long-password@h/d", "file:", "env:A=B", "file:\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := Secret(text)
		_, _, ok := s.Reference()
		value, err := s.Resolve(context.Background())
		if !ok && (err == nil || len(text) > 12 && strings.Contains(err.Error(), text)) {
			t.Errorf("%q: got %q, %v", text, value, err)
		}
		secret := text
		if isPostgresURL(text) { // it may be written out, without its password
			u, err := url.Parse(text)
			if err != nil {
				return
			}
			secret, _ = u.User.Password()
		}
		if !ok && len(secret) > 12 && strings.Contains(s.String(), secret) {
			t.Errorf("%q prints itself: %s", text, s)
		}
	})
}
