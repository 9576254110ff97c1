package export

import (
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Asked compares the request that a manifest says it answers with the one that this client would make. known is false where
// nothing can be said: the manifest names none, or what is asked for stands in a body (Bulk Data 3.0, Output
// Manifest, request).
func (c *Client) Asked(r KickOffRequest, said string) (same, known bool) {
	answered, err := url.Parse(said)
	if said == "" || err != nil {
		return false, false
	}
	wanted, err := c.kickOffCall(r, nil)
	if err != nil || wanted.body != nil {
		return false, false
	}
	if levelOf(wanted.url) != levelOf(answered) {
		return false, true
	}
	return maps.EqualFunc(askedValues(wanted.url), askedValues(answered), slices.Equal), true
}

// levelOf is the part of a kick-off's path that says what is exported: "$export", "Patient/$export" or "Group/id/$export". What
// stands before it may differ: a server behind a proxy knows itself by another address.
func levelOf(u *url.URL) string {
	segments := strings.Split(u.EscapedPath(), "/")
	for i, segment := range segments {
		if text, err := url.PathUnescape(segment); err == nil {
			segments[i] = text
		}
	}
	n := len(segments)
	switch {
	case n >= 3 && segments[n-3] == "Group":
		return strings.Join(segments[n-3:], "/")
	case n >= 2 && segments[n-2] == "Patient":
		return strings.Join(segments[n-2:], "/")
	}
	return segments[n-1]
}

// askedValues are the parameters that decide what an export holds, each with its values in order.
func askedValues(u *url.URL) map[string][]string {
	asked := make(map[string][]string)
	for name, values := range u.Query() {
		if name == "allowPartialManifests" || name == "_outputFormat" {
			continue
		}
		var all []string
		for _, value := range values {
			if name == "_typeFilter" { // its commas are its own, and were encoded once more
				all = append(all, strings.ReplaceAll(value, "%2C", ","))
				continue
			}
			all = append(all, strings.Split(value, ",")...)
		}
		slices.Sort(all)
		asked[name] = slices.Compact(all)
	}
	return asked
}

// Describe returns the address and the parameters of a kick-off, without the patients that it names: what may stand in a log.
func (c *Client) Describe(r KickOffRequest) (address string, asked map[string]string) {
	path, err := exportPath(c.payer.Export)
	if err != nil {
		return "", nil // the configuration was checked
	}
	asked = make(map[string]string)
	for _, p := range c.parameters(r, nil) {
		if p.name != "patient" {
			asked[p.name] = strings.Join(p.values, ",")
		}
	}
	return c.base.String() + path, asked
}
