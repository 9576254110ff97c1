package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/payersim"
	"ingestd/internal/scheduler"
	"ingestd/internal/store"
	"ingestd/internal/testpg"
)

// phi stands in a line that cannot be loaded, and in what a payer says of a failure.
const phi = "Zebedee Quux"

// withoutExport are the records of a run that are of no export.
var withoutExport = []string{
	"engine started", "engine stopped", "migration applied", "access tokens are issued again",
	"cannot get an access token", // of the token manager, which serves all exports of a payer
}

// observed runs a daemon over two payers, one whose export is published in spite of faults, and one that refuses its own.
func observed(t *testing.T) (d *Daemon, log string, exports map[string]int64) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pem")
	clients := []payersim.Client{{ID: "c", JWKS: jwksOf(t, writeKey(t, file, "k"))}}
	good := simulate(t, payersim.Options{Clients: clients, Patients: 5, Faults: payersim.Faults{
		StatusFailFirst: 1, FileFailFirst: 1, TokenEndpointFailFirst: 1,
		BadLines: []payersim.BadLine{{Type: "Patient", AfterLine: 1, Raw: `{"resourceType":"Patient","name":"` + phi + `"`}},
	}})
	refusing := simulate(t, payersim.Options{Clients: clients, Faults: payersim.Faults{KickOff: payersim.KickOffFaults{Answers: []payersim.Answer{{
		Status: http.StatusForbidden, Times: 100, Headers: map[string]string{"Content-Type": "application/fhir+json"},
		Body: `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"forbidden","diagnostics":"not of ` + phi + `"}]}`,
	}}}}})
	c := parse(t, `
database: {url: %q}
admin: {listen: ""}
keys: [{id: k, private_key: "file:%s"}]
defaults: {auth: {client_id: c}, limits: {poll_min: 100ms, poll_max: 1s}, load: {quarantine_max_share: 1}}
payers:
  - {name: good, fhir_url: %q, export: {level: patient}}
  - {name: refusing, fhir_url: %q, export: {level: patient}}
`, testpg.New(t, nil), file, good, refusing)
	var buffer syncBuffer
	d, err := Open(t.Context(), Options{
		Config: c, Version: "test", Host: "host",
		Logger: slog.New(slog.NewJSONHandler(&buffer, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close(context.Background()) })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	exports = make(map[string]int64)
	for _, name := range []string{"good", "refusing"} {
		eventually(t, "the start of an export", func() bool {
			exports[name], err = d.Engine.Start(t.Context(), name, scheduler.RunOptions{})
			return err == nil
		})
	}
	s := d.Database.Store
	eventually(t, "both exports to be over", func() bool {
		over := 0
		err := s.Pool().QueryRow(t.Context(), `SELECT count(*) FROM ingest.export WHERE cleaned_up_at IS NOT NULL`).Scan(&over)
		return err == nil && over == 2
	})
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]store.State{"good": store.StatePublished, "refusing": store.StateFailed} {
		if x, err := s.Export(t.Context(), exports[name]); err != nil || x.State != want {
			t.Fatalf("the export of %s is %s (%s), %v; want %s", name, x.State, x.Error, err, want)
		}
	}
	return d, buffer.String(), exports
}

