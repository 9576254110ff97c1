package scheduler

import (
	"testing"
	"time"

	"ingestd/internal/export"
	"ingestd/internal/smartauth"
)

func TestTOK5_a_token_that_is_refused_while_an_export_runs_is_asked_for_again(t *testing.T) {
	t.Parallel()
	refused := &smartauth.Error{Code: "invalid_client", Status: 401, RetryAfter: time.Minute}
	running := &export.Error{Phase: export.PhaseStatus, Code: export.CodeAuthorization, Action: export.ActionRetry, RetryAfter: time.Minute, Err: refused}
	if act, wait := action(running); act != export.ActionRetry || wait != time.Minute {
		t.Errorf("of an export that runs: got %s after %s, want a retry after a minute", act, wait)
	}
	if failure, _ := describe(running); failure.Code != "auth_invalid_client" {
		t.Errorf("got code %s, want the authorization server's", failure.Code)
	}
	if act, _ := action(refused); act != export.ActionFail {
		t.Errorf("before the kick-off: got %s, want the export to fail", act)
	}
}
