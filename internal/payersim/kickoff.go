package payersim

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

type level int

const (
	levelSystem level = iota
	levelPatient
	levelGroup
)

// kickOff is the handler of one level's $export. Bulk Data 3.0, Kick-off Request.
func (s *Server) kickOff(at level) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t, ok := s.authorize(w, r)
		if !ok {
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodPost {
			s.methodNotAllowed(w, r, "GET, POST")
			return
		}
		if at == levelGroup && !slices.Contains(s.opts.Groups, r.PathValue("group")) {
			s.refuse(w, r, refusal{status: http.StatusNotFound, code: "not-found", text: "this group does not exist"})
			return
		}
		req, err := s.readKickOff(w, r)
		if err != "" {
			s.refuse(w, r, refusal{status: http.StatusBadRequest, code: "invalid", text: err})
			return
		}
		named := len(req.types) > 0
		for _, resourceType := range req.types {
			if !t.grants.allow(resourceType) {
				s.insufficientScope(w, r, resourceType)
				return
			}
		}
		if !named {
			req.types = s.typesOf(at, t.grants)
		}
		if len(req.types) == 0 {
			s.insufficientScope(w, r, "any type of this export")
			return
		}
		if s.strike("kickoff_fail_first", s.plan().KickOffFailFirst) {
			s.refuse(w, r, s.unavailable())
			return
		}
		begin := func() *job {
			s.count.kickOffs.Add(1)
			return s.start(t.client, s.origin(r)+r.URL.RequestURI(), req)
		}
		if bad := s.badAnswer("kickoff.answers", s.plan().KickOff.Answers); bad != nil {
			s.misanswer(w, r, bad, func() { begin() })
			return
		}
		s.accepted(w, r, begin())
	}
}

// readKickOff checks headers and parameters; the string says what is wrong.
func (s *Server) readKickOff(w http.ResponseWriter, r *http.Request) (exportRequest, string) {
	if accept := r.Header["Accept"]; len(accept) != 1 || accept[0] != "application/fhir+json" {
		return exportRequest{}, "the header Accept must be application/fhir+json"
	}
	preferences := preferences(r)
	if !slices.Contains(preferences, "respond-async") {
		return exportRequest{}, "the header Prefer must contain respond-async"
	}
	var raw parameters
	var err error
	if r.Method == http.MethodPost {
		raw, err = bodyParameters(w, r)
	} else {
		raw, err = queryParameters(r)
	}
	if err != nil {
		return exportRequest{}, err.Error()
	}
	req, err := raw.read(s.source.types(), s.newest(), slices.Contains(preferences, "handling=lenient"))
	if err != nil {
		return req, err.Error()
	}
	return req, ""
}

// preferences are the values of all Prefer headers. RFC 7240, section 2.
func preferences(r *http.Request) []string {
	var out []string
	for _, header := range r.Header.Values("Prefer") {
		for part := range strings.SplitSeq(header, ",") {
			out = append(out, strings.TrimSpace(part))
		}
	}
	return out
}

// typesOf are the types of an export that names none: everything at system level, the patient compartment elsewhere,
// and of these what the token may read.
func (s *Server) typesOf(at level, may grants) []string {
	var out []string
	for _, resourceType := range s.source.types() {
		if (at == levelSystem || !associated[resourceType]) && may.allow(resourceType) {
			out = append(out, resourceType)
		}
	}
	return out
}

// start makes a job. Each export after the first starts a new round of the data; its instant is later than every
// earlier one.
func (s *Server) start(clientID, requestURL string, req exportRequest) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	instant := s.tick()
	if s.started {
		s.source.advance(instant)
	}
	s.started = true
	s.shown = s.source.round()
	for id, old := range s.jobs {
		if instant.After(old.expires().Add(s.opts.JobLifetime)) {
			delete(s.jobs, id)
		}
	}
	j := &job{
		id: secret(), client: clientID, request: requestURL, exportRequest: req, round: s.shown, transactionTime: instant,
		ready: s.now().Add(s.plan().ExportDuration), lifetime: s.opts.JobLifetime,
	}
	s.jobs[j.id] = j
	return j
}

// tick is the payer's clock to the millisecond, but always later than the last time. The caller holds s.mu.
func (s *Server) tick() time.Time {
	instant := s.now().UTC().Truncate(time.Millisecond)
	if !instant.After(s.last) {
		instant = s.last.Add(time.Millisecond)
	}
	s.last = instant
	return instant
}

// newest is the payer's clock, or the newest transactionTime where that is a moment ahead of it: no `_since` may be
// later.
func (s *Server) newest() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.now(); now.After(s.last) {
		return now
	}
	return s.last
}

// serveDiscovery is the SMART configuration. SMART App Launch 2.2, Conformance.
func (s *Server) serveDiscovery(w http.ResponseWriter, r *http.Request) {
	permissions := []string{"permission-v1", "permission-v2"}
	if s.opts.ScopeSyntax != "" {
		permissions = []string{"permission-" + s.opts.ScopeSyntax}
	}
	s.serveDocument(w, "token.discovery", "application/json", s.plan().Token.Discovery, map[string]any{
		"token_endpoint":                                   s.origin(r) + tokenPath,
		"grant_types_supported":                            []string{"client_credentials"},
		"token_endpoint_auth_methods_supported":            s.authMethods(),
		"token_endpoint_auth_signing_alg_values_supported": s.opts.Algorithms,
		"scopes_supported":                                 []string{"system/*.read", "system/*.rs"},
		"capabilities":                                     append([]string{"client-confidential-asymmetric"}, permissions...),
	})
}

// serveCapability is a minimal CapabilityStatement. Bulk Data 3.0, Server Capability Documentation.
func (s *Server) serveCapability(w http.ResponseWriter, r *http.Request) {
	type object = map[string]any
	operation := func(name, canonical string) []object {
		return []object{{"name": name, "definition": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/" + canonical}}
	}
	resources := []object{}
	for _, resourceType := range s.source.types() {
		resource := object{"type": resourceType}
		if resourceType == "Patient" {
			resource["operation"] = operation("export", "patient-export")
		}
		resources = append(resources, resource)
	}
	resources = append(resources, object{"type": "Group", "operation": operation("export", "group-export")})
	s.serveDocument(w, "token.capability", "application/fhir+json", s.plan().Token.Capability, object{
		"resourceType": "CapabilityStatement", "status": "active", "date": "2026-01-01", "kind": "instance",
		"instantiates":   []string{"http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"},
		"implementation": object{"description": "a simulated payer", "url": s.origin(r) + fhirPath},
		"fhirVersion":    "4.0.1", "format": []string{"application/fhir+json"},
		"rest": []object{{
			"mode":      "server",
			"operation": operation("export", "export"),
			"resource":  resources,
			"security": object{"extension": []object{{
				"url":       "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
				"extension": []object{{"url": "token", "valueUri": s.origin(r) + tokenPath}},
			}}},
		}},
	})
}
