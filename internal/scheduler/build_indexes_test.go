package scheduler

import (
	"io"
	"net/http"
	"testing"

	"ingestd/internal/store"
)

func TestPublish_brings_the_indexes_of_the_configuration_and_does_not_fail_by_them(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	p.onFile = func(w http.ResponseWriter) { _, _ = io.WriteString(w, patients(1)[0]) }
	e := newEngine(t, s, Options{Tuning: Tuning{Indexes: []store.Index{
		{Name: "wrong", Columns: "no_such_column"},
		{Name: "right", Types: []string{"Patient"}, Columns: "last_updated"},
	}}}, p)
	work(t, e)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	wait(t, "the index", func() bool {
		return number(t, s, `SELECT count(*) FROM pg_index WHERE indrelid = 'fhir.patient__p'::regclass AND indisvalid
			AND pg_get_indexdef(indexrelid) LIKE '%(last_updated)'`) == 1
	})
	wait(t, "the failure", func() bool {
		return number(t, s, `SELECT count(*) FROM river.river_job WHERE kind = 'build_indexes' AND errors[1]->>'error' LIKE '%index wrong on patient__p%'`) == 1
	})
}
