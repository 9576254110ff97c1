package smartauth

import (
	"errors"
	"net/url"
	"slices"
)

// client is where a client id is used.
type client struct {
	payer string
	home  origin
}

// note remembers the client of a source. What was configured once is not forgotten: an export may go on with it.
func (m *Manager) note(s *Source) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id, used := s.registration.ClientID, client{s.registration.Payer, s.home}
	if !slices.Contains(m.clients[id], used) {
		m.clients[id] = append(m.clients[id], used)
	}
}

// checkNamed refuses the token endpoint that a payer's discovery names, where it lies elsewhere than the FHIR server, and another payer
// with another FHIR server has given the same client id: it may be the endpoint of that one, whose token would go to this payer's server.
// (OAuth calls it mix-up.) An endpoint that the configuration names is the operator's word.
// It is asked at each use: the other payer may have come with a change of the configuration.
func (m *Manager) checkNamed(s *Source, endpoint string) error {
	if s.directory == nil {
		return nil
	}
	if u, err := url.Parse(endpoint); err == nil && originOf(u) == s.home {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, other := range m.clients[s.registration.ClientID] {
		if other.payer != s.registration.Payer && other.home != s.home {
			return &Error{
				Code: CodeForeignEndpoint, Hint: hintFor(CodeForeignEndpoint), Payer: s.registration.Payer, Host: hostOf(endpoint),
				cause: errors.New("payer " + other.payer + " has the same client_id"),
			}
		}
	}
	return nil
}
