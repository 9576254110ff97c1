package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/fhir"
	"ingestd/internal/store"
)

func TestAsOf_tells_what_a_payer_said_at_an_instant(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var instants []time.Time
	for _, lines := range [][]string{
		{patient("a", "", "1"), patient("b", "", "1")},
		{patient("a", "", "2"), patient("b", "", "1"), patient("c", "", "1")},
		{patient("a", "", "3")},
	} {
		var before time.Time
		if err := s.Pool().QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&before); err != nil {
			t.Fatal(err)
		}
		instants = append(instants, before)
		file := output("Patient", lines...)
		e := begin(t, s, store.NewExport{RemovesGhosts: true}, file)
		stage(t, s, e, file)
		options := permissive
		options.History = "all"
		if _, err := publish(t, s, e.ID, options); err != nil {
			t.Fatal(err)
		}
	}
	instants = append(instants, time.Now().Add(time.Hour))
	for i, want := range [][]string{{}, {"a1", "b1"}, {"a2", "b1", "c1"}, {"a3"}} {
		for _, name := range []string{"Patient", "patient"} {
			rows, err := s.Pool().Query(t.Context(), `SELECT id || (resource ->> 'note') FROM fhir.as_of($1, $2) WHERE payer = 'p' ORDER BY 1`,
				name, instants[i])
			if err != nil {
				t.Fatal(err)
			}
			got, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("instant %d: got %v, want %v", i, got, want)
			}
		}
	}
}

func TestAsOf_finds_the_table_of_every_resource_type(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, resourceType := range fhir.Types() {
		want, _ := fhir.TableName(resourceType)
		var got string
		err := s.Pool().QueryRow(t.Context(), `SELECT lower(regexp_replace($1, '(?<!^)([A-Z])', '_\1', 'g'))`, resourceType).Scan(&got)
		if err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", resourceType, got, err, want)
		}
	}
	_, err := s.Pool().Exec(t.Context(), `SELECT id FROM fhir.as_of('Patient"; DROP SCHEMA fhir CASCADE; --', now())`)
	if state := store.SQLState(err); state != "42P01" {
		t.Errorf("got %s for a name that no table has", fmt.Sprint(err))
	}
}
