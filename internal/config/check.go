package config

import (
	"fmt"
	"net"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// checker reports problems of one part of the configuration, with the lines on which its keys stand.
type checker struct {
	parser *parser
	location
}

// at reports a problem of a key of the part. It stands where the key was written: in the part, or in the file's defaults,
// or else it is told of the nearest mapping above. A key that could not be read has its problem already.
func (c checker) at(key, format string, args ...any) {
	if !c.readable(key) {
		return
	}
	in, path := c.source, join(c.path, key)
	if _, ok := in.lines[path]; !ok && strings.HasPrefix(c.path, "payers[") {
		if _, ok := c.parser.main.lines["defaults."+key]; ok {
			in, path = c.parser.main, "defaults."+key
		}
	}
	c.parser.problems = append(c.parser.problems,
		Problem{File: in.file, Line: in.nearest(path), Path: path, Text: fmt.Sprintf(format, args...)})
}

// readable reports whether a key's value is what its author wrote, or a default: false where it could not be read.
func (c checker) readable(key string) bool {
	return !c.unreadable(join(c.path, key)) &&
		(!strings.HasPrefix(c.path, "payers[") || !c.parser.main.unreadable("defaults."+key))
}

// unreadable reports whether a key, or one above it, could not be read.
func (s *source) unreadable(path string) bool {
	for ; path != ""; path = above(path) {
		if s.bad[path] {
			return true
		}
	}
	return s.bad[""]
}

// nearest is the line of a key, or of the nearest one above that was written.
func (s *source) nearest(path string) int {
	for {
		if line, ok := s.lines[path]; ok || path == "" {
			return line
		}
		path = above(path)
	}
}

// above is the path of the mapping or list that holds a key.
func above(path string) string { return path[:max(0, strings.LastIndexAny(path, ".["))] }

// reference reports a secret that is no reference, or one that cannot be resolved.
func (c checker) reference(key string, s Secret) {
	scheme, _, _ := s.reference()
	switch err := s.valid(); {
	case s == "":
	case err != nil:
		c.at(key, "%s", err)
	case scheme == SchemeKMS && key != "private_key":
		c.at(key, "%s", &UnsupportedReferenceError{Scheme: scheme})
	}
}

// check reports what is wrong with the values, and between keys that are each well-formed.
func (p *parser) check() {
	c := checker{p, location{p.main, ""}}
	config := p.config
	c.bounds(reflect.ValueOf(*config), "", "")
	c.database(config.Database)
	c.listeners(config)
	p.checkKeys()
	p.checkNotify()
	c.retention(config.Retention)
	checker{p, location{p.main, "tracing"}}.tracing(config.Tracing)
	names := make(map[string]string)
	for i := range config.Payers {
		payer, pc := &config.Payers[i], checker{p, p.payers[i]}
		pc.bounds(reflect.ValueOf(*payer), "", "payers[]")
		if first, twice := names[payer.Name]; twice && payer.Name != "" {
			pc.at("name", "%q is also the name of the payer at %s", payer.Name, first)
		} else {
			names[payer.Name] = payer.Source
		}
		before := len(p.problems)
		pc.payer(payer)
		for j := range p.problems[before:] {
			problem := &p.problems[before+j]
			if slices.Contains(payer.FromProfile, strings.TrimPrefix(problem.Path, pc.path+".")) {
				problem.Text += fmt.Sprintf(" (the value is that of profile %s)", payer.Profile)
			}
		}
	}
}

var schemaName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,54}$`)

// reservedSchemas are ingestd's own, and those that Postgres makes.
var reservedSchemas = []string{"ingest", "ingest_stage", "river", "public", "information_schema"}

var awsRegion = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)

func (c checker) database(d Database) {
	text := string(d.URL)
	dir, embedded := Embedded(text)
	_, _, reference := d.URL.reference()
	switch {
	case embedded && dir == "":
		c.at("database.url", "expected a directory behind embedded:")
	case reference:
		c.reference("database.url", d.URL)
	case text != "" && !embedded && !isPostgresURL(text):
		c.at("database.url", "expected %s", describeKey("database.url").want)
	}
	c.directURL(d, embedded)
	c.reference("database.password", d.Password)
	switch {
	case embedded && (d.Password != "" || d.Auth == AuthRDSIAM):
		c.at("database.url", "an embedded database needs no sign-in: expected neither database.password nor database.auth")
	case d.Auth == AuthRDSIAM && d.Password != "":
		c.at("database.password", "is of no use with database.auth: rds-iam")
	case d.Auth != AuthRDSIAM && d.Region != "":
		c.at("database.region", "is of no use without database.auth: rds-iam")
	case d.Region != "" && !awsRegion.MatchString(d.Region):
		c.at("database.region", "%s: expected an AWS region, for example us-east-1", excerpt(d.Region))
	}
	if !schemaName.MatchString(d.Schema) || strings.HasPrefix(d.Schema, "pg_") || slices.Contains(reservedSchemas, d.Schema) {
		c.at("database.schema", "%s cannot be used: expected a name of small letters, digits and _ "+
			"that is not a schema of ingestd's or Postgres' own", excerpt(d.Schema))
	}
	c.indexes(d.Indexes)
}

// directURL is as a database's URL, but for the embedded one, which nothing stands in front of.
func (c checker) directURL(d Database, embedded bool) {
	_, _, reference := d.DirectURL.reference()
	switch {
	case d.DirectURL == "":
	case embedded:
		c.at("database.direct_url", "cannot be used with an embedded database, which has no pooler")
	case reference:
		c.reference("database.direct_url", d.DirectURL)
	case !isPostgresURL(string(d.DirectURL)):
		c.at("database.direct_url", "expected env:NAME, file:/path or postgres://…")
	}
}

var indexName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,29}$`)

