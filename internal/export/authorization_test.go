package export

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"ingestd/internal/smartauth"
)

// TestTOK5_a_client_that_is_refused_while_an_export_runs_does_not_end_it: an authorization server says invalid_client too while it
// cannot fetch the client's keys, and days of a payer's work are not given up for that. A kick-off has nothing to lose.
func TestTOK5_a_client_that_is_refused_while_an_export_runs_does_not_end_it(t *testing.T) {
	t.Parallel()
	tokens := httptest.NewServer(answer(http.StatusUnauthorized, nil, `{"error":"invalid_client"}`))
	t.Cleanup(tokens.Close)
	manager := smartauth.NewManager(smartauth.ManagerOptions{})
	t.Cleanup(manager.Close)
	p := newPayer(t, answer(http.StatusAccepted, nil, ""), func(o *Options) {
		source, err := manager.Source(smartauth.Registration{
			Payer: o.Payer.Name, FHIRURL: o.Payer.FHIRURL, Method: smartauth.MethodClientSecretPost, ClientID: "us", TokenURL: tokens.URL,
			ClientSecret: func(context.Context) (string, error) { return "secret", nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		o.Authorized = source.Transport(nil, smartauth.TransportOptions{})
	})
	_, err := p.client.Poll(t.Context(), p.URL+"/status")
	if e := wantError(t, err, CodeAuthorization, ActionRetry); e.RetryAfter < 30*time.Second {
		t.Errorf("status: got a pause of %s, want one of minutes", e.RetryAfter)
	}
	_, err = p.client.Open(t.Context(), File{URL: p.URL + "/file", RequiresAccessToken: true})
	wantError(t, err, CodeAuthorization, ActionRetry)
	_, err = p.client.KickOff(t.Context(), KickOffRequest{})
	wantError(t, err, CodeAuthorization, ActionFail)
	if got := len(p.seen()); got != 0 {
		t.Errorf("the payer got %d requests, want none without a token", got)
	}
}
