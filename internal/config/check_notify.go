package config

import (
	"fmt"
	"net/textproto"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

var notifyName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,39}$`)

// notifyHeaders are those of a notification that ingestd or HTTP sets.
var notifyHeaders = []string{
	"Connection", "Content-Length", "Host", "Ingestd-Event", "Ingestd-Signature", "Transfer-Encoding", "User-Agent",
}

// checkNotify checks the targets of notifications; that they can be reached is what 'ingestd notify test' tells.
func (p *parser) checkNotify() {
	seen := make(map[string]string)
	for i, n := range p.config.Notify {
		c := checker{p, location{p.main, fmt.Sprintf("notify[%d]", i)}}
		c.bounds(reflect.ValueOf(n), "", "notify[]")
		if n.Name != "" && !notifyName.MatchString(n.Name) {
			c.at("name", "%s cannot name a target: expected a small letter, then up to 39 small letters, digits, _ or -", excerpt(n.Name))
		}
		if first, twice := seen[n.Name]; twice && n.Name != "" {
			c.at("name", "%q is also the name of the target at %s", n.Name, first)
		} else {
			seen[n.Name] = n.Source
		}
		if _, _, reference := n.URL.reference(); reference {
			c.reference("url", n.URL)
		} else if n.URL != "" {
			c.url("url", string(n.URL), "https://hooks.example.org/ingestd", true)
		}
		c.reference("secret", n.Secret)
		c.notifyFilters(n)
		c.notifyRequest(n)
	}
}

func (c checker) notifyFilters(n Notify) {
	for i, event := range n.Events {
		if !slices.Contains(NotifyEvents, event) && strings.TrimSpace(event) != "" {
			c.at(fmt.Sprintf("events[%d]", i), "%s is not known: expected one of %s", excerpt(event), strings.Join(NotifyEvents, ", "))
		}
	}
	for i, name := range n.Payers {
		known := slices.ContainsFunc(c.parser.config.Payers, func(p Payer) bool { return p.Name == name })
		if !known && strings.TrimSpace(name) != "" && !c.parser.main.unreadable("payers") {
			c.at(fmt.Sprintf("payers[%d]", i), "the configuration has no payer %s", excerpt(name))
		}
	}
}

func (c checker) notifyRequest(n Notify) {
	if n.Body != "" {
		functions := template.FuncMap{"json": func(any) (string, error) { return "", nil }}
		if _, err := template.New("body").Funcs(functions).Parse(n.Body); err != nil {
			c.at("body", "is not a template: %s", strings.TrimPrefix(err.Error(), "template: "))
		}
	}
	for name, value := range n.Headers {
		key := join("headers", name)
		_, _, reference := Secret(value).reference()
		switch {
		case !headerName.MatchString(name):
			c.at("headers", "%s is not the name of a header", excerpt(name))
		case slices.Contains(notifyHeaders, textproto.CanonicalMIMEHeaderKey(name)):
			c.at(key, "is set by ingestd itself: expected another header")
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			c.at(key, "its value holds a control character: expected one line of text")
		case reference:
			c.reference(key, Secret(value))
		}
	}
}
