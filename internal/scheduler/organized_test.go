package scheduler

import (
	"fmt"
	"net/http"
	"testing"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

func TestMAN12_blocks_of_organized_output_are_loaded_by_type_without_their_headers(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, func(c *config.Payer) { c.Load.RemoveGhosts = true })
	p.onFile = func(w http.ResponseWriter) {
		fmt.Fprintln(w, `{"resourceType":"Patient","id":"gone"}`)
		onePatient(w)
	}
	e := newEngine(t, s, Options{}, p)
	stop := work(t, e)
	publish := func() store.Export {
		t.Helper()
		id, err := e.Start(t.Context(), "p", RunOptions{Full: true})
		if err != nil {
			t.Fatal(err)
		}
		wait(t, "the end of the export", func() bool { return !state(t, s, id).Active() })
		x, err := s.Export(t.Context(), id)
		if err != nil || x.State != store.StatePublished {
			t.Fatalf("got %s: %s (%v)", x.State, x.Error, err)
		}
		return x
	}
	publish()
	p.top = `,"outputOrganizedBy":"Patient"`
	p.members = `,"count":3,"continuesInFile":"` + p.url + `/file"` // what a count includes is open
	p.onFile = func(w http.ResponseWriter) {
		for _, id := range []string{"p0", "p1"} {
			fmt.Fprintf(w, `{"resourceType":"Parameters","parameter":[{"name":"header","part":[{"name":"reference",`+
				`"valueReference":{"reference":"Patient/%s"}}]}]}`+"\n", id)
			fmt.Fprintf(w, `{"resourceType":"Patient","id":%q}`+"\n", id)
			fmt.Fprintf(w, `{"resourceType":"Coverage","id":"c-%s","beneficiary":{"reference":"Patient/%s"}}`+"\n", id, id)
			fmt.Fprintln(w, `{"resourceType":"Organization","id":"shared"}`)
		}
		fmt.Fprintln(w, `{"resourceType":"Parameters","id":"data","parameter":[{"name":"other"}]}`)
	}
	x := publish()
	stop()
	if x.Lines != 9 || x.Quarantined != 0 || x.Superseded != 1 || x.Ghosts != 0 {
		t.Errorf("got %+v; want 9 lines, one of them a repetition, and no ghost", x.Ledger)
	}
	for sql, want := range map[string]int{
		`SELECT count(*) FROM fhir.patient`:                                    3, // with the one that the output left out
		`SELECT count(*) FROM fhir.coverage`:                                   2,
		`SELECT count(*) FROM fhir.organization`:                               1,
		`SELECT count(*) FROM fhir.parameters`:                                 1, // which is data
		`SELECT sum(headers)::int FROM ingest.export_file WHERE export_id = 2`: 2,
	} {
		if got := number(t, s, sql); got != want {
			t.Errorf("%s: got %d, want %d", sql, got, want)
		}
	}
}
