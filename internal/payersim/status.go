package payersim

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
)

// manifestEntry and manifest are the body of a complete status. Bulk Data 3.0, Output Manifest.
type manifestEntry struct {
	Type  string `json:"type"`
	URL   string `json:"url"`
	Count int    `json:"count"`
}

type manifest struct {
	TransactionTime     string          `json:"transactionTime"`
	Request             string          `json:"request"`
	RequiresAccessToken bool            `json:"requiresAccessToken"`
	Output              []manifestEntry `json:"output"`
	Deleted             []manifestEntry `json:"deleted,omitempty"`
	Error               []manifestEntry `json:"error"`
}

// serveStatus answers polls and the DELETE that ends a job. Bulk Data 3.0, Status Request and Delete Request.
func (s *Server) serveStatus(w http.ResponseWriter, r *http.Request) {
	t, ok := s.authorize(w, r)
	if !ok {
		return
	}
	switch r.Method {
	case http.MethodGet:
		s.poll(w, r, t)
	case http.MethodDelete:
		s.deleteJob(w, r, t)
	default:
		s.methodNotAllowed(w, r, "GET, DELETE")
	}
}

// findJob returns the job of the request's path, if it is the client's own; otherwise it answers and returns nil. An
// empty clientID stands for the holder of the URL.
func (s *Server) findJob(w http.ResponseWriter, r *http.Request, clientID string) *job {
	s.mu.Lock()
	j := s.jobs[r.PathValue("job")]
	s.mu.Unlock()
	if j == nil || clientID != "" && j.client != clientID {
		s.refuse(w, r, refusal{status: http.StatusNotFound, code: "not-found", text: "there is no such export"})
		return nil
	}
	if s.now().After(j.expires()) {
		s.refuse(w, r, refusal{status: http.StatusGone, code: "deleted", text: "this export has expired"})
		return nil
	}
	return j
}

func (s *Server) poll(w http.ResponseWriter, r *http.Request, t token) {
	s.count.polls.Add(1)
	j := s.findJob(w, r, t.client)
	if j == nil {
		return
	}
	accept := r.Header.Get("Accept")
	if accept != "" && !accepts(accept, "application/json") && !accepts(accept, "application/fhir+json") {
		s.refuse(w, r, refusal{status: http.StatusNotAcceptable, code: "not-supported", text: "the status is application/json"})
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	now := s.now()
	if page, err := strconv.Atoi(r.URL.Query().Get("page")); err == nil && page > 0 {
		s.pollPage(w, r, j, page)
		return
	}
	if s.plan().tooEarly(now, j.nextPoll) {
		s.count.earlyPolls.Add(1)
		s.refuse(w, r, refusal{
			status: http.StatusTooManyRequests, code: "throttled", text: "this poll came earlier than Retry-After allows",
			retryAfter: j.nextPoll.Sub(now),
		})
		return
	}
	if s.strike("status_fail_first", s.plan().StatusFailFirst) {
		s.refuse(w, r, s.unavailable())
		return
	}
	if bad := s.badAnswer("status.answers", s.plan().Status.Answers); bad != nil {
		j.mu.Unlock() // a silent answer must not keep others waiting
		s.misanswer(w, r, bad, func() {})
		j.mu.Lock()
		return
	}
	if now.Before(j.ready) {
		s.inProgress(w, r, j)
		return
	}
	j.nextPoll = j.ready
	if !s.planned(w, r, j) {
		return
	}
	j.manifests++
	s.givePage(w, r, j, 0, http.StatusOK)
}

// planned lists the files of a job; where that fails, it answers.
func (s *Server) planned(w http.ResponseWriter, r *http.Request, j *job) bool {
	if err := j.plan(context.WithoutCancel(r.Context()), s.source, s.opts.LinesPerFile, s.plan()); err != nil {
		s.refuse(w, r, refusal{status: http.StatusInternalServerError, code: "exception", text: err.Error()})
		return false
	}
	return true
}

func entries(list []*outputFile, base string) []manifestEntry {
	out := make([]manifestEntry, len(list))
	for i, f := range list {
		out[i] = manifestEntry{Type: f.resourceType, URL: base + f.name, Count: f.count}
	}
	return out
}

// progressForms are spellings of X-Progress that servers are known to send: no format is promised (POLL-3).
var progressForms = []string{"%d%%", "%d%% complete", "RUNNING: %d.00%%", "In Progress (%d%%)"}

func (s *Server) inProgress(w http.ResponseWriter, r *http.Request, j *job) {
	now, faults := s.now(), s.plan().Status
	percent := int64(100 * now.Sub(j.transactionTime) / max(1, j.ready.Sub(j.transactionTime)))
	w.Header().Set("X-Progress", fmt.Sprintf(progressForms[j.polls%len(progressForms)], min(99, max(0, percent))))
	if n := len(faults.Progress); n > 0 {
		w.Header().Set("X-Progress", faults.Progress[min(j.polls, n-1)])
	}
	j.polls++
	if wait := s.plan().retryAfter(); wait > 0 {
		w.Header().Set("Retry-After", wholeSeconds(wait))
		j.nextPoll = now.Add(wait)
	}
	if faults.RetryAfter != "" {
		w.Header().Set("Retry-After", faults.RetryAfter)
		j.nextPoll = now
	}
	if s.pagesAhead(r, j) > 0 {
		s.givePage(w, r, j, 0, http.StatusAccepted)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func (s *Server) deleteJob(w http.ResponseWriter, r *http.Request, t token) {
	j := s.findJob(w, r, t.client)
	if j == nil {
		return
	}
	end := func() {
		s.mu.Lock()
		delete(s.jobs, j.id)
		s.mu.Unlock()
		s.count.deletes.Add(1)
	}
	if bad := s.badAnswer("delete.answers", s.plan().Delete.Answers); bad != nil {
		s.misanswer(w, r, bad, end)
		return
	}
	end()
	w.WriteHeader(http.StatusAccepted)
}
