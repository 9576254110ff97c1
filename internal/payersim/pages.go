package payersim

import (
	"context"
	"net/http"
	"strconv"
)

// pagesAhead is how many pages of a job's manifest a client gets while the export runs, which has permitted that: as many as the
// share of the time that is over. The caller holds j.mu. Bulk Data 3.0, allowPartialManifests.
func (s *Server) pagesAhead(r *http.Request, j *job) int {
	faults := s.plan().Manifest
	if faults.FilesPerPage == 0 || !j.partial {
		return 0
	}
	if err := j.plan(context.WithoutCancel(r.Context()), s.source, s.opts.LinesPerFile, s.plan()); err != nil {
		return 0
	}
	pages := faults.pages(len(j.output))
	passed := float64(s.now().Sub(j.transactionTime)) / float64(max(1, j.ready.Sub(j.transactionTime)))
	return min(pages-1, int(passed*float64(pages)))
}

// pollPage answers the request for a further page: with the page, or with 202 where it is not there yet. The caller holds j.mu.
func (s *Server) pollPage(w http.ResponseWriter, r *http.Request, j *job, page int) {
	if bad := s.badAnswer("manifest.page_answers", s.plan().Manifest.PageAnswers); bad != nil {
		j.mu.Unlock() // a silent answer must not keep others waiting
		s.misanswer(w, r, bad, func() {})
		j.mu.Lock()
		return
	}
	running := s.now().Before(j.ready)
	if running && page >= s.pagesAhead(r, j) {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if !s.planned(w, r, j) {
		return
	}
	if page >= s.plan().Manifest.pages(len(j.output)) {
		s.refuse(w, r, refusal{status: http.StatusNotFound, code: "not-found", text: "there is no such page"})
		return
	}
	s.givePage(w, r, j, page, http.StatusOK)
}

// givePage answers with a page of the manifest. Bulk Data 3.0, Output Manifest. The caller holds j.mu.
func (s *Server) givePage(w http.ResponseWriter, r *http.Request, j *job, page, status int) {
	faults := s.plan().Manifest
	files := s.origin(r) + filePath + j.id + "/"
	m := manifest{
		TransactionTime:     j.transactionTime.Format(instantLayout),
		Request:             j.request,
		RequiresAccessToken: !s.opts.PublicFiles,
		Output:              entries(j.output, files),
		Deleted:             entries(j.deleted, files),
		Error:               entries(j.problems, files),
	}
	pages := faults.pages(len(m.Output))
	next := ""
	switch self := s.origin(r) + statusPath + j.id; {
	case page < pages-1:
		next = self + "?page=" + strconv.Itoa(page+1)
	case faults.Loop:
		next = self
	}
	doc := faults.page(m, page, pages, files, s.origin(r), next)
	if s.plan().File.ExpireAfter > 0 {
		version := "?v=" + strconv.Itoa(j.manifests)
		if list, ok := doc["output"].([]map[string]any); ok {
			for _, entry := range list {
				if url, ok := entry["url"].(string); ok {
					entry["url"] = url + version
				}
			}
		}
	}
	w.Header().Set("Expires", j.expires().UTC().Format(http.TimeFormat))
	writeJSON(w, status, doc)
}
