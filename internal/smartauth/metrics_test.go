package smartauth

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gathered is the metrics of a registry as name{label="value"} → value.
func gathered(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetName()+"="+label.GetValue())
			}
			value := metric.GetCounter().GetValue()
			if metric.GetGauge() != nil {
				value = metric.GetGauge().GetValue()
			}
			values[family.GetName()+"{"+strings.Join(labels, ",")+"}"] = value
		}
	}
	return values
}

func TestMetrics_count_requests_refreshes_failures_and_the_tokens_age(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		requests := 0
		source := newTestSource(t, newTestManager(t, ManagerOptions{Metrics: registry}), Registration{
			Payer: "acme", FHIRURL: "https://fhir.example", TokenURL: "https://auth.example/token", ClientID: "c", Keys: []*Key{testKey()},
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				requests++
				switch requests {
				case 1:
					return answer(r, 503, "", nil), nil
				case 3, 4:
					return answer(r, 400, `{"error":"made up by the server: `+strings.Repeat("x", 30)+`"}`, nil), nil
				}
				return answer(r, 200, `{"access_token":"t","expires_in":300}`, nil), nil
			}),
		})
		token := mustToken(t, source)
		time.Sleep(time.Minute)
		got := gathered(t, registry)
		age, expiry := got["ingestd_token_age_seconds{payer=acme}"], got["ingestd_token_expiry_seconds{payer=acme}"]
		if age != 60 || expiry != 240 {
			t.Errorf("age and expiry: got %g and %g, want 60 and 240", age, expiry)
		}
		source.Invalidate(token)
		if _, err := source.Token(t.Context()); err == nil {
			t.Fatal("got a token, want the refusal")
		}
		for name, want := range map[string]float64{
			"ingestd_token_requests_total{payer=acme,result=ok}":           1,
			"ingestd_token_requests_total{payer=acme,result=server_error}": 1,
			"ingestd_token_requests_total{payer=acme,result=other}":        2,
			"ingestd_token_failures_total{error=server_error,payer=acme}":  1,
			"ingestd_token_failures_total{error=other,payer=acme}":         1,
			"ingestd_token_refreshes_total{payer=acme,reason=first}":       2,
			"ingestd_token_refreshes_total{payer=acme,reason=refused}":     1,
		} {
			if got := gathered(t, registry)[name]; got != want {
				t.Errorf("%s: got %g, want %g", name, got, want)
			}
		}
	})
}

func TestManager_tries_at_once_when_the_configuration_changed(t *testing.T) {
	t.Parallel()
	p := newPayer(t, testKey())
	m := newTestManager(t, ManagerOptions{})
	wrong := p.registration(testRSAKey())
	_, err := newTestSource(t, m, wrong).Token(t.Context())
	if failure := asError(t, err); failure.Code != "invalid_client" || failure.RetryAfter < 30*time.Second {
		t.Fatalf("got %v, want invalid_client and a pause", failure)
	}
	start := time.Now()
	mustToken(t, newTestSource(t, m, p.registration(testKey())))
	if waited := time.Since(start); waited > 20*time.Second {
		t.Errorf("waited %s after the key was corrected", waited)
	}
	list := m.Status()
	if len(list) != 1 || !list[0].Live || list[0].Failure != nil {
		t.Fatalf("status: got %+v, want one live token", list)
	}
	// What failed last is still known, and which key the server took.
	if s := list[0]; s.LastFailure == nil || s.LastFailure.Code != "invalid_client" || s.FailedAt.IsZero() || s.FailedAt.After(s.Obtained.Add(time.Second)) ||
		s.Kid != testKey().ID() || s.Algorithm != testKey().Algorithm() || !s.RefreshAt.After(s.Obtained) || len(s.Payers) != 1 || s.Payers[0] != wrong.Payer {
		t.Errorf("status: got %+v", s)
	}
}
