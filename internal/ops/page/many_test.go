package page

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// many is a site with so many payers, each with 40 exports behind it.
func many(t testing.TB, n int) *site {
	t.Helper()
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("payer_%03d", i)
	}
	s := newSite(t, "", names...)
	_, err := s.store.Pool().Exec(context.Background(), `
		INSERT INTO ingest.export (payer, state, kind, trigger, series, transaction_at, created_at, finished_at, error_code, error, hint, lines, inserted)
		SELECT payer, CASE WHEN (n + abs(hashtext(payer))) % 11 = 0 THEN 'failed' ELSE 'published' END, 'incremental', 'schedule', 's',
			now() - n * '1 day'::interval, now() - n * '1 day'::interval, now() - n * '1 day'::interval + '5 min'::interval,
			CASE WHEN (n + abs(hashtext(payer))) % 11 = 0 THEN 'server_error' ELSE '' END, repeat('it did not work ', 5), 'look at it', 1000, 1000
		FROM generate_series(40, 1, -1) AS n, unnest($1::text[]) AS payer`, names)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Pool().Exec(context.Background(), `ANALYZE ingest.export`); err != nil {
		t.Fatal(err)
	}
	return s
}

// render shows the overview, read anew, and returns its size.
func (s *site) render(t testing.TB) int {
	t.Helper()
	s.page.known.forget()
	r := httptest.NewRequest(http.MethodGet, "http://localhost/", nil)
	w := httptest.NewRecorder()
	s.page.ServeHTTP(w, r)
	if w.Code != http.StatusOK || bytes.Count(w.Body.Bytes(), []byte("<tbody id=")) == 0 {
		t.Fatalf("got %d: %.300s", w.Code, w.Body)
	}
	return w.Body.Len()
}

func TestOverview_asks_the_database_as_often_for_500_payers_as_for_5(t *testing.T) {
	t.Parallel()
	queries := func(n int) (asked int64, size int, took time.Duration) {
		s := many(t, n)
		s.render(t)
		before, start := s.store.Pool().Stat().AcquireCount(), time.Now()
		size = s.render(t)
		return s.store.Pool().Stat().AcquireCount() - before, size, time.Since(start) // each query takes a connection by itself
	}
	few, _, _ := queries(5)
	lots, size, took := queries(500)
	t.Logf("500 payers: %d queries, %d bytes, %s", lots, size, took)
	if few == 0 || few != lots || lots > 20 {
		t.Errorf("for 5 payers %d queries, for 500 %d", few, lots)
	}
	if took > 20*time.Second { // a second on a machine that does nothing else: see the benchmark
		t.Errorf("it took %s", took)
	}
}

func BenchmarkOverview_of_500_payers(b *testing.B) {
	s := many(b, 500)
	b.ReportAllocs()
	for b.Loop() {
		b.ReportMetric(float64(s.render(b)), "page-bytes")
	}
}
