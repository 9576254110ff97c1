package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestPlan_is_that_of_its_seed_and_knows_every_kind(t *testing.T) {
	t.Parallel()
	plan := newPlan(7, 3*time.Minute, 3, 12)
	if !reflect.DeepEqual(plan, newPlan(7, 3*time.Minute, 3, 12)) {
		t.Error("one seed gave two plans")
	}
	if reflect.DeepEqual(plan, newPlan(8, 3*time.Minute, 3, 12)) {
		t.Error("two seeds gave one plan")
	}
	seen := make(map[kind]bool)
	for i, e := range plan {
		seen[e.kind] = true
		if i > 0 && e.at < plan[i-1].at {
			t.Errorf("%s comes after %s", e, plan[i-1])
		}
	}
	for _, w := range weights {
		if !seen[w.kind] {
			t.Errorf("three minutes know no %s", w.kind)
		}
	}
}

func TestWitness_finds_what_it_saw_elsewhere(t *testing.T) {
	t.Parallel()
	w := newWitness()
	const assertion = "eyJhbGciOiJFUzM4NCJ9.eyJpc3MiOiJwMDAiLCJqdGkiOiIxIn0.c2ln"
	w.sawAssertion(assertion)
	if w.reused() != 0 {
		t.Error("a jti that was sent once is told of")
	}
	w.sawAssertion(assertion)
	if w.reused() != 1 {
		t.Error("a jti that was sent twice is not told of")
	}
	w.sawTokenResponse([]byte(`{"access_token":"abcdef0123456789"}`))
	w.sawKey([]byte("-----BEGIN PRIVATE KEY-----\n" + strings.Repeat("k", 64) + "\n-----END PRIVATE KEY-----\n"))
	for _, test := range []struct{ text, want string }{
		{"all is well", ""},
		{"Bearer abcdef0123456789", "1 access tokens"},
		{"sent " + assertion, "1 client assertions"},
		{"key " + strings.Repeat("k", 64), "1 lines of private keys"},
		{"called (555) 123-4567", "1 patients' ids and numbers"},
	} {
		if got := strings.Join(w.leaks([]byte(test.text), []string{"(555) 123-4567"}), ", "); got != test.want {
			t.Errorf("%q: got %q, want %q", test.text, got, test.want)
		}
	}
}

func TestRun_ends_with_everything_equal_and_finds_what_is_not(t *testing.T) {
	t.Parallel()
	o := testWorld(t)
	o.Duration, o.Seed = 5*time.Second, 3
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var untouched Verdict
	v, err := run(ctx, o, func(ctx context.Context, w *world) error {
		last, err := lastExports(ctx, w)
		if err != nil {
			return err
		}
		if untouched, err = w.judge(ctx, last); err != nil {
			return err
		}
		w.keep("somebody", []byte("token "+anyOf(w.witness.tokens)+"\n"))
		w.witness.sawAbroad()
		for _, sql := range []string{
			`DELETE FROM fhir.patient WHERE (payer, id) = (SELECT payer, id FROM fhir.patient ORDER BY payer, id LIMIT 1)`,
			`UPDATE ingest.export SET inserted = inserted + 1 WHERE id = (SELECT max(id) FROM ingest.export WHERE state = 'published')`,
			`CREATE TABLE ingest_stage.left_behind ()`,
		} {
			if err := w.query(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(untouched.Wrong) > 0 || untouched.Rows == 0 || untouched.Ledgers == 0 || untouched.Tokens == 0 || untouched.Searched == 0 {
		t.Errorf("before anything was altered: %+v", untouched)
	}
	wrong := strings.Join(v.Wrong, "\n")
	for _, want := range []string{
		"rows, the payer holds", "does not balance", "staging tables", "were sent to an origin", "what somebody printed holds 1 access tokens",
	} {
		if !strings.Contains(wrong, want) {
			t.Errorf("it does not say %q:\n%s", want, wrong)
		}
	}
}

// testWorld is a small world, in a directory of its own.
func testWorld(t *testing.T) Options {
	t.Helper()
	// Postgres may run as another user, who cannot pass t.TempDir.
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "ingestd")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "ingestd/cmd/ingestd").CombinedOutput(); err != nil {
		t.Fatalf("build ingestd: %v\n%s", err, out)
	}
	return Options{Ingestd: binary, Dir: dir, Instances: 2, Payers: 2, Interval: 3 * time.Second, Out: t.Output()}
}

// lastExports are the newest exports of the payers.
func lastExports(ctx context.Context, w *world) (map[string]int64, error) {
	db, err := pgx.Connect(ctx, w.database.direct)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = db.Close(context.WithoutCancel(ctx)) }()
	last := make(map[string]int64)
	for _, p := range w.payers {
		var id int64
		if err := db.QueryRow(ctx, `SELECT max(id) FROM ingest.export WHERE payer = $1`, p.name).Scan(&id); err != nil {
			return nil, fmt.Errorf("read the last export: %w", err)
		}
		last[p.name] = id
	}
	return last, nil
}

func anyOf(set map[string]struct{}) string {
	for text := range set {
		return text
	}
	return "none"
}
