package smartauth

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"ingestd/internal/failpoint"
)

// round is one need for a token: an attempt, and those that follow from how it was refused. Each signs a new assertion.
type round struct {
	grant        *grant
	registration *Registration
	discovery    *Discovery
	timeout      time.Duration
	keys         []*Key // for private_key_jwt: those of the moment
	// syntax and keyIndex are what to begin with and, after a success, what worked.
	syntax   scopeSyntax
	keyIndex int
	ownClock bool // date assertions by this machine's clock, not by the server's
}

// useKeys sets the keys and begins with the one that the server accepted last, unless another key has come to the front
// since: that one is to be tried.
func (r *round) useKeys(keys []*Key, front, accepted *Key) {
	if r.registration.Method != MethodPrivateKeyJWT {
		return
	}
	r.keys = keys
	if len(keys) > 0 && keys[0] == front {
		r.keyIndex = max(slices.Index(keys, accepted), 0)
	}
}

// key is the one in use; nil for methods without.
func (r *round) key() *Key {
	if len(r.keys) == 0 {
		return nil
	}
	return r.keys[r.keyIndex]
}

// run makes the attempts. It gives up at the first failure that another attempt at once cannot mend.
func (r *round) run(ctx context.Context) (Token, *Error) {
	startSyntax, startKey := r.syntax, r.keyIndex
	ownClock, _ := r.grant.skew.choice()
	r.ownClock = ownClock
	var first *Error
	again, clockCorrected, otherClock := false, false, false
	for attempt := 1; ; attempt++ {
		scopes := r.registration.scopesFor(r.syntax)
		result, failure := r.attempt(ctx, scopes)
		if failure == nil {
			if r.keyIndex != startKey {
				r.logger().Warn("the server refused one signing key and accepted another: finish or undo the rotation",
					slog.String("refused_kid", r.registration.kidOf(r.keys, startKey)),
					slog.String("accepted_kid", r.registration.kidOf(r.keys, r.keyIndex)))
			}
			if r.ownClock != ownClock {
				r.grant.skew.choose(r.ownClock)
				r.logger().Warn("the Date of the authorization server's answers is not the time that it judges assertions by",
					slog.Bool("own_clock", r.ownClock))
			}
			return r.token(result, scopes), nil
		}
		r.ownClock = ownClock
		if first == nil {
			first = failure
		}
		if attempt == roundLimit || !failure.authFault() || failure.Code == CodeEndpointMissing {
			return Token{}, r.verdict(first, failure)
		}
		switch {
		case failure.Code == "invalid_scope":
			if len(r.registration.Scopes) > 0 || r.syntax != startSyntax {
				return Token{}, r.verdict(first, failure)
			}
			r.syntax = r.syntax.other()
		case result.skewChanged && !clockCorrected && r.registration.Method == MethodPrivateKeyJWT:
			clockCorrected = true // the next assertion has the right time
		case failure.keyFault() && !otherClock && r.clocksDiffer():
			otherClock, r.ownClock = true, !ownClock
		case failure.keyFault() && len(r.keys) > 1 && r.keyIndex == startKey && !again:
			r.keyIndex = (r.keyIndex + 1) % len(r.keys)
			again = true
		case !again:
			again = true
			if sleep(ctx, tryAgainPause) != nil {
				return Token{}, first
			}
		default:
			return Token{}, r.verdict(first, failure)
		}
	}
}

// clocksDiffer reports whether an assertion would be dated otherwise by the other clock.
func (r *round) clocksDiffer() bool {
	_, differ := r.grant.skew.choice()
	return differ && r.registration.Method == MethodPrivateKeyJWT
}

// attempt sends one request and reports what it teaches about the server's clock.
func (r *round) attempt(ctx context.Context, scopes []string) (outcome, *Error) {
	request := tokenRequest{
		registration: r.registration,
		endpoint:     r.grant.endpoint,
		scopes:       scopes,
		skew:         r.grant.skew,
		ownClock:     r.ownClock,
		timeout:      r.timeout,
	}
	if key := r.key(); key != nil {
		request.key, request.kid = key, r.registration.kidOf(r.keys, r.keyIndex)
		request.algorithm = algorithmFor(key, r.discovery.Algorithms)
	} else if r.registration.Method == MethodPrivateKeyJWT {
		return outcome{}, &Error{
			Code: CodeCredential, Hint: hintFor(CodeCredential), Payer: r.registration.Payer, Host: r.grant.host,
			Description: "there is no active key",
		}
	}
	failpoint.Here(failpoint.TokenSend)
	result, failure := request.send(ctx)
	failpoint.Here(failpoint.TokenGranted)
	r.grant.manager.metrics.requested(r.registration.Payer, failure)
	if result.skewChanged && result.offset.Abs() > skewAlert {
		r.logger().Warn("the clock of this machine and the authorization server's differ: assertions are dated by the server's",
			slog.Duration("server_ahead_by", result.offset.Round(time.Second)))
	}
	return result, failure
}

// verdict is the failure to report of a round: the first refusal, since what followed it were guesses. A clock too far off to
// be corrected for is named as the cause, whatever the server called it.
func (r *round) verdict(first, last *Error) *Error {
	if last.Temporary || !first.authFault() {
		return last
	}
	skew, _ := r.grant.skew.seen()
	if skew.Abs() > skewMax && r.registration.Method == MethodPrivateKeyJWT && first.keyFault() {
		e := *first
		e.Code, e.Hint = CodeClockSkew, hintFor(CodeClockSkew)
		e.Description = clean(describeSkew(skew)+"; it said "+first.Code+": "+first.Description, 250)
		return &e
	}
	return first
}

func (r *round) token(result outcome, scopes []string) Token {
	response := result.response
	if response.lifeNote != "" {
		r.logger().Warn("the token's life is not what the server said", slog.String("note", response.lifeNote),
			slog.Duration("life", response.life))
	}
	granted := scopes
	if response.hasScope {
		granted = response.scopes
	}
	return Token{
		Scopes:   slices.Clone(granted),
		Obtained: result.sent,
		Expires:  result.sent.Add(response.life),
		value:    response.value,
	}
}

func (r *round) logger() *slog.Logger {
	return r.grant.manager.logger.With(slog.String("payer", r.registration.Payer), slog.String("token_host", r.grant.host))
}
