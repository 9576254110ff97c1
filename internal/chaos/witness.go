package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/golang-jwt/jwt/v5"

	"ingestd/internal/payersim"
)

// witness has seen every secret that crossed the wire, and what belongs to patients. None of it may stand anywhere else.
type witness struct {
	mu sync.Mutex
	// tokens and assertions are those that were issued and sent.
	tokens, assertions map[string]struct{}
	// jtis counts the uses of each, by client.
	jtis map[string]int
	// abroad are Authorization headers that came to an origin which is nobody's.
	abroad int
	// keys are the private keys, without the lines about them.
	keys []string
}

func newWitness() *witness {
	return &witness{tokens: make(map[string]struct{}), assertions: make(map[string]struct{}), jtis: make(map[string]int)}
}

// sawAssertion notes a client assertion.
func (w *witness) sawAssertion(assertion string) {
	claims := jwt.MapClaims{}
	// The payer verifies it; here it is only read.
	if _, _, err := jwt.NewParser().ParseUnverified(assertion, claims); err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.assertions[assertion] = struct{}{}
	w.jtis[fmt.Sprint(claims["iss"], " ", claims["jti"])]++
}

// sawTokenResponse notes the token of a token response.
func (w *witness) sawTokenResponse(body []byte) {
	var response struct {
		AccessToken string `json:"access_token"`
	}
	if json.Unmarshal(body, &response) != nil || response.AccessToken == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tokens[response.AccessToken] = struct{}{}
}

func (w *witness) sawAbroad() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.abroad++
}

// sawKey notes a private key in PEM.
func (w *witness) sawKey(pem []byte) {
	for line := range strings.Lines(string(pem)) {
		if line = strings.TrimSpace(line); len(line) > 40 && !strings.HasPrefix(line, "-----") {
			w.keys = append(w.keys, line)
		}
	}
}

// reused are the jtis that were sent more than once.
func (w *witness) reused() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, uses := range w.jtis {
		if uses > 1 {
			n++
		}
	}
	return n
}

// valued is an Identifier or a ContactPoint.
type valued struct {
	Value string `json:"value"`
}

// patientData are texts that only patients' data hold: ids, member numbers and telephone numbers of the patients of a payer.
func patientData(ctx context.Context, sim *payersim.Server) ([]string, error) {
	var found []string
	for round := range sim.Stats().Round + 1 {
		err := sim.TruthAt(ctx, round, []string{"Patient"}, func(_, id string, line []byte) bool {
			var patient struct {
				Identifier []valued `json:"identifier"`
				Telecom    []valued `json:"telecom"`
			}
			if json.Unmarshal(line, &patient) != nil {
				return true
			}
			found = append(found, id)
			for _, value := range slices.Concat(patient.Identifier, patient.Telecom) {
				found = append(found, value.Value)
			}
			return true
		})
		if err != nil {
			return nil, fmt.Errorf("read a payer's patients: %w", err)
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// leaks says which kinds of what must be seen nowhere stand in a text, without repeating them.
func (w *witness) leaks(text []byte, patients []string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []string
	say := func(kind string, n int) {
		if n > 0 {
			found = append(found, fmt.Sprintf("%d %s", n, kind))
		}
	}
	say("access tokens", among(text, w.tokens))
	say("client assertions", among(text, w.assertions))
	say("lines of private keys", count(text, w.keys))
	say("patients' ids and numbers", count(text, patients))
	return found
}

func among(text []byte, secrets map[string]struct{}) int {
	n := 0
	for secret := range secrets {
		if bytes.Contains(text, []byte(secret)) {
			n++
		}
	}
	return n
}

func count(text []byte, secrets []string) int {
	n := 0
	for _, secret := range secrets {
		if bytes.Contains(text, []byte(secret)) {
			n++
		}
	}
	return n
}
