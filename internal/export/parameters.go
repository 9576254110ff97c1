package export

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// parameter is one input parameter of the export operation.
type parameter struct {
	name   string
	kind   string // the value[x] member of a Parameters resource
	values []string
	// joined parameters go into a query once, with commas (BCDA reads only the first of several _type); the others are
	// repeated.
	joined bool
	// postOnly parameters have no form in a query.
	postOnly bool
}

type parameters []parameter

// parameterNames are the parameters of the export operation that name themselves unmistakably in a text.
var parameterNames = []string{
	"_type", "_since", "_until", "_typeFilter", "_elements", "_outputFormat", "includeAssociatedData", "organizeOutputBy",
	partialManifests,
}

const partialManifests = "allowPartialManifests"

// parameters lists what is asked for, each value once (BCDA refuses duplicates). _outputFormat is left out: NDJSON is the
// default, and some servers refuse every spelling of it (KICK-5). Those in without are left out as well.
func (c *Client) parameters(r KickOffRequest, without []string) parameters {
	e := c.payer.Export
	types, patients := r.Types, r.Patients
	if types == nil {
		types = e.Types
	}
	if patients == nil {
		patients = e.Patients
	}
	all := parameters{
		{name: "_type", kind: "valueString", values: types, joined: true},
		{name: "_since", kind: "valueInstant", values: []string{r.Since}},
		{name: "_until", kind: "valueInstant", values: []string{r.Until}},
		{name: "_typeFilter", kind: "valueString", values: filtersFor(e.TypeFilters, types)},
		{name: "_elements", kind: "valueString", values: e.Elements, joined: true},
		{name: "includeAssociatedData", kind: "valueCode", values: e.IncludeAssociatedData, joined: true},
		{name: "organizeOutputBy", kind: "valueString", values: []string{e.OrganizeOutputBy}},
		{name: "patient", kind: "valueReference", values: patientReferences(patients), postOnly: true},
	}
	if e.PartialManifests {
		all = append(all, parameter{name: partialManifests, kind: "valueBoolean", values: []string{"true"}})
	}
	kept := all[:0]
	for _, p := range all {
		p.values = distinct(p.values)
		if len(p.values) > 0 && !slices.Contains(without, p.name) {
			kept = append(kept, p)
		}
	}
	return kept
}

// filtersFor returns the filters of the types that are asked for; a filter of another type is an error to many servers.
func filtersFor(filters, types []string) []string {
	if len(types) == 0 {
		return filters
	}
	var kept []string
	for _, filter := range filters {
		resourceType, _, _ := strings.Cut(filter, "?")
		if slices.Contains(types, resourceType) {
			kept = append(kept, filter)
		}
	}
	return kept
}

func patientReferences(patients []string) []string {
	references := make([]string, 0, len(patients))
	for _, patient := range patients {
		if patient != "" && !strings.Contains(patient, "/") {
			patient = "Patient/" + patient
		}
		references = append(references, patient)
	}
	return references
}

func distinct(values []string) []string {
	var kept []string
	for _, value := range values {
		if value = strings.TrimSpace(value); value != "" && !slices.Contains(kept, value) {
			kept = append(kept, value)
		}
	}
	return kept
}

// needPost reports whether a query cannot say what is asked for.
func (p parameters) needPost() bool {
	return slices.ContainsFunc(p, func(one parameter) bool { return one.postOnly })
}

// query returns the parameters as a query, each percent-encoded once. A comma inside a filter is encoded before that,
// because servers split the parameter at commas (INC-7).
func (p parameters) query() string {
	var pairs []string
	add := func(name, value string) { pairs = append(pairs, name+"="+value) }
	for _, one := range p {
		switch {
		case one.postOnly:
		case one.joined:
			escaped := make([]string, len(one.values))
			for i, value := range one.values {
				escaped[i] = queryEscape(value)
			}
			add(one.name, strings.Join(escaped, ","))
		default:
			for _, value := range one.values {
				if one.name == "_typeFilter" {
					value = strings.ReplaceAll(value, ",", "%2C")
				}
				add(one.name, queryEscape(value))
			}
		}
	}
	return strings.Join(pairs, "&")
}

// queryEscape is url.QueryEscape with %20 for a space: not every server reads a plus sign as one.
func queryEscape(value string) string { return strings.ReplaceAll(url.QueryEscape(value), "+", "%20") }

// resource returns a Parameters resource, with one parameter for each value and no commas (KICK-4).
func (p parameters) resource() ([]byte, error) {
	list := make([]map[string]any, 0, len(p))
	for _, one := range p {
		for _, value := range one.values {
			var content any = value
			switch one.kind {
			case "valueReference":
				content = map[string]string{"reference": value}
			case "valueBoolean":
				content = value == "true"
			}
			list = append(list, map[string]any{"name": one.name, one.kind: content})
		}
	}
	data, err := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": list})
	if err != nil {
		return nil, fmt.Errorf("write the Parameters resource: %w", err)
	}
	return data, nil
}
