package export

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func sha1Of(text string) string {
	sum := sha1.Sum([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func TestATT2_attachments_get_the_token_only_where_it_may_go(t *testing.T) {
	t.Parallel()
	var foreign []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		foreign = append(foreign, r.Header.Get("Authorization"))
		fmt.Fprint(w, "foreign")
	}))
	t.Cleanup(elsewhere.Close)
	p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/away":
			http.Redirect(w, r, elsewhere.URL+"/landed", http.StatusTemporaryRedirect)
		case r.URL.Path != "/fhir/Binary/1":
			w.WriteHeader(http.StatusNotFound)
		case strings.Contains(r.Header.Get("Accept"), "json"), !strings.Contains(r.Header.Get("Accept"), "text/plain"):
			w.Header().Set("Content-Type", "application/fhir+json;charset=utf-8")
			fmt.Fprintf(w, ` {"resourceType":"Binary","contentType":"text/plain","data":%q}`, base64.StdEncoding.EncodeToString([]byte("own")))
		default:
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(w, "own")
		}
	})
	for _, test := range []struct {
		url, contentType string
		required         bool
		want, token      string
	}{
		{"Binary/1", "text/plain", true, "own", "Bearer secret"},
		{"Binary/1", "", true, "own", "Bearer secret"}, // in JSON, because nothing else was named
		{p.URL + "/fhir/Binary/1", "text/plain", true, "own", "Bearer secret"},
		{p.URL + "/fhir/Binary/1", "text/plain", false, "own", ""},
		{p.URL + "/away", "text/plain", true, "foreign", "Bearer secret"},
		{elsewhere.URL + "/x", "text/plain", true, "foreign", ""},
	} {
		before := len(p.seen())
		content, err := p.client.FetchAttachment(t.Context(), Attachment{
			URL: test.url, ContentType: test.contentType, Size: int64(len(test.want)), Hash: sha1Of(test.want), RequiresAccessToken: test.required,
		}, 1000)
		if err != nil || string(content.Data) != test.want {
			t.Errorf("%s: got %q, %v", test.url, content.Data, err)
			continue
		}
		if seen := p.seen()[before:]; len(seen) > 0 && seen[0].Header.Get("Authorization") != test.token {
			t.Errorf("%s: the payer got %q as authorization, want %q", test.url, seen[0].Header.Get("Authorization"), test.token)
		}
	}
	if len(foreign) != 2 || foreign[0] != "" || foreign[1] != "" {
		t.Errorf("the other host got %q as authorization, want none in two requests", foreign)
	}
	for _, url := range []string{"http://10.0.0.1/x", "file:///etc/passwd", "https://user:password@payer.example/x", "", "ftp://payer.example/"} {
		_, err := p.client.FetchAttachment(t.Context(), Attachment{URL: url, Size: -1}, 1000)
		if refused, ok := errors.AsType[*Error](err); !ok || refused.Code != CodeURLRefused || refused.Action != ActionFail {
			t.Errorf("%s: got %v, want it refused", url, err)
		}
	}
}

func TestATT3_size_hash_and_limit_are_checked(t *testing.T) {
	t.Parallel()
	p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/fhir/gone":
			w.WriteHeader(http.StatusGone)
		case "/fhir/throttled":
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		case "/fhir/ill":
			w.WriteHeader(http.StatusBadGateway)
		case "/fhir/cut":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "0123456789")
		case "/fhir/binary":
			w.Header().Set("Content-Type", "application/fhir+json")
			fmt.Fprint(w, `{"resourceType":"Binary","data":"?"}`)
		default:
			fmt.Fprint(w, "0123456789")
		}
	})
	for _, test := range []struct {
		a      Attachment
		limit  int64
		code   string
		action Action
	}{
		{Attachment{URL: "a", Size: 10, Hash: sha1Of("0123456789")}, 10, "", 0},
		{Attachment{URL: "a", Size: 9}, 10, CodeAttachmentMismatch, ActionFail},
		{Attachment{URL: "a", Size: -1, Hash: sha1Of("other")}, 10, CodeAttachmentMismatch, ActionFail},
		{Attachment{URL: "a", Size: 11}, 10, CodeAttachmentTooLarge, ActionFail},
		{Attachment{URL: "a", Size: -1}, 9, CodeAttachmentTooLarge, ActionFail},
		{Attachment{URL: "gone", Size: -1}, 10, CodeAttachmentRefused, ActionFail},
		{Attachment{URL: "throttled", Size: -1}, 10, CodeThrottled, ActionWait},
		{Attachment{URL: "ill", Size: -1}, 10, CodePayerError, ActionRetry},
		{Attachment{URL: "cut", Size: -1}, 1000, CodeAttachmentUnreadable, ActionRetry},
		{Attachment{URL: "binary", ContentType: "text/plain", Size: -1}, 1000, CodeAttachmentUnreadable, ActionFail},
	} {
		before := len(p.seen())
		_, err := p.client.FetchAttachment(t.Context(), test.a, test.limit)
		got, _ := errors.AsType[*Error](err)
		switch {
		case test.code == "" && err != nil:
			t.Errorf("%+v: %v", test.a, err)
		case test.code != "" && (got == nil || got.Code != test.code || got.Action != test.action):
			t.Errorf("%+v: got %v, want %s and %s", test.a, err, test.code, test.action)
		case test.a.Size > test.limit && len(p.seen()) > before:
			t.Errorf("%+v: was asked for, though the resource says that it is too large", test.a)
		}
	}
}
