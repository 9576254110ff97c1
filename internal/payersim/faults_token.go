package payersim

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TokenFaults are the ways in which the authorization server misbehaves: its token endpoint, its discovery, and its look
// at the client's keys.
type TokenFaults struct {
	// Answers are what token requests get that are correct, in turn, before good ones. Their assertions are used up.
	Answers []TokenAnswer `yaml:"answers"`
	// Members replace members of a good answer, as JSON; a null member is left out. expires_in changes what the server
	// says, not how long the token lives.
	Members map[string]any `yaml:"members"`
	// WithoutTypes are resource types that are not granted although they were asked for.
	WithoutTypes []string `yaml:"without_types"`
	// RefusedStatus is the status, without a body, for a token that is expired, revoked or unknown, where it is not 401:
	// AB2D answers 403 (USE-4).
	RefusedStatus int `yaml:"refused_status"`
	// RefuseAll refuses every token with 401, also a fresh one.
	RefuseAll bool `yaml:"refuse_all"`
	// KeepsJWKS makes the server believe a key set from a URL until its max-age is over, also when it lacks the kid.
	KeepsJWKS bool `yaml:"keeps_jwks"`

	// Discovery is the fate of .well-known/smart-configuration, Capability that of metadata.
	Discovery  DocumentFaults `yaml:"discovery"`
	Capability DocumentFaults `yaml:"capability"`
}

// TokenAnswer is a bad answer of the token endpoint. Without any field but Times it is an empty 200.
type TokenAnswer struct {
	// Times is how often it is given; 0 is once, negative for ever.
	Times int `yaml:"times"`
	// Status is the HTTP status, 200 without.
	Status int `yaml:"status"`
	// Headers are added as they stand: Retry-After, Location, Content-Type (default application/json).
	Headers map[string]string `yaml:"headers"`
	// Body is sent as it stands.
	Body string `yaml:"body"`
	// Padding is how many bytes of white space follow the body.
	Padding int64 `yaml:"padding"`
	// Silence is how long nothing is sent, not even the status.
	Silence time.Duration `yaml:"silence"`
	// Reset breaks the connection instead of an answer: "unread" grants nothing, "granted" issues the token first, so that
	// its answer is lost.
	Reset string `yaml:"reset"`
}

// DocumentFaults are the fate of a document that anybody may read.
type DocumentFaults struct {
	// Status is answered instead of the document, FailFirst times; with FailFirst 0, always.
	Status    int `yaml:"status"`
	FailFirst int `yaml:"fail_first"`
	// ContentType replaces the document's own.
	ContentType string `yaml:"content_type"`
	// Body replaces the document.
	Body string `yaml:"body"`
	// Members replace members of the document, as JSON; a null member is left out.
	Members map[string]any `yaml:"members"`
}

func (f TokenFaults) check() error {
	var errs []error
	for i, answer := range f.Answers {
		if !slices.Contains([]string{"", "unread", "granted"}, answer.Reset) {
			errs = append(errs, fmt.Errorf("payersim: fault token.answers[%d].reset must be unread or granted, not %q", i, answer.Reset))
		}
		if answer.Padding < 0 || answer.Silence < 0 {
			errs = append(errs, fmt.Errorf("payersim: fault token.answers[%d] must not be negative", i))
		}
		errs = append(errs, checkStatus(fmt.Sprintf("token.answers[%d].status", i), answer.Status))
	}
	return errors.Join(append(errs,
		checkStatus("token.refused_status", f.RefusedStatus),
		checkStatus("token.discovery.status", f.Discovery.Status),
		checkStatus("token.capability.status", f.Capability.Status),
	)...)
}

func checkStatus(name string, status int) error {
	if status != 0 && (status < 200 || status > 599) {
		return fmt.Errorf("payersim: fault %s must be an HTTP status from 200 to 599, not %d", name, status)
	}
	return nil
}

// badAnswer is the next of the bad answers whose turns are not over, nil for a good one.
func (s *Server) badAnswer() *TokenAnswer {
	plan := s.plan()
	for i := range plan.Token.Answers {
		answer := &plan.Token.Answers[i]
		if answer.Times < 0 {
			s.count.faults.Add(1)
			return answer
		}
		if s.strike("token.answers["+strconv.Itoa(i)+"]", max(answer.Times, 1)) {
			return answer
		}
	}
	return nil
}

// misanswer gives a bad answer to a good token request.
func (s *Server) misanswer(w http.ResponseWriter, r *http.Request, answer *TokenAnswer, grant func() string) {
	if answer.Silence > 0 {
		select {
		case <-time.After(answer.Silence):
		case <-r.Context().Done():
			return
		}
	}
	if answer.Reset != "" {
		if answer.Reset == "granted" {
			grant()
		}
		reset(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	for name, value := range answer.Headers {
		w.Header().Set(name, value)
	}
	status := answer.Status
	if status == 0 {
		status = http.StatusOK
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(answer.Body)) // the client may be gone
	space := []byte(strings.Repeat(" ", 64<<10))
	for left := answer.Padding; left > 0; left -= int64(len(space)) {
		if _, err := w.Write(space[:min(left, int64(len(space)))]); err != nil {
			return
		}
	}
}

// reset breaks the connection of a request, as a firewall does.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 ends the stream alone
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // so that closing sends RST
	}
	_ = conn.Close()
}

// replaceMembers returns an object with members replaced or, where they are null, left out.
func replaceMembers(object, members map[string]any) map[string]any {
	changed := maps.Clone(object)
	for name, value := range members {
		if value == nil {
			delete(changed, name)
		} else {
			changed[name] = value
		}
	}
	return changed
}

// serveDocument answers with a document as the faults have it.
func (s *Server) serveDocument(w http.ResponseWriter, name, contentType string, faults DocumentFaults, document map[string]any) {
	if faults.Status != 0 && (faults.FailFirst == 0 || s.strike(name, faults.FailFirst)) {
		writeBody(w, faults.Status, "text/plain", nil)
		return
	}
	if faults.ContentType != "" {
		contentType = faults.ContentType
	}
	if faults.Body != "" {
		writeBody(w, http.StatusOK, contentType, []byte(faults.Body))
		return
	}
	body, err := json.Marshal(replaceMembers(document, faults.Members))
	if err != nil {
		panic(err) // what YAML can hold always marshals
	}
	writeBody(w, http.StatusOK, contentType, body)
}
