package smartauth

import (
	"fmt"
	"slices"
	"strings"
)

// scope is a SMART scope: context/resource.permissions (SMART App Launch 2.2, Scopes and Launch Context).
type scope struct {
	context  string // system, patient, user
	resource string // a resource type, or *
	read     bool   // v1 read or *, v2 with r or s
	narrowed bool   // v2 with a query: it covers less than the type
}

// parseScope reads one scope of either version; ok is false for scopes of another form (openid, clientCreds).
func parseScope(text string) (scope, bool) {
	context, rest, ok := strings.Cut(text, "/")
	if !ok || !slices.Contains([]string{"system", "patient", "user"}, context) {
		return scope{}, false
	}
	rest, query, narrowed := strings.Cut(rest, "?")
	resource, permissions, ok := strings.Cut(rest, ".")
	if !ok || resource == "" || permissions == "" {
		return scope{}, false
	}
	parsed := scope{context: context, resource: resource, narrowed: narrowed && query != ""}
	switch permissions {
	case "read", "*":
		parsed.read = true
	case "write":
	default:
		// v2: letters of cruds; r and s are taken as reading whatever their order.
		if strings.Trim(permissions, "cruds") != "" {
			return scope{}, false
		}
		parsed.read = strings.ContainsAny(permissions, "rs")
	}
	return parsed, true
}

// scopeSyntax is the version of SMART scopes that a server understands.
type scopeSyntax int

const (
	scopesV1 scopeSyntax = iota // system/Patient.read
	scopesV2                    // system/Patient.rs
)

func (s scopeSyntax) other() scopeSyntax {
	if s == scopesV1 {
		return scopesV2
	}
	return scopesV1
}

func (s scopeSyntax) String() string {
	if s == scopesV1 {
		return "v1"
	}
	return "v2"
}

// deriveScopes builds the scopes that reading these resource types takes; without types, those of every type.
func deriveScopes(types []string, syntax scopeSyntax) []string {
	permission := ".read"
	if syntax == scopesV2 {
		permission = ".rs"
	}
	if len(types) == 0 {
		return []string{"system/*" + permission}
	}
	scopes := make([]string, 0, len(types))
	for _, resource := range types {
		if s := "system/" + resource + permission; !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	return scopes
}

// checkScopes refuses configured scopes that a backend service cannot use. Others are sent verbatim: payers have their own
// forms (AB2D: clientCreds; DPC: system/*.*).
func checkScopes(scopes []string) error {
	for _, text := range scopes {
		if text == "" || strings.ContainsAny(text, " \t\r\n\"\\") {
			return fmt.Errorf("scope %q: one scope an entry, without spaces or quotes", text)
		}
		context, _, _ := strings.Cut(text, "/")
		switch context {
		case "patient", "user":
			return fmt.Errorf("scope %q: a %s/ scope needs a person who signs in; a backend service has none and asks for system/ scopes"+
				" (SMART App Launch 2.2, Backend Services, Scopes)", text, context)
		}
		if text == "openid" || text == "fhirUser" || text == "offline_access" || text == "online_access" || context == "launch" {
			return fmt.Errorf("scope %q belongs to apps that people sign in to; a backend service asks for system/ scopes", text)
		}
	}
	return nil
}

// missingTypes returns the types that the granted scopes do not let be read. Scopes of which none is a SMART scope say
// nothing about types: where such ones were asked for (known is false), nothing is missing.
func missingTypes(granted, types []string, known bool) []string {
	if !known {
		return nil
	}
	covered := coveredTypes(granted)
	if covered["*"] {
		return nil
	}
	if len(types) == 0 {
		return []string{"*"}
	}
	var missing []string
	for _, resource := range types {
		if !covered[resource] && !slices.Contains(missing, resource) {
			missing = append(missing, resource)
		}
	}
	return missing
}

// coveredTypes are the types that scopes let be read whole; * stands for all.
func coveredTypes(granted []string) map[string]bool {
	covered := make(map[string]bool, len(granted))
	for _, text := range granted {
		if s, ok := parseScope(text); ok && s.context == "system" && s.read && !s.narrowed {
			covered[s.resource] = true
		}
	}
	return covered
}

// anySMART reports whether one of the scopes speaks of resource types.
func anySMART(scopes []string) bool {
	return slices.ContainsFunc(scopes, func(text string) bool {
		_, ok := parseScope(text)
		return ok
	})
}
