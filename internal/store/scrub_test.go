package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"ingestd/internal/store"
)

func TestErrors_of_Postgres_quote_no_values_of_rows(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	const secret = "1931-04-01-Jane-Doe"
	_, err := s.Pool().Exec(ctx, `
		CREATE TABLE public.child (id text CONSTRAINT child_pkey PRIMARY KEY, n int NOT NULL CONSTRAINT small CHECK (n < 10), d date, j jsonb);
		CREATE FUNCTION public.complain() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN RAISE EXCEPTION 'no % here', NEW.id USING DETAIL = NEW.id, HINT = NEW.id; END $$;
		CREATE TABLE public.strict (id text);
		CREATE TRIGGER complain BEFORE INSERT ON public.strict FOR EACH ROW EXECUTE FUNCTION public.complain();
		INSERT INTO public.child VALUES ('`+secret+`', 1)`)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ sql, state, names string }{
		{`INSERT INTO public.child VALUES ('` + secret + `', 1)`, "23505", "child_pkey"},
		{`INSERT INTO public.child VALUES ('` + secret + `x', 11)`, "23514", "small"},
		{`INSERT INTO public.child VALUES ('` + secret + `x', NULL)`, "23502", "column n"},
		{`SELECT '` + secret + `'::int`, "22P02", ""},
		{`SELECT ('{"name":"' || '` + secret + `' || '",}')::jsonb`, "22P02", ""},
		{`SELECT ('` + secret + `' || id)::date FROM public.child`, "22023", ""},
		{`INSERT INTO public.strict VALUES ('` + secret + `')`, "P0001", ""},
	} {
		_, err := s.Pool().Exec(ctx, test.sql)
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || store.SQLState(err) != test.state {
			t.Errorf("%s: got %v, want SQLSTATE %s", test.sql, err, test.state)
			continue
		}
		for _, text := range []string{err.Error(), fmt.Sprintf("%+v %#v", err, pgErr)} {
			if strings.Contains(text, "Jane") {
				t.Errorf("SQLSTATE %s: the error quotes the row: %s", test.state, text)
			}
		}
		if !strings.Contains(err.Error(), test.names) || !strings.Contains(err.Error(), test.state) {
			t.Errorf("got %q, want it to name %s and %s", err, test.names, test.state)
		}
	}
	if _, err := s.Pool().Exec(ctx, `SELECT id FROM public.nowhere`); err == nil || !strings.Contains(err.Error(), "public.nowhere") {
		t.Errorf("got %v, want the name of the table", err)
	}
}
