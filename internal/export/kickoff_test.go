package export

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"ingestd/internal/config"
)

func accepted(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Location", "http://"+r.Host+"/fhir/status/1?x=%24")
	w.WriteHeader(http.StatusAccepted)
}

func TestKICK1_requestLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ level, group, want string }{
		{"system", "", "/fhir/$export"},
		{"patient", "", "/fhir/Patient/$export"},
		{"group", "42", "/fhir/Group/42/$export"},
		{"group", "a b/c%d", "/fhir/Group/a%20b%2Fc%25d/$export"},
	} {
		p := newPayer(t, accepted, func(o *Options) { o.Payer.Export = config.Export{Level: test.level, GroupID: test.group} })
		if _, err := p.client.KickOff(t.Context(), KickOffRequest{}); err != nil {
			t.Fatal(err)
		}
		if got := p.seen()[0].RequestURI; got != test.want {
			t.Errorf("level %s, group %q: got request line %s, want %s", test.level, test.group, got, test.want)
		}
	}
	c := newClient(t, "https://payer.example/fhir", func(o *Options) { o.Payer.Export.GroupID = ".." })
	_, err := c.KickOff(t.Context(), KickOffRequest{})
	wantError(t, err, CodeKickOffRefused, ActionFail)
}

func TestKICK3_headers(t *testing.T) {
	t.Parallel()
	p := newPayer(t, accepted, func(o *Options) { o.Payer.Export.Headers = map[string]string{"Epic-Client-ID": "abc"} })
	if _, err := p.client.KickOff(t.Context(), KickOffRequest{}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"Accept": "application/fhir+json", "Prefer": "respond-async", "Cache-Control": "no-cache",
		"Authorization": "Bearer secret", "Epic-Client-Id": "abc", "User-Agent": "ingestd",
	}
	for name, value := range want {
		if got := p.seen()[0].Header[name]; len(got) != 1 || got[0] != value {
			t.Errorf("%s: got %q, want %q", name, got, value)
		}
	}
}

func TestKICK4_queryParameters(t *testing.T) {
	t.Parallel()
	p := newPayer(t, accepted, func(o *Options) {
		o.Payer.Export.Types = []string{"Patient", "Coverage", "Patient"}
		o.Payer.Export.TypeFilters = []string{"Coverage?status=active,cancelled&a=b|c", "Observation?x=y"}
		o.Payer.Export.Elements = []string{"id", "meta"}
		o.Payer.Export.IncludeAssociatedData = []string{"LatestProvenanceResources"}
		o.Payer.Export.OrganizeOutputBy = "Patient"
		o.Payer.Export.PartialManifests = true
	})
	request := KickOffRequest{Since: "2026-01-02T03:04:05.678+01:00"}
	if _, err := p.client.KickOff(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	want := "_type=Patient,Coverage&_since=2026-01-02T03%3A04%3A05.678%2B01%3A00" +
		"&_typeFilter=Coverage%3Fstatus%3Dactive%252Ccancelled%26a%3Db%7Cc&_elements=id,meta" +
		"&includeAssociatedData=LatestProvenanceResources&organizeOutputBy=Patient&allowPartialManifests=true"
	if got := p.seen()[0].URL.RawQuery; got != want {
		t.Errorf("got query\n%s\nwant\n%s", got, want)
	}
}

func TestKICK4_parametersResource(t *testing.T) {
	t.Parallel()
	var body []byte
	p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		accepted(w, r)
	}, func(o *Options) {
		o.Payer.Export.Types = []string{"Patient", "Coverage"}
		o.Payer.Export.TypeFilters = []string{"Coverage?status=a,b"}
		o.Payer.Export.Patients = []string{"1", "Patient/2"}
		o.Payer.Export.PartialManifests = true
	})
	if _, err := p.client.KickOff(t.Context(), KickOffRequest{Since: "2026-01-02T03:04:05Z"}); err != nil {
		t.Fatal(err)
	}
	request := p.seen()[0]
	if request.Method != http.MethodPost || request.URL.RawQuery != "" ||
		request.Header.Get("Content-Type") != "application/fhir+json" {
		t.Errorf("got %s %s with %s, want a POST of application/fhir+json without a query",
			request.Method, request.URL, request.Header.Get("Content-Type"))
	}
	var got, want any
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	_ = json.Unmarshal([]byte(`{"resourceType":"Parameters","parameter":[
		{"name":"_type","valueString":"Patient"},{"name":"_type","valueString":"Coverage"},
		{"name":"_since","valueInstant":"2026-01-02T03:04:05Z"},
		{"name":"_typeFilter","valueString":"Coverage?status=a,b"},
		{"name":"patient","valueReference":{"reference":"Patient/1"}},
		{"name":"patient","valueReference":{"reference":"Patient/2"}},
		{"name":"allowPartialManifests","valueBoolean":true}]}`), &want)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got body %s", body)
	}
}