func TestDaemon_logs_each_fact_of_an_export_with_its_payer_and_number_and_nothing_secret(t *testing.T) {
	t.Parallel()
	d, log, exports := observed(t)
	told := make(map[string]int)
	for line := range strings.Lines(log) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		message, _ := record["msg"].(string)
		if instance, _ := record["instance"].(string); !strings.HasPrefix(instance, "host/") {
			t.Errorf("the record names no instance: %s", line)
		}
		if record["level"] == nil || record["time"] == nil || message == "" {
			t.Errorf("the record has no level, time or message: %s", line)
		}
		if keys := regexp.MustCompile(`"([^"]+)":`).FindAllStringSubmatch(line, -1); repeated(keys) {
			t.Errorf("a key stands twice: %s", line)
		}
		if slices.Contains(withoutExport, message) {
			continue
		}
		payer, _ := record["payer"].(string)
		id, _ := record["export_id"].(float64)
		if payer == "" || int64(id) != exports[payer] {
			t.Errorf("the record names payer %q and export %g: %s", payer, id, line)
		}
		told[payer]++
	}
	if told["good"] < 8 || told["refusing"] < 1 {
		t.Errorf("%v records of exports only", told)
	}
	for what, pattern := range map[string]string{
		"what a payer said": phi, "a query": `\?[A-Za-z_%$]+=`, "a URL with a path": `https?://[^"/ ]+/`, "a JWT": `eyJ[A-Za-z0-9]`,
		"a bearer token": `(?i)bearer `, "a resource": `resourceType`,
	} {
		if found := regexp.MustCompile(pattern).FindString(log); found != "" {
			t.Errorf("the log holds %s: %q", what, found)
		}
	}
	rows, err := d.Database.Store.Pool().Query(t.Context(), `SELECT id FROM fhir.patient`)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(ids) != 5 {
		t.Fatalf("%d patients, %v", len(ids), err)
	}
	for _, id := range ids {
		if strings.Contains(log, id) {
			t.Errorf("the log names the patient %s", id)
		}
	}
}

func repeated(keys [][]string) bool {
	seen := make(map[string]bool)
	for _, key := range keys {
		if seen[key[1]] {
			return true
		}
		seen[key[1]] = true
	}
	return false
}

func TestDaemon_counts_what_it_asks_a_payer_by_endpoint(t *testing.T) {
	t.Parallel()
	d, _, _ := observed(t)
	families, err := d.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			labels := make([]string, 0, 3)
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetName()+"="+label.GetValue())
			}
			values[fmt.Sprintf("%s{%s}", family.GetName(), strings.Join(labels, ","))] = metric.GetCounter().GetValue() +
				metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	for _, name := range []string{
		"ingestd_http_requests_total{code=202,endpoint=kick_off,payer=good}",
		"ingestd_http_requests_total{code=200,endpoint=status,payer=good}",
		"ingestd_http_requests_total{code=200,endpoint=file,payer=good}",
		"ingestd_http_requests_total{code=202,endpoint=delete,payer=good}",
		"ingestd_http_requests_total{code=200,endpoint=token,payer=good}",
		"ingestd_http_requests_total{code=200,endpoint=discovery,payer=good}",
		"ingestd_http_requests_total{code=403,endpoint=kick_off,payer=refusing}",
		"ingestd_http_request_duration_seconds{endpoint=file,payer=good}",
		"ingestd_exports_total{payer=good,result=published}",
		"ingestd_exports_total{payer=refusing,result=failed}",
		"ingestd_rows_total{outcome=inserted,payer=good}",
		"ingestd_rows_total{outcome=quarantined,payer=good}",
		"ingestd_lines_total{outcome=quarantined,payer=good}",
		"ingestd_decompressed_bytes_total{payer=good}",
		"ingestd_wire_bytes_total{payer=good}",
		"ingestd_copy_bytes_total{payer=good}",
		"ingestd_copy_seconds_total{payer=good}",
		"ingestd_token_refreshes_total{payer=good,reason=first}",
		"ingestd_job_failures_total{code=forbidden,job=start_export,payer=refusing}",
		"ingestd_last_publish_lines{payer=good}",
		"ingestd_last_publish_quarantined_lines{payer=good}",
		"ingestd_payer_failed_exports{payer=refusing}",
		"ingestd_data_freshness_seconds{payer=good}",
		"ingestd_database_up{}",
	} {
		if values[name] <= 0 {
			t.Errorf("%s is %g", name, values[name])
		}
	}
	if unknown := values["ingestd_http_requests_total{code=200,endpoint=other,payer=good}"]; unknown > 0 {
		t.Errorf("%g requests are for nobody knows what", unknown)
	}
	if last := values["ingestd_last_success_timestamp_seconds{payer=good}"]; time.Since(time.Unix(int64(last), 0)) > time.Hour {
		t.Errorf("the last success was at %f", last)
	}
}
