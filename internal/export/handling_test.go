package export

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"ingestd/internal/config"
)

// refusing answers 400, naming the first of the parameters that the kick-off has, and accepts it without them.
func refusing(text string, parameters ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, name := range parameters {
			if r.URL.Query().Has(name) {
				answer(400, nil, fmt.Sprintf(`{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-supported",
					"diagnostics":%q}]}`, fmt.Sprintf(text, name)))(w, r)
				return
			}
		}
		accepted(w, r)
	}
}

// everything asks for all parameters that a GET can carry.
func everything(o *Options) {
	o.Payer.Export = config.Export{
		Level: "group", GroupID: "42", Types: []string{"Patient"}, TypeFilters: []string{"Patient?active=true"}, Elements: []string{"id"},
		IncludeAssociatedData: []string{"LatestProvenanceResources"}, OrganizeOutputBy: "Patient", PartialManifests: true,
		Handling: "lenient",
	}
}

func TestKICK3_preferences_are_sent_only_if_configured(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		handling string
		separate bool
		want     string
	}{
		{"", false, "respond-async"},
		{"none", false, "respond-async"},
		{"lenient", false, "respond-async, handling=lenient"},
		{"none", true, "respond-async, separate-export-status"},
		{"lenient", true, "respond-async, handling=lenient, separate-export-status"},
	} {
		p := newPayer(t, accepted, func(o *Options) {
			o.Payer.Export.Handling, o.Payer.Export.SeparateStatus = test.handling, test.separate
		})
		if _, err := p.client.KickOff(t.Context(), KickOffRequest{}); err != nil {
			t.Fatal(err)
		}
		if got := p.seen()[0].Header["Prefer"]; len(got) != 1 || got[0] != test.want {
			t.Errorf("handling %q, separate status %v: got Prefer %q, want %q", test.handling, test.separate, got, test.want)
		}
	}
}

func TestKICK9_an_export_goes_on_without_optional_parameters_where_handling_is_lenient(t *testing.T) {
	t.Parallel()
	optional := []string{"_elements", "includeAssociatedData", "organizeOutputBy", "allowPartialManifests"}
	p := newPayer(t, refusing("The parameter %q is not supported.", optional...), everything)
	kickOff, err := p.client.KickOff(t.Context(), KickOffRequest{Since: "2026-01-01T00:00:00Z"})
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(slices.Values(kickOff.Without)); !slices.Equal(got, slices.Sorted(slices.Values(optional))) {
		t.Errorf("went on without %v, want %v", got, optional)
	}
	requests := p.seen()
	if len(requests) != 5 {
		t.Fatalf("got %d requests, want one for each parameter, and the one that was accepted", len(requests))
	}
	const want = "_type=Patient&_since=2026-01-01T00%3A00%3A00Z&_typeFilter=Patient%3Factive%3Dtrue"
	if got := requests[4].URL.RawQuery; got != want {
		t.Errorf("got the query %s, want %s", got, want)
	}
}

func TestKICK9_what_would_widen_the_request_is_never_dropped(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text string
		refused    string
		edit       func(*Options)
	}{
		{"_type", "%s is not supported", "_type", nil},
		{"_typeFilter", "%s is not supported", "_typeFilter", nil},
		{"_typeFilter beside an optional one", "%s and _elements are not supported", "_typeFilter", nil},
		{"an optional one that the text names beside _type", "%s is not supported, only _type is", "_elements", nil},
		{"_until", "%s is not supported", "_until", nil},
		{"_since unless configured", "%s is not supported", "_since", nil},
		{"_since where its absence is not everything", "%s is not supported", "_since", func(o *Options) {
			o.Payer.Export.SinceOptional, o.Payer.Export.FullSince = true, "2020-01-01T00:00:00Z"
		}},
		{"anything where handling is not lenient", "%s is not supported", "_elements", func(o *Options) { o.Payer.Export.Handling = "none" }},
		{"what the payer does not name", "Bad request%.0s", "_elements", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			edit := func(o *Options) {
				everything(o)
				o.Payer.Export.PartialManifests = false
				if test.edit != nil {
					test.edit(o)
				}
			}
			p := newPayer(t, refusing(test.text, test.refused), edit)
			_, err := p.client.KickOff(t.Context(), KickOffRequest{Since: "2026-01-01T00:00:00Z", Until: "2026-02-01T00:00:00Z"})
			wantError(t, err, CodeKickOffRefused, ActionFail)
			if got := len(p.seen()); got != 1 {
				t.Errorf("got %d requests, want the one that was refused", got)
			}
		})
	}
	// What patients are asked for stands in the body of a POST.
	p := newPayer(t, answer(400, nil, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","diagnostics":"patient is not supported"}]}`),
		everything, func(o *Options) { o.Payer.Export.Patients = []string{"1"} })
	_, err := p.client.KickOff(t.Context(), KickOffRequest{})
	wantError(t, err, CodeKickOffRefused, ActionFail)
	if got := len(p.seen()); got != 1 {
		t.Errorf("patients: got %d requests, want the one that was refused", got)
	}
}

