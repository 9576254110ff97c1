package payersim

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// TokenFaults are the ways in which the authorization server misbehaves: its token endpoint, its discovery, and its look
// at the client's keys.
type TokenFaults struct {
	// Answers are what token requests get that are correct, in turn, before good ones. Their assertions are used up.
	Answers []Answer `yaml:"answers"`
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
	return errors.Join(
		checkAnswers("token.answers", f.Answers),
		checkStatus("token.refused_status", f.RefusedStatus),
		checkStatus("token.discovery.status", f.Discovery.Status),
		checkStatus("token.capability.status", f.Capability.Status),
	)
}

func checkStatus(name string, status int) error {
	if status != 0 && (status < 200 || status > 599) {
		return fmt.Errorf("payersim: fault %s must be an HTTP status from 200 to 599, not %d", name, status)
	}
	return nil
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
