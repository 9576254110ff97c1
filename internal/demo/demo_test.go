package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"ingestd/internal/store"
)

// buffer is written by the demo while a hook of the test reads.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// testDir is a directory that the server's user can reach, which t.TempDir is not for root.
func testDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "demo-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRun_shows_two_verified_rounds_and_what_to_try_next(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var out buffer
	dir := testDir(t)
	if err := Run(ctx, Options{Dir: dir, Out: &out, Patients: 12, Interval: 10 * time.Second}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	text := out.String()
	for _, want := range []string{"round 1", "round 2", "summit", "harbor", "meadow", "nothing lost"} {
		if !strings.Contains(text, want) {
			t.Errorf("the demo does not say %q:\n%s", want, text)
		}
	}
	if config := dir + "/ingestd.yaml"; !strings.Contains(text, "psql   --config "+config) || !strings.Contains(text, "status --config "+config) {
		t.Errorf("the demo does not say how to look at %s:\n%s", config, text)
	}
}

func TestRun_fails_where_a_row_was_tampered_with(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var out buffer
	tampered := false
	d := Options{Dir: testDir(t), Out: &out, Patients: 12, Interval: 10 * time.Second}
	err := run(ctx, d, func(ctx context.Context, s *store.Store, x store.Export) error {
		if x.Payer != "harbor" {
			return nil
		}
		tag, err := s.Pool().Exec(ctx, `UPDATE fhir.patient SET resource = jsonb_set(resource, '{gender}', '"tampered"')
			WHERE (payer, id) = (SELECT payer, id FROM fhir.patient WHERE payer = 'harbor' LIMIT 1)`)
		tampered = err == nil && tag.RowsAffected() == 1
		return err
	})
	var differs *DifferenceError
	if !tampered || !errors.As(err, &differs) || len(differs.Differences) != 1 || !strings.HasPrefix(differs.Differences[0], "Patient/") {
		t.Errorf("tampered %v: got %v, want the patient named\n%s", tampered, err, &out)
	}
}