// indexes checks what can be told of indexes without Postgres.
func (c checker) indexes(indexes []Index) {
	for i, index := range indexes {
		path := fmt.Sprintf("database.indexes[%d].", i)
		switch first := slices.IndexFunc(indexes, func(other Index) bool { return other.Name == index.Name }); {
		case index.Name == "": // bounds reports it
		case !indexName.MatchString(index.Name):
			c.at(path+"name", "%s: expected [a-z][a-z0-9_]{0,29}", excerpt(index.Name))
		case first < i:
			c.at(path+"name", "%s is also the name of database.indexes[%d]", index.Name, first)
		}
		c.types(path+"types", index.Types)
	}
}

func (c checker) listeners(config *Config) {
	c.reference("admin.token", config.Admin.Token)
	for key, address := range map[string]string{"admin.listen": config.Admin.Listen, "jwks.listen": config.JWKS.Listen} {
		if host, port, err := net.SplitHostPort(address); address != "" && (err != nil || !isPort(port) || strings.ContainsAny(host, "/ ")) {
			c.at(key, "%s: expected host:port, for example 127.0.0.1:8090", excerpt(address))
		}
	}
	host, port, err := net.SplitHostPort(config.Admin.Listen)
	if err == nil && config.Admin.Token == "" && !IsLoopbackHost(host) {
		c.at("admin.token", "is missing: expected a reference to a token, because admin.listen %s is not a loopback address",
			excerpt(config.Admin.Listen))
	}
	if config.JWKS.Listen == config.Admin.Listen && config.JWKS.Listen != "" && port != "0" {
		c.at("jwks.listen", "%s is admin.listen too: expected an address of its own", excerpt(config.JWKS.Listen))
	}
	c.certificate("jwks", "certificate_file", config.JWKS.CertificateFile, "key_file", config.JWKS.KeyFile)
	if config.JWKS.URL != "" {
		c.url("jwks.url", config.JWKS.URL, "https://keys.example.org/.well-known/jwks.json", false)
	}
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// url reports a URL that is not https, or that carries what does not belong there; http is for loopback hosts. It does
// not repeat the URL, in which a password may stand.
func (c checker) url(key, text, example string, query bool) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		c.at(key, "expected a URL such as %s", example)
	case u.User != nil:
		c.at(key, "expected a URL without user and password")
	case !query && (u.RawQuery != "" || u.ForceQuery):
		c.at(key, "expected a URL without a query")
	case strings.Contains(text, "#"):
		c.at(key, "expected a URL without a fragment")
	case u.Scheme == "http" && !IsLoopbackHost(u.Hostname()):
		c.at(key, "http is for loopback hosts only: expected https")
	}
}

// checkKeys checks the signing keys; that they can be read is seen when they are.
func (p *parser) checkKeys() {
	seen := make(map[string]string)
	for i, k := range p.config.Keys {
		c := checker{p, p.keys[i]}
		c.bounds(reflect.ValueOf(k), "", "keys[]")
		c.reference("private_key", k.PrivateKey)
		c.reference("passphrase", k.Passphrase)
		if scheme, _, _ := k.PrivateKey.reference(); scheme == SchemeKMS && k.Passphrase != "" {
			c.at("passphrase", "is for an encrypted key: a key in AWS KMS has none")
		}
		if first, twice := seen[k.ID]; twice && k.ID != "" {
			c.at("id", "%q is also the id of the key at %s", k.ID, first)
		} else {
			seen[k.ID] = k.Source
		}
	}
}