func TestKICK2_longRequestsBecomePost(t *testing.T) {
	t.Parallel()
	p := newPayer(t, accepted, func(o *Options) {
		o.Payer.Export.TypeFilters = []string{"Coverage?code=" + strings.Repeat("x", maxKickOffURL)}
	})
	if _, err := p.client.KickOff(t.Context(), KickOffRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := p.seen()[0].Method; got != http.MethodPost {
		t.Errorf("got %s, want POST", got)
	}
}

func TestKICK2_configuredPost(t *testing.T) {
	t.Parallel()
	p := newPayer(t, accepted, func(o *Options) { o.Payer.Export.Method = "post" })
	if _, err := p.client.KickOff(t.Context(), KickOffRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := p.seen()[0].Method; got != http.MethodPost {
		t.Errorf("got %s, want POST", got)
	}
}

func TestKICK6_contentLocation(t *testing.T) {
	t.Parallel()
	const base = "https://payer.example:8443/r4"
	for _, test := range []struct {
		name, location, want string
		status               int
		code                 string
	}{
		{"absolute", "https://payer.example:8443/jobs/1?a=b", "https://payer.example:8443/jobs/1?a=b", 202, ""},
		{"relative to the request", "../jobs/1", "https://payer.example:8443/r4/Group/jobs/1", 202, ""},
		{"absolute path", "/jobs/%24x", "https://payer.example:8443/jobs/%24x", 202, ""},
		{"200 with a location", "/jobs/1", "https://payer.example:8443/jobs/1", 200, ""},
		{"plain http on the same host", "http://payer.example:8080/jobs/1", "https://payer.example:8443/jobs/1", 202, ""},
		{"plain http without a port", "http://PAYER.example/jobs/1", "https://payer.example:8443/jobs/1", 202, ""},
		{"listed host", "https://jobs.example/1", "https://jobs.example/1", 202, ""},
		{"host listed without token", "https://files.example/1", "", 202, CodeURLRefused},
		{"other host", "https://evil.example/1", "", 202, CodeURLRefused},
		{"other port", "https://payer.example/jobs/1", "", 202, CodeURLRefused},
		{"other host, plain", "http://evil.example/1", "", 202, CodeURLRefused},
		{"user information", "https://a:b@payer.example:8443/1", "", 202, CodeURLRefused},
		{"other scheme", "file:///etc/passwd", "", 202, CodeURLRefused},
		{"none", "", "", 202, CodeNoStatusURL},
		{"none and a 200", "", "", 200, CodeNotAsync},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			header := map[string]string{}
			if test.location != "" {
				header["Content-Location"] = test.location
			}
			transport := recorded(answer(test.status, header, `{"resourceType":"Bundle"}`))
			c, err := New(Options{
				Payer: config.Payer{
					FHIRURL: base + "/", Export: config.Export{Level: "group", GroupID: "1"},
					DownloadHosts: []config.DownloadHost{{Host: "jobs.example", Token: true}, {Host: "files.example"}},
				},
				Authorized: transport, Plain: transport,
			})
			if err != nil {
				t.Fatal(err)
			}
			kickOff, err := c.KickOff(t.Context(), KickOffRequest{})
			if test.code != "" {
				wantError(t, err, test.code, ActionFail)
				return
			}
			if err != nil || kickOff.StatusURL != test.want {
				t.Errorf("got %q, %v, want %q", kickOff.StatusURL, err, test.want)
			}
		})
	}
}

// recorded answers requests to any host with a handler.
type recorded http.HandlerFunc

func (h recorded) RoundTrip(request *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	h(recorder, request)
	response := recorder.Result()
	response.Request = request
	return response, nil
}

func TestKICK6_warningsAndDate(t *testing.T) {
	t.Parallel()
	p := newPayer(t, answer(202, map[string]string{
		"Content-Location": "/status/1",
		"Date":             "Sat, 03 Jan 2026 10:00:00 GMT",
	}, `{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"not-supported","diagnostics":"_elements"}]}`))
	kickOff, err := p.client.KickOff(t.Context(), KickOffRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(kickOff.Warnings) != 1 || kickOff.Warnings[0].Diagnostics != "_elements" {
		t.Errorf("got warnings %+v", kickOff.Warnings)
	}
	if want := time.Date(2026, 1, 3, 10, 0, 0, 0, time.UTC); !kickOff.Date.Equal(want) {
		t.Errorf("got date %v, want %v", kickOff.Date, want)
	}
}

func TestKICK7_aLostAnswerIsNotRepeated(t *testing.T) {
	t.Parallel()
	p := newPayer(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}, func(o *Options) { o.Payer.Export.Method = "post" })
	_, err := p.client.KickOff(t.Context(), KickOffRequest{})
	if e := wantError(t, err, CodeUnanswered, ActionRetry); !e.MaybeStarted {
		t.Error("got MaybeStarted false, want true")
	}
	if got := len(p.seen()); got != 1 {
		t.Errorf("got %d requests, want 1", got)
	}
}

