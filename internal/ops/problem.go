package ops

import (
	"errors"
	"fmt"
	"net/http"

	"ingestd/internal/scheduler"
	"ingestd/internal/store"
)

// Problem is why something that was asked for was not done: the body of each error of the admin API. Codes are stable.
type Problem struct { //nolint:errname // it is the body of an answer as well
	Code    string `json:"code"`
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"`
	Status  int    `json:"-"` // of HTTP
}

func (p *Problem) Error() string { return p.Message }

// The codes of problems by which a caller decides.
const (
	CodeUnknownPayer = "unknown_payer"
	CodeBadRequest   = "bad_request"
	CodeConfigured   = "configured"
)

// Explain says what an error of Direct or Client is: its code, what to do, and the status that HTTP has for it.
func Explain(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	p := &Problem{Code: "internal", Message: err.Error(), Status: http.StatusInternalServerError}
	var state *scheduler.StateError
	var series *scheduler.SeriesChangedError
	var payer *scheduler.UnknownPayerError
	var gone *store.GoneError
	var tooOld *store.SchemaTooOldError
	var tooNew *store.SchemaTooNewError
	switch {
	case errors.As(err, &payer):
		p.Code, p.Status, p.Hint = CodeUnknownPayer, http.StatusNotFound, "'ingestd status' names the payers"
	case errors.As(err, &gone):
		p.Code, p.Status = "export_gone", http.StatusGone
		p.Hint = fmt.Sprintf("'ingestd audit list --all --object \"export %d\"' tells what became of it", gone.ID)
	case errors.Is(err, store.ErrNoExport):
		p.Code, p.Status, p.Hint = "no_export", http.StatusNotFound, "'ingestd exports list' names the exports"
	case errors.Is(err, store.ErrNoQuarantinedLine):
		p.Code, p.Status, p.Hint = "no_line", http.StatusNotFound, "'ingestd quarantine list' names the lines"
	case errors.Is(err, store.ErrNotPublished):
		p.Code, p.Status = "wrong_state", http.StatusConflict
	case errors.Is(err, store.ErrOvertaken):
		p.Code, p.Status, p.Hint = "overtaken", http.StatusConflict, "'ingestd run PAYER --full' brings what is still there"
	case errors.As(err, &state):
		p.Code, p.Status, p.Hint = "wrong_state", http.StatusConflict, "'ingestd exports show' tells how it got there"
	case errors.As(err, &series):
		p.Code, p.Status, p.Hint = "request_changed", http.StatusConflict, "'ingestd run' asks for what the configuration says"
	case errors.Is(err, store.ErrExportRunning):
		p.Code, p.Status = "export_running", http.StatusConflict
		p.Hint = "wait for it, or end it by 'ingestd exports cancel': 'ingestd status' says where it stands"
	case errors.As(err, &tooOld), errors.As(err, &tooNew), errors.Is(err, store.ErrEngineTooOld):
		p.Code, p.Status = "schema", http.StatusServiceUnavailable
	case store.SQLState(err) != "", store.MayComeUp(err):
		p.Code, p.Status = "database", http.StatusServiceUnavailable
	}
	return p
}
