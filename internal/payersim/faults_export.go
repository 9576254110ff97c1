package payersim

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// KickOffFaults are the ways in which kick-offs go wrong.
type KickOffFaults struct {
	// Answers are what correct kick-offs get, in turn, before good answers.
	Answers []Answer `yaml:"answers"`
	// ContentLocation is where an accepted kick-off says that its status is: "missing", "relative", or another origin, such as
	// https://elsewhere.example; empty: the truth.
	ContentLocation string `yaml:"content_location"`
}

// StatusFaults are the ways in which status requests go wrong.
type StatusFaults struct {
	// Answers are what correct status requests get, in turn, before good answers.
	Answers []Answer `yaml:"answers"`
	// Progress is what X-Progress says, in turn, the last for ever.
	Progress []string `yaml:"progress"`
	// RetryAfter is sent as it stands while the export runs, whatever retry_after says.
	RetryAfter string `yaml:"retry_after"`
}

// DeleteFaults are the ways in which the DELETE of a job goes wrong.
type DeleteFaults struct {
	// Answers are what correct requests get, in turn, before good answers. The job is gone only where they are "granted".
	Answers []Answer `yaml:"answers"`
}

func (f Faults) checkExport() error {
	location := f.KickOff.ContentLocation
	var errs []error
	if !slices.Contains([]string{"", "missing", "relative"}, location) && !strings.Contains(location, "://") {
		errs = append(errs, fmt.Errorf("payersim: fault kickoff.content_location must be missing, relative or an origin, not %q", location))
	}
	return errors.Join(append(errs,
		checkAnswers("kickoff.answers", f.KickOff.Answers), checkAnswers("status.answers", f.Status.Answers),
		checkAnswers("delete.answers", f.Delete.Answers), f.Manifest.check(), f.File.check())...)
}

// accepted answers a kick-off that has started a job.
func (s *Server) accepted(w http.ResponseWriter, r *http.Request, j *job) {
	switch location := s.plan().KickOff.ContentLocation; location {
	case "missing":
	case "relative":
		w.Header().Set("Content-Location", statusPath+j.id)
	case "":
		w.Header().Set("Content-Location", s.origin(r)+statusPath+j.id)
	default:
		w.Header().Set("Content-Location", location+statusPath+j.id)
	}
	w.WriteHeader(http.StatusAccepted)
}
