package payersim

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Profile is a real server that the simulator can imitate: what is known of it, as data.
type Profile struct {
	// Name is what Options.Profile says.
	Name string
	// About says which server it is, in one line.
	About string
	// Secret: clients authenticate with a secret there, not with keys; InForm: which they send in the form.
	Secret, InForm bool

	options func(o *Options)
	quirks  []quirk
}

// profiles are the servers by name. What they do is known from their source or their documentation.
var profiles = map[string]Profile{
	"smart": {
		About:   "the SMART reference server: conforming, files for an hour, every type of output in many files",
		options: func(o *Options) { o.LinesPerFile = orLess(o.LinesPerFile, 500) },
	},
	"bcda": {
		About:  "CMS Beneficiary Claims Data API: secrets, GET only, no Retry-After, no discovery, closes connections",
		Secret: true,
		options: func(o *Options) {
			o.Faults.RetryAfter = -1
			o.Faults.Token.Discovery.Status = http.StatusNotFound
			o.Faults.Token.Members = members(o.Faults.Token.Members, map[string]any{"expires_in": "1200"})
			o.LinesPerFile = orLess(o.LinesPerFile, 50)
		},
		quirks: []quirk{
			getOnly, closes("status"), closes("kickoff"), ignoresRanges, deleteStatus(http.StatusGone), oneJob("0", false),
			manifests(func(h http.Header, m map[string]any) {
				if at, err := http.ParseTime(h.Get("Expires")); err == nil {
					h.Set("Expires", at.String()) // Go's own form
				}
				m["JobID"] = 4711
				eachFile(m, func(file map[string]any) { delete(file, "count") })
			}),
		},
	},
	"ab2d": {
		About:  "CMS AB2D: secrets and a scope of its own, names the running job in a 429, checksums, refuses early polls",
		Secret: true,
		options: func(o *Options) {
			o.Faults.Token.RefusedStatus = http.StatusForbidden
		},
		quirks: []quirk{
			getOnly, oneJob("", true), deleteStatus(http.StatusBadRequest),
			manifests(func(_ http.Header, m map[string]any) {
				eachFile(m, func(file map[string]any) {
					file["extension"] = []any{
						map[string]any{"url": "https://ab2d.cms.gov/checksum", "valueString": "sha256:"}, // empty: not known
					}
				})
			}),
		},
	},
	"dpc": {
		About: "CMS Data at the Point of Care: system/*.* only, one bare Prefer, files as application/ndjson, no Retry-After",
		options: func(o *Options) {
			o.Faults.RetryAfter = -1
			o.ScopeSyntax = "v1"
		},
		quirks: []quirk{getOnly, barePrefer, onlyNDJSON, ignoresRanges, fileType("application/ndjson")},
	},
	"epic": {
		About: "Epic: one export per client, which has to be deleted, and a bare 400 of the token endpoint in passing",
		options: func(o *Options) {
			o.Faults.Token.Answers = append(o.Faults.Token.Answers, Answer{Status: http.StatusBadRequest})
		},
		quirks: []quirk{oneJob("1", false), fileType("text/plain")},
	},
	"oracle": {
		About: "Oracle Health (Cerner): GET only, one export per client, files redirected to presigned storage, tiny files",
		options: func(o *Options) {
			o.LinesPerFile = orLess(o.LinesPerFile, 20)
		},
		quirks: []quirk{getOnly, oneJob("1", false), presigned},
	},
	"hapi": {
		About: "HAPI: answers repeated requests with an old job, wraps files into Binary, leaves members of the manifest out",
		quirks: []quirk{
			reusesJobs, wrapsFiles, deleteStatus(http.StatusNotFound),
			manifests(func(_ http.Header, m map[string]any) {
				delete(m, "requiresAccessToken")
				delete(m, "request")
				delete(m, "error")
			}),
		},
	},
	"azure": {
		Secret: true, InForm: true,
		About:   "Azure Health Data Services: files as octet-stream, every file listed twice, 5,000 resources a file",
		options: func(o *Options) { o.LinesPerFile = orLess(o.LinesPerFile, 5000) },
		quirks: []quirk{
			fileType("application/octet-stream"),
			manifests(func(_ http.Header, m map[string]any) {
				output, _ := m["output"].([]any)
				m["output"] = slices.Concat(output, output)
				m["requiresAccessToken"] = "true"
			}),
		},
	},
}

// Profiles are the servers that can be imitated, by name.
func Profiles() []Profile {
	list := make([]Profile, 0, len(profiles))
	for _, name := range slices.Sorted(maps.Keys(profiles)) {
		p := profiles[name]
		p.Name = name
		list = append(list, p)
	}
	return list
}

// profile returns the one that the options name, and an error that lists all where there is none.
func profile(name string) (Profile, error) {
	if name == "" {
		return Profile{}, nil
	}
	p, ok := profiles[name]
	if !ok {
		return p, fmt.Errorf("payersim: unknown profile %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(profiles)), ", "))
	}
	return p, nil
}

// wrap puts the profile's quirks before the payer.
func (p Profile) wrap(s *Server, handler http.Handler) http.Handler {
	for _, q := range p.quirks {
		handler = q(s, handler)
	}
	return handler
}

func orLess(n, most int) int {
	if n == 0 || n > most {
		return most
	}
	return n
}

// members adds to what a fault plan replaces, which wins.
func members(own, added map[string]any) map[string]any {
	all := maps.Clone(added)
	maps.Copy(all, own)
	return all
}
