package config_test

import (
	"strings"
	"testing"

	"ingestd/internal/config"
)

func TestTracing_takes_http_only_where_no_header_is_sent_over_it(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ yaml, problem string }{
		{"{endpoint: 'http://collector.internal:4318'}", ""},
		{"{endpoint: 'https://collector.example/otlp', headers: {X-Key: 'env:KEY'}, sample_ratio: 0.1}", ""},
		{"{endpoint: 'http://127.0.0.1:4318', headers: {X-Key: plain}}", ""},
		{"{endpoint: 'http://collector.internal:4318', headers: {X-Key: 'env:KEY'}}", "http is for loopback hosts only"},
		{"{endpoint: 'collector:4318'}", "expected a URL"},
		{"{endpoint: 'https://u:p@collector.example'}", "without user and password"},
		{"{endpoint: 'https://collector.example?key=1'}", "without a query"},
		{"{sample_ratio: 1.5}", "sample_ratio"},
		{"{headers: {'X Key': a}}", "not the name of a header"},
		{"{headers: {Content-Type: a}}", "set by ingestd itself"},
	} {
		_, err := config.Parse("test.yaml", []byte("database: {url: 'env:URL'}\ntracing: "+tt.yaml+"\npayers: []\n"))
		if (err == nil) != (tt.problem == "") || err != nil && !strings.Contains(err.Error(), tt.problem) {
			t.Errorf("%s: got %v, want %q", tt.yaml, err, tt.problem)
		}
	}
}
