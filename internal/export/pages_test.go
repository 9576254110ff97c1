package export

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// pageServer serves a manifest in pages under /status?page=N.
func pageServer(pages map[string]http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		page := pages[r.URL.Query().Get("page")]
		if page == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		page(w, r)
	}
}

func page(status int, next, extra string, files ...string) http.HandlerFunc {
	var items []string
	for _, file := range files {
		items = append(items, fmt.Sprintf(`{"type":"Patient","url":"/f/%s"}`, file))
	}
	link := ""
	if next != "" {
		link = `,"link":[{"relation":"next","url":"?page=` + next + `"}]`
	}
	return answer(status, nil, fmt.Sprintf(
		`{"transactionTime":"2026-01-01T00:00:00Z","requiresAccessToken":true%s,"output":[%s],"error":[{"url":"/f/e"}]%s}`,
		extra, strings.Join(items, ","), link))
}

func TestMAN9_pages(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		pages    map[string]http.HandlerFunc
		complete bool
		files    int
		code     string
		action   Action
	}{
		{
			"all there",
			map[string]http.HandlerFunc{"": page(200, "2", "", "a"), "2": page(200, "3", "", "b"), "3": page(200, "", "", "c")},
			true, 3, "", 0,
		},
		{"first one under 202", map[string]http.HandlerFunc{"": page(202, "2", "", "a"), "2": page(200, "", "", "b")}, true, 2, "", 0},
		{"page under 202 without next", map[string]http.HandlerFunc{"": page(202, "", "", "a")}, false, 1, "", 0},
		{"the last one is not ready", map[string]http.HandlerFunc{"": page(200, "2", "", "a"), "2": answer(202, nil, "")}, false, 1, "", 0},
		{"last page repeats all", map[string]http.HandlerFunc{"": page(200, "2", "", "a"), "2": page(200, "", "", "a", "b")}, true, 2, "", 0},
		{
			"loop",
			map[string]http.HandlerFunc{"": page(200, "2", "", "a"), "2": page(200, "3", "", "b"), "3": page(200, "2", "", "c")},
			false, 0, "manifest_pages_endless", ActionFail,
		},
		{
			"page fails in passing",
			map[string]http.HandlerFunc{"": page(200, "2", "", "a"), "2": answer(500, nil, "")},
			false, 0, CodePayerError, ActionRetry,
		},
		{"page is gone", map[string]http.HandlerFunc{"": page(200, "2", "", "a")}, false, 0, CodeJobGone, ActionRestart},
		{"MAN-10: other transactionTime", map[string]http.HandlerFunc{
			"":  page(200, "2", "", "a"),
			"2": page(200, "", `,"transactionTime":"2026-01-02T00:00:00Z"`, "b"),
		}, false, 0, "manifest_pages_disagree", ActionFail},
		{"MAN-10: other requiresAccessToken", map[string]http.HandlerFunc{
			"":  page(200, "2", "", "a"),
			"2": page(200, "", `,"requiresAccessToken":false`, "b"),
		}, false, 0, "manifest_pages_disagree", ActionFail},
		{"MAN-10: other organisation", map[string]http.HandlerFunc{
			"":  page(200, "2", "", "a"),
			"2": page(200, "", `,"outputOrganizedBy":"Patient"`, "b"),
		}, false, 0, "manifest_pages_disagree", ActionFail},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPayer(t, pageServer(test.pages))
			status, err := p.client.Poll(t.Context(), p.URL+"/status")
			if test.code != "" {
				wantError(t, err, test.code, test.action)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if status.Complete != test.complete || len(status.Manifest.Output) != test.files || len(status.Manifest.Errors) != 1 ||
				status.Manifest.Next != "" {
				t.Errorf("got complete %v, %+v, want %v, %d files and the error file once", status.Complete, status.Manifest,
					test.complete, test.files)
			}
			if last := status.Manifest.Output[len(status.Manifest.Output)-1]; test.files == 3 && last.Place != "2/output/0" {
				t.Errorf("got %s as the place of the last file, want 2/output/0", last.Place)
			}
		})
	}
}
