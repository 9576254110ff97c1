package payersim

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// maxAssertionLife is how far ahead exp may lie. SMART App Launch 2.2, Client Authentication: Asymmetric, claims.
const maxAssertionLife = 5 * time.Minute

// jti names an assertion for ever: the hash of client and jti, so that memory per assertion does not depend on the
// client.
type jti [sha256.Size]byte

// authenticate verifies a client assertion and uses it up. The error says what is wrong, in words for the client's
// author.
func (s *Server) authenticate(ctx context.Context, assertion, tokenURL string) (*client, error) {
	var who *client
	parser := jwt.NewParser(
		jwt.WithValidMethods(s.opts.Algorithms),
		jwt.WithStrictDecoding(),
		jwt.WithJSONNumber(),
		jwt.WithoutClaimsValidation(), // stricter rules than the library's follow
	)
	claims := jwt.MapClaims{}
	_, err := parser.ParseWithClaims(assertion, claims, func(t *jwt.Token) (any, error) {
		issuer, ok := claims["iss"].(string)
		if !ok {
			return nil, errors.New("iss is missing or no string")
		}
		s.mu.Lock()
		who = s.clients[issuer]
		s.mu.Unlock()
		if who == nil {
			return nil, errors.New("iss is not a registered client_id")
		}
		kid, err := who.checkHeader(t.Header)
		if err != nil {
			return nil, err
		}
		return who.key(ctx, kid, t.Method.Alg())
	})
	if err != nil {
		return nil, fmt.Errorf("client assertion: %w", err)
	}
	if who.audience != "" {
		tokenURL = who.audience
	}
	id, err := checkClaims(claims, tokenURL, s.now())
	if err != nil {
		return nil, fmt.Errorf("client assertion: %w", err)
	}
	key := jti(sha256.Sum256([]byte(who.id + "\x00" + id)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, seen := s.used[key]; seen {
		return nil, errors.New("client assertion: this jti has been used before")
	}
	s.used[key] = struct{}{}
	return who, nil
}

// checkHeader returns the kid of a header that has the required members and no surprising ones.
func (c *client) checkHeader(header map[string]any) (kid string, err error) {
	if header["typ"] != "JWT" {
		return "", errors.New(`header typ must be "JWT"`)
	}
	kid, ok := header["kid"].(string)
	if !ok || kid == "" {
		return "", errors.New("header kid is missing or no string")
	}
	for name, value := range header {
		switch name {
		case "alg", "kid", "typ":
		case "jku":
			if c.url == "" || value != c.url {
				return "", errors.New("header jku is not the JWKS URL that the client registered")
			}
		default:
			return "", fmt.Errorf("header %q is not known", name)
		}
	}
	return kid, nil
}

// checkClaims returns the jti of claims that fulfil every rule. RFC 7523 section 3 and SMART App Launch 2.2, claims.
func checkClaims(claims jwt.MapClaims, tokenURL string, now time.Time) (id string, err error) {
	for name := range claims {
		if !slices.Contains([]string{"iss", "sub", "aud", "exp", "jti", "iat", "nbf"}, name) {
			return "", fmt.Errorf("claim %q is not known", name)
		}
	}
	if claims["sub"] != claims["iss"] {
		return "", errors.New("sub must equal iss")
	}
	audience, ok := claims["aud"].(string)
	if !ok {
		return "", errors.New("aud must be a JSON string")
	}
	if audience != tokenURL {
		return "", fmt.Errorf("aud must be %s, byte for byte", tokenURL)
	}
	expires, ok := wholeNumber(claims["exp"])
	switch {
	case !ok:
		return "", errors.New("exp is missing or no whole number of seconds")
	case !time.Unix(expires, 0).After(now):
		return "", errors.New("exp is past")
	case time.Unix(expires, 0).After(now.Add(maxAssertionLife)):
		return "", errors.New("exp is more than 5 minutes ahead")
	}
	for _, name := range []string{"iat", "nbf"} {
		value, present := claims[name]
		if !present {
			continue
		}
		instant, ok := wholeNumber(value)
		if !ok {
			return "", fmt.Errorf("%s is no whole number of seconds", name)
		}
		// A clock that runs a minute ahead is common enough for iat; nbf is exactly the promise not to come earlier.
		leeway := time.Minute
		if name == "nbf" {
			leeway = 0
		}
		if time.Unix(instant, 0).After(now.Add(leeway)) {
			return "", fmt.Errorf("%s lies in the future", name)
		}
	}
	id, ok = claims["jti"].(string)
	if !ok || id == "" {
		return "", errors.New("jti is missing or no string")
	}
	return id, nil
}

func wholeNumber(value any) (int64, bool) {
	number, ok := value.(json.Number)
	if !ok {
		return 0, false
	}
	n, err := number.Int64()
	return n, err == nil
}
