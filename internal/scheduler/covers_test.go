package scheduler

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

func TestINC4_a_type_that_is_no_longer_granted_is_not_taken_for_ghosts(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, func(c *config.Payer) { c.Load.RemoveGhosts = true })
	p.onFile = func(w http.ResponseWriter) {
		fmt.Fprint(w, patients(2)[0]+patients(2)[1])
	}
	p.members = fmt.Sprintf(`},{"type":"Coverage","url":"%s/file/coverage"`, p.url)
	p.files = map[string]string{"coverage": `{"resourceType":"Coverage","id":"c"}` + "\n"}
	var granted atomic.Pointer[[]string] // nil: the question fails
	p.Covers = func(context.Context) (func(string) bool, error) {
		types := granted.Load()
		if types == nil {
			return nil, errors.New("the token endpoint is down")
		}
		return func(resourceType string) bool { return slices.Contains(*types, resourceType) }, nil
	}
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	want := func(when string, x store.Export, ghosts int64, coverages int) {
		t.Helper()
		if got := number(t, s, `SELECT count(*) FROM fhir.coverage`); got != coverages || x.Ghosts != ghosts {
			t.Errorf("%s: %d ghosts left, and %d Coverages stand; want %d and %d", when, x.Ghosts, got, ghosts, coverages)
		}
	}
	want("all is there", runExport(t, e, s), 0, 1)
	// The payer sends only what it still grants, and one Patient is gone.
	p.members = ""
	p.onFile = onePatient
	want("nobody can be asked what is granted", runExport(t, e, s), 0, 1)
	granted.Store(&[]string{"Patient"})
	want("Coverage is not granted", runExport(t, e, s), 1, 1)
	granted.Store(&[]string{"Patient", "Coverage"})
	want("Coverage is granted, and gone", runExport(t, e, s), 1, 0)
}