func TestKICK7_aRefusedConnectionStartedNothing(t *testing.T) {
	t.Parallel()
	p := newPayer(t, accepted)
	p.Close()
	_, err := p.client.KickOff(t.Context(), KickOffRequest{})
	if e := wantError(t, err, "connection_refused", ActionRetry); e.MaybeStarted {
		t.Error("got MaybeStarted true, want false")
	}
}

func TestKICK8_busy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, retryAfter, locations string
		want                        time.Duration
		running                     int
	}{
		{"BCDA's zero", "0", "", time.Minute, 0},
		{"none", "", "", time.Minute, 0},
		{"a wish", "1800", "", 30 * time.Minute, 0},
		{"AB2D names the jobs", "30", "/fhir/job/1/$status, /fhir/job/2/$status, https://evil.example/3", 30 * time.Second, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			header := map[string]string{}
			if test.retryAfter != "" {
				header["Retry-After"] = test.retryAfter
			}
			if test.locations != "" {
				header["Content-Location"] = test.locations
			}
			p := newPayer(t, answer(429, header, ""))
			_, err := p.client.KickOff(t.Context(), KickOffRequest{})
			e := wantError(t, err, CodePayerBusy, ActionWait)
			if e.RetryAfter != test.want || len(e.Running) != test.running {
				t.Errorf("got %v and %q, want %v and %d URLs", e.RetryAfter, e.Running, test.want, test.running)
			}
			for _, u := range e.Running {
				if !strings.HasPrefix(u, p.URL) {
					t.Errorf("got running %s, want an absolute URL at the payer", u)
				}
			}
		})
	}
}

func TestKICK9_refusals(t *testing.T) {
	t.Parallel()
	const outcome = `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"invalid",` +
		`"details":{"text":"_typeFilter is not supported"},"diagnostics":"MBI 1S00E00AA00\u001b[31m"}]}`
	for _, test := range []struct {
		status int
		body   string
		code   string
		action Action
	}{
		{400, outcome, CodeKickOffRefused, ActionFail},
		{422, outcome, CodeKickOffRefused, ActionFail},
		{401, "", CodeUnauthorized, ActionFail},
		{403, "", CodeForbidden, ActionFail},
		{404, outcome, CodeNotAvailable, ActionNextTick},
		{406, "", CodeNotAvailable, ActionNextTick},
		{410, "", CodeNotAvailable, ActionNextTick},
		{405, "", CodeMethodRefused, ActionFail},
		{413, "", CodeExportTooLarge, ActionFail},
		{408, "", CodeThrottled, ActionWait},
		{500, "<html>", CodePayerError, ActionRetry},
		{503, "", CodePayerError, ActionRetry},
		{501, "", CodeKickOffRefused, ActionFail},
		{
			400, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","diagnostics":"Another export is already running"}]}`,
			CodePayerBusy, ActionWait,
		},
	} {
		p := newPayer(t, answer(test.status, nil, test.body), func(o *Options) {
			o.Payer.Export.TypeFilters = []string{"Patient?active=true"}
		})
		_, err := p.client.KickOff(t.Context(), KickOffRequest{Since: "2026-01-01T00:00:00Z"})
		e := wantError(t, err, test.code, test.action)
		if got := len(p.seen()); got != 1 {
			t.Errorf("status %d: got %d requests, want no widened second one", test.status, got)
		}
		if strings.Contains(e.Error(), "1S00E00AA00") || strings.ContainsAny(e.Operator(), "\n\x1b") {
			t.Errorf("got %q for the log and %q for the operator", e.Error(), e.Operator())
		}
		if test.code == CodeKickOffRefused && test.body == outcome && !strings.Contains(e.Error(), "naming _typeFilter") {
			t.Errorf("got %q, want the refused parameter by name", e.Error())
		}
		if test.body == outcome && !strings.Contains(e.Operator(), "_typeFilter is not supported - MBI 1S00E00AA00") {
			t.Errorf("got %q, want the payer's words for the operator", e.Operator())
		}
	}
}

func TestKickOff_goes_on_without_partial_manifests_where_they_are_unknown(t *testing.T) {
	t.Parallel()
	p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("allowPartialManifests") {
			answer(400, nil, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-supported",
				"diagnostics":"Unknown parameter allowpartialmanifests"}]}`)(w, r)
			return
		}
		accepted(w, r)
	}, func(o *Options) { o.Payer.Export.PartialManifests = true })
	for range 2 {
		if _, err := p.client.KickOff(t.Context(), KickOffRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(p.seen()); got != 3 {
		t.Errorf("got %d requests, want 3: the refusal is remembered", got)
	}
}
