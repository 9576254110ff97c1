package fhir

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestERR1_outcomes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text string
		want       []Issue
		ok         bool
	}{
		{
			"usual", `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"invalid","details":{"text":"no"},"diagnostics":"why"}]}`,
			[]Issue{{"error", "invalid", "no", "why"}},
			true,
		},
		{
			"resourceType last", `{"issue":[{"severity":"warning","code":"x"}],"resourceType":"OperationOutcome"}`,
			[]Issue{{Severity: "warning", Code: "x"}},
			true,
		},
		{"no resourceType", `{"issue":[{"severity":"error"}]}`, []Issue{{Severity: "error"}}, true},
		{
			"no code, no severity", `{"resourceType":"OperationOutcome","issue":[{"details":{"text":"gone"}}]}`,
			[]Issue{{Severity: "error", Text: "gone"}},
			true,
		},
		{
			"capitals", `{"resourceType":"OperationOutcome","issue":[{"severity":" Fatal","code":" exception "}]}`,
			[]Issue{{Severity: "fatal", Code: "exception"}},
			true,
		},
		{"unknown severity", `{"resourceType":"OperationOutcome","issue":[{"severity":"critical"}]}`, []Issue{{Severity: "error"}}, true},
		{
			"coding", `{"resourceType":"OperationOutcome","issue":[{"severity":"information","details":{"coding":[{"code":"A"},{"display":"B"}]}}]}`,
			[]Issue{{Severity: "information", Text: "A"}},
			true,
		},
		{
			"details as a string", `{"resourceType":"OperationOutcome","issue":[{"severity":"error","details":"no"}]}`,
			[]Issue{{Severity: "error", Text: "no"}},
			true,
		},
		{
			"one issue without an array", `{"resourceType":"OperationOutcome","issue":{"severity":"error","code":"lock-error"}}`,
			[]Issue{{Severity: "error", Code: "lock-error"}},
			true,
		},
		{
			"wrong types", `{"resourceType":"OperationOutcome","issue":[1,null,{"severity":2,"code":[],"diagnostics":{},"details":3}]}`,
			[]Issue{{Severity: "error"}},
			true,
		},
		{"no issues", `{"resourceType":"OperationOutcome"}`, nil, true},
		{
			"two documents", `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"a"}]}{"resourceType":"OperationOutcome"}`,
			[]Issue{{Severity: "error", Code: "a"}},
			true,
		},
		{"BOM and blanks", "\ufeff \n{\"resourceType\":\"OperationOutcome\"}", nil, true},
		{"other resource", `{"resourceType":"Bundle","issue":[]}`, nil, false},
		{"framework JSON", `{"code":401,"message":"no"}`, nil, false},
		{"XML", `<OperationOutcome/>`, nil, false},
		{"HTML", `<html>`, nil, false},
		{"empty", ``, nil, false},
		{"cut", `{"resourceType":"OperationOutcome","issue":[{`, nil, false},
		{"array", `[]`, nil, false},
		{"null", `null`, nil, false},
	} {
		outcome, ok := ParseOutcome([]byte(test.text))
		if ok != test.ok {
			t.Errorf("%s: got %v, want %v", test.name, ok, test.ok)
			continue
		}
		if ok && !reflect.DeepEqual(outcome.Issues, test.want) {
			t.Errorf("%s: got %+v, want %+v", test.name, outcome.Issues, test.want)
		}
	}
}

func TestERR1_thousandsOfIssuesAreBounded(t *testing.T) {
	t.Parallel()
	text := `{"resourceType":"OperationOutcome","issue":[` + strings.Repeat(`{"severity":"error"},`, 5*maxIssues) + `{}]}`
	outcome, ok := ParseOutcome([]byte(text))
	if !ok || len(outcome.Issues) != maxIssues {
		t.Errorf("got %v, %d issues, want %d", ok, len(outcome.Issues), maxIssues)
	}
}

func TestOutcome_tells_passing_failures_by_its_worst_issues(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		issues    []Issue
		worst     string
		transient bool
	}{
		{nil, "", false},
		{[]Issue{{Severity: "error", Code: "transient"}}, "error", true},
		{[]Issue{{Severity: "error", Code: "timeout"}, {Severity: "warning", Code: "x"}}, "error", true},
		{[]Issue{{Severity: "information", Code: "incomplete"}, {Severity: "fatal", Code: "exception"}}, "fatal", false},
		{[]Issue{{Severity: "error", Code: "exception"}, {Severity: "error", Code: "lock-error"}}, "error", true},
		{[]Issue{{Severity: "success"}, {Severity: "information"}}, "information", false},
	} {
		outcome := &Outcome{Issues: test.issues}
		if got := outcome.Worst(); got != test.worst {
			t.Errorf("%+v: got worst %q, want %q", test.issues, got, test.worst)
		}
		if got := outcome.Transient(); got != test.transient {
			t.Errorf("%+v: got transient %v, want %v", test.issues, got, test.transient)
		}
	}
	var none *Outcome
	if none.Worst() != "" || none.Transient() || none.Codes() != "" || none.Text(100) != "" {
		t.Error("no outcome says something")
	}
}

func TestERR2_theCodesForTheLogQuoteNothing(t *testing.T) {
	t.Parallel()
	outcome := &Outcome{Issues: []Issue{
		{"fatal", "exception", "Jane Doe", "1S00E00AA00"},
		{"error", "Jane Doe 1S00E00AA00", "", ""},
		{"warning", "", "", ""},
		{"warning", "x", "", ""},
	}}
	if got, want := outcome.Codes(), "fatal/exception, error, warning, …"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := outcome.Text(1000); !strings.HasPrefix(got, "fatal exception: Jane Doe - 1S00E00AA00; error Jane Doe") {
		t.Errorf("got %q", got)
	}
	if got := outcome.Text(10); len(got) > 10+len("…") {
		t.Errorf("got %q, want at most ten bytes", got)
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain": "plain", "": "", "  a  b ": "a b", "a\r\nb": "a b", "a\x1b[31mb": "a [31mb", "a\u202eb": "a b", "a\x00b": "a b",
		"a\xff\xfeb": "a b", "naïve": "naïve", "\n\n": "", "a\u200bb": "a b",
	} {
		if got := Printable(text, 100); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if got := Printable(strings.Repeat("é", 50), 11); got != "ééééé…" {
		t.Errorf("got %q", got)
	}
}

func FuzzParseOutcome(f *testing.F) {
	f.Add([]byte(`{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"x","details":{"coding":[{"code":"y"}]}}]}`))
	f.Add([]byte(`{"issue":{"details":"\ud800","diagnostics":"\u0000\n"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		outcome, ok := ParseOutcome(data)
		if !ok {
			return
		}
		for _, issue := range outcome.Issues {
			if SeverityRank(issue.Severity) == 3 && issue.Severity != "error" {
				t.Fatalf("got severity %q", issue.Severity)
			}
		}
		for _, text := range []string{outcome.Text(300), outcome.Codes()} {
			if !utf8.ValidString(text) || strings.ContainsAny(text, "\n\r\x1b\x00\u202e") {
				t.Fatalf("got %q", text)
			}
		}
		if len(outcome.Text(300)) > 300+len("…") {
			t.Fatalf("got %d bytes", len(outcome.Text(300)))
		}
	})
}
