package smartauth_test

import (
	"strings"
	"testing"
	"time"

	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
)

func TestDISC_a_token_endpoint_is_found_however_it_is_published(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string]payersim.TokenFaults{
		"DISC-1 below the base's own path":   {},
		"DISC-1 under another content type":  {Discovery: payersim.DocumentFaults{ContentType: "text/html"}},
		"DISC-2 relative to the host":        {Discovery: payersim.DocumentFaults{Members: map[string]any{"token_endpoint": "/auth/token"}}},
		"DISC-3 nothing but the endpoint":    {Discovery: payersim.DocumentFaults{Body: `{"token_endpoint":"/auth/token"}`}},
		"DISC-3 under-declared":              {Discovery: payersim.DocumentFaults{Members: map[string]any{"token_endpoint_auth_methods_supported": []string{"client_secret_basic"}, "capabilities": nil}}},
		"DISC-4 in the CapabilityStatement":  {Discovery: payersim.DocumentFaults{Status: 404}},
		"DISC-4 beside a page of HTML":       {Discovery: payersim.DocumentFaults{Body: "<html>login</html>"}},
		"DISC-5 after a failure in passing":  {Discovery: payersim.DocumentFaults{Status: 503, FailFirst: 1}, Capability: payersim.DocumentFaults{Status: 503, FailFirst: 1}},
		"DISC-7 without a readable metadata": {Capability: payersim.DocumentFaults{Status: 401}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := simulate(t, faults, payersim.Options{}, simKey())
			p.mustBeAccepted(p.source(nil, simKey()))
			if got := p.Stats().TokensRefused; got != 0 {
				t.Errorf("%d token requests were refused: the audience is not the endpoint byte for byte", got)
			}
		})
	}
}

func TestDISC1_a_base_may_end_with_a_slash(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{}, payersim.Options{}, simKey())
	source := p.source(func(r *smartauth.Registration) { r.FHIRURL += "/" }, simKey())
	p.mustBeAccepted(source)
}

func TestDISC3_what_a_server_does_not_declare_is_a_warning(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{Discovery: payersim.DocumentFaults{Members: map[string]any{
		"token_endpoint_auth_methods_supported":            []string{"client_secret_basic"},
		"token_endpoint_auth_signing_alg_values_supported": []string{"PS256"},
	}}}, payersim.Options{}, simKey())
	source := p.source(nil, simKey())
	p.mustBeAccepted(source)
	found, err := source.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	warnings := strings.Join(found.Warnings, "\n")
	for _, word := range []string{"private_key_jwt", "ES384"} {
		if !strings.Contains(warnings, word) {
			t.Errorf("the warnings do not mention %s: %s", word, warnings)
		}
	}
	p.manager.Close()
	if !strings.Contains(p.log.String(), "private_key_jwt") {
		t.Errorf("the warning is not logged: %s", p.log.String())
	}
}

func TestDISC4_without_any_source_the_error_names_all_three(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{
		Discovery:  payersim.DocumentFaults{Status: 404},
		Capability: payersim.DocumentFaults{Members: map[string]any{"rest": nil}},
	}, payersim.Options{}, simKey())
	failure := p.refusal(p.source(nil, simKey()))
	for _, name := range []string{"token_url", "smart-configuration", "CapabilityStatement"} {
		if !strings.Contains(failure.Error()+failure.Hint, name) {
			t.Errorf("%q does not name %s", failure, name)
		}
	}
	// The configured endpoint comes before all discovery.
	p.mustBeAccepted(p.source(func(r *smartauth.Registration) { r.TokenURL = p.url + "/auth/token" }, simKey()))
}

func TestDISC5_nothing_fails_while_discovery_is_down_in_mid_export(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{}, payersim.Options{}, simKey())
	source := p.source(nil, simKey())
	p.mustBeAccepted(source)
	down := payersim.DocumentFaults{Status: 503}
	if err := p.SetFaults(payersim.Faults{Token: payersim.TokenFaults{Discovery: down, Capability: down}}); err != nil {
		t.Fatal(err)
	}
	p.RevokeTokens()
	p.mustBeAccepted(source)
	p.mustBeAccepted(p.source(nil, simKey())) // another source of the same server
}

func TestTOK2_scopes_in_the_spelling_that_the_server_understands(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		syntax  string
		declare any // capabilities; nil: nothing is declared
		edit    func(*smartauth.Registration)
	}{
		"v1 declared":               {"v1", []string{"permission-v1"}, nil},
		"v2 declared":               {"v2", []string{"permission-v2"}, nil},
		"v1 undeclared":             {"v1", nil, nil},
		"v2 undeclared":             {"v2", nil, nil},
		"v2 declared as both":       {"v2", []string{"permission-v1", "permission-v2"}, nil},
		"verbatim wildcard of DPC":  {"v1", nil, func(r *smartauth.Registration) { r.Scopes = []string{"system/*.*"} }},
		"verbatim with more rights": {"v2", nil, func(r *smartauth.Registration) { r.Scopes = []string{"system/*.cruds"} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := simulate(t, payersim.TokenFaults{Discovery: payersim.DocumentFaults{Members: map[string]any{
				"capabilities": test.declare, "scopes_supported": nil,
			}}}, payersim.Options{ScopeSyntax: test.syntax}, simKey())
			source := p.source(test.edit, simKey())
			p.mustBeAccepted(source)
			p.RevokeTokens()
			p.mustBeAccepted(source)
			if got := p.Stats().TokensRefused; got > 1 {
				t.Errorf("%d requests were refused: what the server understands is not remembered", got)
			}
		})
	}
}

func TestTOK4_a_narrower_grant_names_what_is_missing(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{WithoutTypes: []string{"Coverage"}}, payersim.Options{}, simKey())
	source := p.source(func(r *smartauth.Registration) { r.Types = []string{"Patient", "Coverage"} }, simKey())
	err := source.CheckScopes(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Coverage") || strings.Contains(err.Error(), "Patient") {
		t.Errorf("got %v, want an error that names Coverage alone", err)
	}
	if err := p.SetFaults(payersim.Faults{Token: payersim.TokenFaults{Members: map[string]any{"scope": nil}}}); err != nil {
		t.Fatal(err)
	}
	source.Invalidate(p.tokenOf(source))
	if err := source.CheckScopes(t.Context()); err != nil {
		t.Errorf("an answer without scope grants what was asked: %v", err)
	}
}

func TestJWT4_clocks_that_differ_by_days_are_the_named_cause(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{}, payersim.Options{ClockOffset: 48 * time.Hour}, simKey())
	failure := p.refusal(p.source(nil, simKey()))
	if failure.Code != smartauth.CodeClockSkew || !strings.Contains(failure.Hint, "NTP") {
		t.Errorf("got %v (hint %q), want clock_skew", failure, failure.Hint)
	}
}

func TestJWT3_a_gateway_has_its_own_audience(t *testing.T) {
	t.Parallel()
	const audience = "https://gateway.example.org/token"
	jwks, err := smartauth.NewJWKS(simKey())
	if err != nil {
		t.Fatal(err)
	}
	p := simulate(t, payersim.TokenFaults{}, payersim.Options{Clients: []payersim.Client{{ID: clientID, JWKS: jwks, Audience: audience}}})
	p.mustBeAccepted(p.source(func(r *smartauth.Registration) { r.Audience = audience }, simKey()))
}
