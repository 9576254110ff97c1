package payersim

import (
	"fmt"
	"slices"
	"strings"
)

// scope is a SMART scope at system level. SMART App Launch 2.2, Scopes and Launch Context.
type scope struct {
	resourceType string // "*" for all
	text         string
	v2           bool
	reads        bool // covers what a Bulk Data export needs: .read in v1, r and s in v2
}

// parseScope reads one scope. Errors name the scope and what is wrong with it.
func parseScope(text string) (scope, error) {
	sc := scope{text: text}
	rest, ok := strings.CutPrefix(text, "system/")
	if !ok {
		return sc, fmt.Errorf("scope %q is not a system/ scope", text)
	}
	resourceType, permission, ok := strings.Cut(rest, ".")
	if !ok || resourceType != "*" && !isTypeName(resourceType) {
		return sc, fmt.Errorf("scope %q is not of the form system/Type.permission", text)
	}
	sc.resourceType = resourceType
	switch permission {
	case "read", "*":
		sc.reads = true
		return sc, nil
	case "write":
		return sc, nil
	}
	sc.v2 = true
	at := 0
	for _, letter := range permission {
		next := strings.IndexRune("cruds"[at:], letter)
		if next < 0 {
			return sc, fmt.Errorf("scope %q: permissions are letters of \"cruds\" in that order, or read, write, *", text)
		}
		at += next + 1
	}
	if permission == "" {
		return sc, fmt.Errorf("scope %q names no permission", text)
	}
	sc.reads = strings.Contains(permission, "r") && strings.Contains(permission, "s")
	return sc, nil
}

// isTypeName tells whether a name has the form of a resource type.
func isTypeName(name string) bool {
	if name == "" || name[0] < 'A' || name[0] > 'Z' {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') })
}

// grants are the resource types that a token or a client may read.
type grants []scope

func parseGrants(text string) (grants, error) {
	var g grants
	for field := range strings.FieldsSeq(text) {
		sc, err := parseScope(field)
		if err != nil {
			return nil, err
		}
		g = append(g, sc)
	}
	return g, nil
}

// allow tells whether resources of the type may be read.
func (g grants) allow(resourceType string) bool {
	return slices.ContainsFunc(g, func(sc scope) bool {
		return sc.reads && (sc.resourceType == "*" || sc.resourceType == resourceType)
	})
}

// cut is what of the asked scopes the client may have. A wildcard that the client does not hold becomes the types that
// it does hold, in the spelling that was asked for. RFC 6749, 3.3: the grant may be narrower than the request.
func (g grants) cut(asked grants) grants {
	var granted grants
	add := func(sc scope) {
		if !slices.Contains(granted, sc) {
			granted = append(granted, sc)
		}
	}
	for _, sc := range asked {
		switch {
		case !sc.reads:
		case g.allow(sc.resourceType):
			add(sc)
		case sc.resourceType == "*":
			_, permission, _ := strings.Cut(sc.text, ".")
			for _, own := range g {
				if own.reads {
					narrow := sc
					narrow.resourceType = own.resourceType
					narrow.text = "system/" + own.resourceType + "." + permission
					add(narrow)
				}
			}
		}
	}
	return granted
}

// without is the grants less some types; a wildcard becomes the types that are left of all.
func (g grants) without(types, all []string) grants {
	if len(types) == 0 {
		return g
	}
	var left grants
	for _, sc := range g {
		names := []string{sc.resourceType}
		if sc.resourceType == "*" {
			names = all
		}
		for _, name := range names {
			if !slices.Contains(types, name) {
				_, permission, _ := strings.Cut(sc.text, ".")
				narrow := sc
				narrow.resourceType, narrow.text = name, "system/"+name+"."+permission
				left = append(left, narrow)
			}
		}
	}
	return left
}

func (g grants) String() string {
	texts := make([]string, len(g))
	for i, sc := range g {
		texts[i] = sc.text
	}
	return strings.Join(texts, " ")
}
