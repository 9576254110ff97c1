package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"ingestd/internal/fhir"
)

// PhaseProbe is a request that only looks whether the payer takes the token; it belongs to no export.
const PhaseProbe Phase = "probe"

// probeID is the id of a resource that no payer has: it names who asks.
const probeID = "ingestd-doctor"

var definitionID = regexp.MustCompile(`^[A-Za-z0-9.-]{1,64}$`)

// maxOperationDefinition bounds an OperationDefinition.
const maxOperationDefinition = 1 << 20

// Probe reads a resource that does not exist, by its id, and returns the HTTP status of the answer (FHIR R4, RESTful API,
// read). With the token it shows whether the FHIR server takes it; without, whether the server asks for one at all. It is one
// look-up by key: it can start no export, costs no quota of exports or downloads, and brings nobody's data.
func (c *Client) Probe(ctx context.Context, resourceType string, withToken bool) (status int, err error) {
	response, _, err := c.do(ctx, call{
		phase:  PhaseProbe,
		method: http.MethodGet,
		url:    c.base.JoinPath(resourceType, probeID),
		header: http.Header{"Accept": {"application/fhir+json"}, "Accept-Encoding": {"gzip"}},
		token:  withToken, idempotent: true,
	})
	if err != nil {
		return 0, err
	}
	drain(response)
	return response.StatusCode, nil
}

// ExportParameters reads which parameters an export operation takes, from its definition, where that lies on the payer's own
// server; nil where it lies elsewhere, as the guide's own definitions do. Like Capability it is good for warnings only.
func (c *Client) ExportParameters(ctx context.Context, definition string) ([]string, error) {
	canonical, _, _ := strings.Cut(definition, "|")
	u, err := url.Parse(canonical)
	if err != nil || !c.atBase(u) || u.RawQuery != "" {
		return nil, nil // it is not the payer's own
	}
	// A canonical URL may be anything, and this server's word is no reason to ask for an operation of its.
	id, ok := strings.CutPrefix(u.EscapedPath(), strings.TrimSuffix(c.base.EscapedPath(), "/")+"/OperationDefinition/")
	if !ok || !definitionID.MatchString(id) || strings.Trim(id, ".") == "" {
		return nil, nil
	}
	response, _, err := c.do(ctx, call{
		phase:  PhaseCapability,
		method: http.MethodGet,
		url:    u,
		header: http.Header{"Accept": {"application/fhir+json"}, "Accept-Encoding": {"gzip"}},

		idempotent: true,
	})
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, c.refused(PhaseCapability, response, false)
	}
	defer drain(response)
	data, err := readBounded(response, maxOperationDefinition)
	if err != nil {
		return nil, fmt.Errorf("read the OperationDefinition: %w", err)
	}
	return parseOperation(data)
}

func parseOperation(data []byte) ([]string, error) {
	var operation struct {
		ResourceType string `json:"resourceType"`
		Parameter    []struct {
			Name string `json:"name"`
			Use  string `json:"use"`
		} `json:"parameter"`
	}
	if err := json.Unmarshal(data, &operation); err != nil {
		return nil, fmt.Errorf("read the OperationDefinition: %w", err)
	}
	if operation.ResourceType != "OperationDefinition" {
		return nil, errors.New("what stands there is no OperationDefinition")
	}
	names := []string{}
	for _, p := range operation.Parameter {
		if name := fhir.Printable(p.Name, 40); p.Use != "out" && name != "" && len(names) < 50 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// ParametersOf names the parameters that exports of this configuration send, sorted; since says whether they are incremental.
func (c *Client) ParametersOf(since bool) []string {
	r := KickOffRequest{}
	if since {
		r.Since = "2026-01-01T00:00:00Z"
	}
	var names []string
	for _, p := range c.parameters(r, nil) {
		names = append(names, p.name)
	}
	slices.Sort(names)
	return names
}