func TestKICK9_since_is_dropped_where_that_is_configured(t *testing.T) {
	t.Parallel()
	p := newPayer(t, refusing("Unknown parameter %s", "_since"), func(o *Options) {
		o.Payer.Export.Handling, o.Payer.Export.SinceOptional = "lenient", true
	})
	kickOff, err := p.client.KickOff(t.Context(), KickOffRequest{Since: "2026-01-01T00:00:00Z"})
	if err != nil || !slices.Equal(kickOff.Without, []string{"_since"}) {
		t.Errorf("got %+v, %v; want an export without _since", kickOff, err)
	}
}

func TestKICK10_what_was_ignored_is_read_from_the_words_of_an_issue(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"The parameter _since was ignored.":                        {"_since"},
		"Unknown parameters: _typeFilter, includeAssociatedData":   {"_typeFilter", "includeAssociatedData"},
		"_TYPE=Foo is not supported by this server":                {"_type"},
		"organizeOutputBy is not recognized":                       {"organizeOutputBy"},
		"Resources changed since the instant of _since follow":     nil,
		"Some resources were ignored because they are not current": nil,
		"": nil,
	} {
		if got := IgnoredParameters(text); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func TestINC3_a_bound_on_since_is_told_with_what_was_sent(t *testing.T) {
	t.Parallel()
	const bound = `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"invalid","details":{
		"text":"The value of _since must not be before 2020-02-13T00:00:00.000-05:00"}}]}`
	var log bytes.Buffer
	p := newPayer(t, answer(400, nil, bound), func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	_, err := p.client.KickOff(t.Context(), KickOffRequest{Since: "2019-06-01T00:00:00Z"})
	e := wantError(t, err, CodeKickOffRefused, ActionFail)
	if !strings.Contains(e.Error(), "naming _since; _since was 2019-06-01T00:00:00Z") || strings.Contains(e.Error(), "2020-02-13") {
		t.Errorf("got %s; want what was sent, and none of the payer's words", e)
	}
	for _, want := range []string{"it names 2020-02-13T00:00:00.000-05:00", "export.full_since", "must not be before"} {
		if told := e.Operator() + " " + e.Hint; !strings.Contains(told, want) {
			t.Errorf("%q is not in %s", want, told)
		}
	}
	if strings.Contains(e.Operator(), e.Hint) {
		t.Errorf("got %s, which repeats the hint that is shown beside it", e.Operator())
	}
	_, err = p.client.KickOff(t.Context(), KickOffRequest{})
	if e := wantError(t, err, CodeKickOffRefused, ActionFail); strings.Contains(e.Hint, "bounds _since") {
		t.Errorf("without _since, got the hint %s", e.Hint)
	}
}

func TestPOLL8_the_state_of_the_export_is_told_apart_where_the_payer_says_so(t *testing.T) {
	t.Parallel()
	const manifest = `{"output":[],"requiresAccessToken":false}`
	const fatal = `{"resourceType":"OperationOutcome","issue":[{"severity":"fatal","code":"exception"}]}`
	for _, test := range []struct {
		name, state, body string
		status            int
		complete          bool
		code              string
		action            Action
	}{
		{"complete", "200 OK", manifest, 200, true, "", 0},
		{"running under 200", "202 Accepted", "", 200, false, "", 0},
		{"failed under 200", "500", fatal, 200, false, CodePayerError, ActionRetry},
		{"failed for good under 200", "400 Bad Request", fatal, 200, false, CodeJobFailed, ActionFail},
		{"gone under 200", "410", "", 200, false, CodeJobGone, ActionRestart},
		{"complete under 202", "200", manifest, 202, true, "", 0},
		{"nothing said", "", manifest, 200, true, "", 0},
		{"nonsense", "soon", manifest, 200, true, "", 0},
		{"the request fails", "202", "", 400, false, CodePayerError, ActionRetry},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPayer(t, answer(test.status, map[string]string{"X-Export-Status": test.state}, test.body))
			status, err := p.client.PollSeparate(t.Context(), p.URL+"/status/1")
			if test.code != "" {
				wantError(t, err, test.code, test.action)
				return
			}
			if err != nil || status.Complete != test.complete {
				t.Errorf("got complete %v, %v; want %v", status.Complete, err, test.complete)
			}
		})
	}
	for _, test := range []struct {
		configured bool
		applied    string
		want       bool
	}{
		{true, "respond-async, separate-export-status", true},
		{true, "Separate-Export-Status", true},
		{true, "respond-async", false},
		{true, "", false},
		{false, "separate-export-status", false},
	} {
		p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Preference-Applied", test.applied)
			accepted(w, r)
		}, func(o *Options) { o.Payer.Export.SeparateStatus = test.configured })
		kickOff, err := p.client.KickOff(t.Context(), KickOffRequest{})
		if err != nil || kickOff.SeparateStatus != test.want {
			t.Errorf("configured %v, Preference-Applied %q: got %v, %v; want %v", test.configured, test.applied, kickOff.SeparateStatus, err, test.want)
		}
	}
}
