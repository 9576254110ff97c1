package config

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"ingestd/internal/fhir"
)

// checker reports problems of one part of the configuration, with the lines on which its keys stand.
type checker struct {
	parser *parser
	source source
}

// at reports a problem of a key; where the key was not written, it stands at the nearest one above it.
func (c checker) at(key, format string, args ...any) {
	path := key
	if c.source.path != "" {
		path = join(c.source.path, key)
	}
	line := 0
	for above := path; ; {
		if found, ok := c.source.lines[above]; ok {
			line = found
			break
		}
		dot := strings.LastIndexByte(above, '.')
		if dot < 0 {
			break
		}
		above = above[:dot]
	}
	c.parser.decoder.problems = append(c.parser.decoder.problems,
		Problem{File: c.source.file, Line: line, Path: path, Text: fmt.Sprintf(format, args...)})
}

func (c checker) oneOf(key, value string, allowed ...string) bool {
	if slices.Contains(allowed, value) {
		return true
	}
	c.at(key, "%q is not known: expected one of %s", value, strings.Join(allowed, ", "))
	return false
}

// reference reports a secret that is written out, without repeating it.
func (c checker) reference(key string, s Secret) {
	scheme, _, ok := s.reference()
	switch {
	case !ok:
		c.at(key, "%s", (&NotAReferenceError{}).Error())
	case scheme == schemeSecretsManager, scheme == schemeKMS:
		c.at(key, "references to %s are not supported by this version: expected env:NAME, file:/path or credential:NAME", scheme)
	}
}

// check reports what is wrong between keys that are each well-formed.
func (p *parser) check() {
	c := checker{p, source{file: p.decoder.file, lines: p.decoder.lines}}
	config := p.config
	p.checkDatabase(c, config.Database)
	p.checkAdmin(c, config)
	c.oneOf("log.level", config.Log.Level, "debug", "info", "warn", "error")
	c.oneOf("log.format", config.Log.Format, "json", "text")
	if config.Shutdown.Grace <= 0 {
		c.at("shutdown.grace", "expected a duration above 0")
	}
	c.between("workers.control", config.Workers.Control, 1, 1000)
	c.between("workers.downloads", config.Workers.Downloads, 1, 1000)
	if config.Workers.Chunk < 64<<10 || config.Workers.Chunk > 64<<20 {
		c.at("workers.chunk", "%s is out of range: expected 64KiB to 64MiB", config.Workers.Chunk)
	}
	p.checkKeys(c)
	names := make(map[string]string)
	for i := range config.Payers {
		payer := &config.Payers[i]
		pc := checker{p, p.payers[i]}
		if first, twice := names[payer.Name]; twice && payer.Name != "" {
			pc.at("name", "%q is also the name of the payer at %s", payer.Name, first)
		}
		names[payer.Name] = payer.Source
		pc.payer(payer, config.Keys)
	}
	if len(config.Payers) == 0 {
		c.at("payers", "expected at least one payer, here or in an included file")
	}
}

func (c checker) between(key string, value, low, high int) {
	if value < low || value > high {
		c.at(key, "%d is out of range: expected %d to %d", value, low, high)
	}
}

var schemaName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,54}$`)

func (p *parser) checkDatabase(c checker, d Database) {
	text := string(d.URL)
	switch dir, embedded := Embedded(text); {
	case text == "":
		c.at("database.url", "is missing: expected env:NAME, postgres://…, or embedded:DIR")
	case embedded && dir == "":
		c.at("database.url", "expected a directory behind embedded:")
	case embedded, strings.HasPrefix(text, "postgres://"), strings.HasPrefix(text, "postgresql://"):
	default:
		if _, _, ok := d.URL.reference(); !ok {
			c.at("database.url", "expected env:NAME, file:/path, postgres://… or embedded:DIR")
		} else {
			c.reference("database.url", d.URL)
		}
	}
	if !schemaName.MatchString(d.Schema) || strings.HasPrefix(d.Schema, "pg_") ||
		slices.Contains([]string{"ingest", "ingest_stage", "river", "public", "information_schema"}, d.Schema) {
		c.at("database.schema", "%q cannot be used: expected a name of small letters, digits and _ that is not a schema of ingestd's or Postgres' own", d.Schema)
	}
	c.between("database.max_connections", d.MaxConnections, 4, 10_000)
}

func (p *parser) checkAdmin(c checker, config *Config) {
	if token := config.Admin.Token; token != "" {
		c.reference("admin.token", token)
	}
	for _, listener := range []struct{ key, address string }{
		{"admin.listen", config.Admin.Listen}, {"jwks.listen", config.JWKS.Listen},
	} {
		if listener.address == "" {
			continue
		}
		host, _, err := net.SplitHostPort(listener.address)
		if err != nil {
			c.at(listener.key, "%q: expected host:port, for example 127.0.0.1:8090", listener.address)
			continue
		}
		if listener.key == "admin.listen" && config.Admin.Token == "" && !isLoopback(host) {
			c.at("admin.token", "is required, because admin.listen %q is not a loopback address", listener.address)
		}
	}
	if config.JWKS.URL != "" {
		if u, err := url.Parse(config.JWKS.URL); err != nil || u.Scheme != "https" || u.Host == "" {
			c.at("jwks.url", "expected an https URL that payers can reach")
		}
	}
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func (p *parser) checkKeys(c checker) {
	seen := make(map[string]bool)
	for i, k := range p.config.Keys {
		at := func(name string) string { return fmt.Sprintf("keys[%d].%s", i, name) }
		if k.ID == "" {
			c.at(at("id"), "is missing: expected the key's kid")
		}
		if seen[k.ID] {
			c.at(at("id"), "%q names another key too: a kid is unique", k.ID)
		}
		seen[k.ID] = true
		if k.PrivateKey == "" {
			c.at(at("private_key"), "is missing: expected a reference such as file:/etc/ingestd/keys/%s.pem", k.ID)
		} else {
			c.reference(at("private_key"), k.PrivateKey)
		}
		if k.Algorithm != "" {
			c.oneOf(at("algorithm"), k.Algorithm, "RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
		}
		c.oneOf(at("state"), k.State, "active", "published")
	}
}

var payerName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

func (c checker) payer(p *Payer, keys []Key) {
	switch {
	case p.Name == "":
		c.at("name", "is missing: expected a name of small letters, digits and _")
	case !payerName.MatchString(p.Name):
		c.at("name", "%q cannot name a partition: expected a small letter, then up to 39 small letters, digits or _", p.Name)
	}
	if p.FHIRURL == "" {
		c.at("fhir_url", "is missing: expected the payer's FHIR base URL")
	} else {
		c.url("fhir_url", p.FHIRURL)
	}
	c.auth(p, keys)
	c.export(&p.Export)
	c.schedule(p)
	c.limits(p.Limits)
	c.load(p.Load)
	if p.Profile != "" {
		c.at("profile", "%q is not known: this version has no profiles", p.Profile)
	}
	for i, h := range p.DownloadHosts {
		if h.Host == "" || strings.ContainsAny(h.Host, "/@ ") {
			c.at(fmt.Sprintf("download_hosts[%d].host", i), "%q: expected host or host:port", h.Host)
		}
	}
	c.oneOf("tls.min_version", p.TLS.MinVersion, "1.2", "1.3")
	for _, f := range []struct{ key, path string }{
		{"tls.ca_file", p.TLS.CAFile}, {"tls.client_certificate", p.TLS.ClientCertificate}, {"tls.client_key", p.TLS.ClientKey},
	} {
		if f.path == "" {
			continue
		}
		if _, err := os.Stat(f.path); err != nil {
			c.at(f.key, "%s cannot be read: %s", f.path, cause(err))
		}
	}
	if (p.TLS.ClientCertificate == "") != (p.TLS.ClientKey == "") {
		c.at("tls", "client_certificate and client_key belong together: expected both or neither")
	}
}

// url reports a URL that is not https, or that carries what does not belong there; http is for loopback hosts.
func (c checker) url(key, text string) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		c.at(key, "expected a URL such as https://fhir.payer.example/r4")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		c.at(key, "expected a URL without user, query and fragment")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		c.at(key, "http is for loopback hosts only: expected https")
	case u.Scheme != "http" && u.Scheme != "https":
		c.at(key, "expected a URL with https")
	}
}

func (c checker) auth(p *Payer, keys []Key) {
	a := &p.Auth
	if !c.oneOf("auth.method", a.Method, "private_key_jwt", "client_secret_basic", "client_secret_post", "none") {
		return
	}
	if a.ClientID == "" && a.Method != "none" {
		c.at("auth.client_id", "is missing: expected the id that the payer registered ingestd under")
	}
	switch a.Method {
	case "private_key_jwt":
		c.key(a, keys)
	case "client_secret_basic", "client_secret_post":
		if a.ClientSecret == "" {
			c.at("auth.client_secret", "is missing: method %s needs one", a.Method)
		} else {
			c.reference("auth.client_secret", a.ClientSecret)
		}
	}
	if a.TokenURL != "" {
		c.url("auth.token_url", a.TokenURL)
	}
	for i, scope := range a.Scopes {
		key := fmt.Sprintf("auth.scopes[%d]", i)
		switch {
		case strings.HasPrefix(scope, "patient/"), strings.HasPrefix(scope, "user/"):
			c.at(key, "%q needs a person who signs in, and none does here: expected system/ scopes (SMART Backend Services)", scope)
		case scope == "" || strings.ContainsAny(scope, " \t\n\""):
			c.at(key, "%q: expected one scope an entry", scope)
		}
	}
}

// key finds the key that signs: the one that is named, or the only active one.
func (c checker) key(a *Auth, keys []Key) {
	if a.Key != "" {
		if !slices.ContainsFunc(keys, func(k Key) bool { return k.ID == a.Key }) {
			c.at("auth.key", "%q is not the id of one of the keys", a.Key)
		}
		return
	}
	var active []string
	for _, k := range keys {
		if k.State == "active" {
			active = append(active, k.ID)
		}
	}
	switch len(active) {
	case 1:
		a.Key = active[0]
	case 0:
		c.at("auth.key", "method private_key_jwt needs a key, and none is active: make one with 'ingestd keys generate'")
	default:
		c.at("auth.key", "is missing: expected one of the active keys, %s", strings.Join(active, ", "))
	}
}

func (c checker) export(x *Export) {
	c.oneOf("export.level", x.Level, "system", "patient", "group")
	if x.Level == "group" && x.GroupID == "" {
		c.at("export.group_id", "is missing: level group needs one")
	}
	if x.Level != "group" && x.GroupID != "" {
		c.at("export.group_id", "is for level group; the level is %s", x.Level)
	}
	for i, t := range x.Types {
		if !fhir.KnownType(t) {
			c.at(fmt.Sprintf("export.types[%d]", i), "%q is not a resource type of FHIR R4, R4B or R5", t)
		}
	}
	c.filters(x)
	c.oneOf("export.method", x.Method, "get", "post")
	if len(x.Patients) > 0 && x.Method != "post" {
		c.at("export.patients", "can only be sent by export.method post")
	}
	if len(x.Patients) > 0 && x.Level == "system" {
		c.at("export.patients", "cannot be used at level system: expected level patient or group")
	}
	if x.Since != "auto" && x.Since != "never" {
		c.instant("export.since", x.Since, "auto, never, or an instant such as 2026-01-31T00:00:00Z")
	}
	if x.FullSince != "" {
		c.instant("export.full_since", x.FullSince, "an instant such as 2020-01-01T00:00:00Z")
	}
	if x.SinceOverlap < 0 {
		c.at("export.since_overlap", "expected a duration of 0 or more")
	}
	if x.Timeout <= 0 {
		c.at("export.timeout", "expected a duration above 0")
	}
}

func (c checker) instant(key, text, want string) {
	if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
		c.at(key, "%q: expected %s", text, want)
	}
}

// resultParameters shape the answer of a search instead of choosing resources: a _typeFilter must not hold them.
var resultParameters = []string{
	"_sort", "_count", "_include", "_revinclude", "_summary", "_elements", "_total", "_contained", "_containedType", "_maxresults",
	"_score", "_graph",
}

func (c checker) filters(x *Export) {
	for i, filter := range x.TypeFilters {
		key := fmt.Sprintf("export.type_filters[%d]", i)
		resourceType, query, ok := strings.Cut(filter, "?")
		if !ok || query == "" || !fhir.KnownType(resourceType) {
			c.at(key, "%q: expected a type and a search, such as ExplanationOfBenefit?type=pharmacy", filter)
			continue
		}
		if len(x.Types) > 0 && !slices.Contains(x.Types, resourceType) {
			c.at(key, "%s is not among export.types", resourceType)
		}
		for parameter := range strings.SplitSeq(query, "&") {
			name, _, _ := strings.Cut(parameter, "=")
			name, _, _ = strings.Cut(name, ":")
			if slices.Contains(resultParameters, name) {
				c.at(key, "%s shapes a search's answer and cannot stand in a _typeFilter", name)
			}
		}
	}
}

func (c checker) schedule(p *Payer) {
	if _, err := time.LoadLocation(p.Timezone); err != nil || p.Timezone == "" || p.Timezone == "Local" {
		c.at("timezone", "%q is not known: expected a name such as UTC or America/New_York", p.Timezone)
	}
	for _, s := range []struct{ key, expression string }{
		{"schedule", p.Schedule}, {"export.full_schedule", p.Export.FullSchedule},
	} {
		if s.expression == "" {
			continue
		}
		if strings.HasPrefix(s.expression, "TZ=") || strings.HasPrefix(s.expression, "CRON_TZ=") {
			c.at(s.key, "the timezone has a key of its own: expected it in timezone")
			continue
		}
		if _, err := cron.ParseStandard(s.expression); err != nil {
			c.at(s.key, "%q: expected five fields (minute hour day month weekday), @daily, or @every 6h: %v", s.expression, err)
		}
	}
	if p.Jitter < 0 {
		c.at("jitter", "expected a duration of 0 or more")
	}
}

func (c checker) limits(l Limits) {
	c.between("limits.downloads", l.Downloads, 1, 100)
	c.between("limits.downloads_per_file", l.DownloadsPerFile, 0, 1_000_000)
	if l.PollMin <= 0 || l.PollMin > l.PollMax {
		c.at("limits.poll_min", "%s: expected a duration above 0 and not above limits.poll_max, %s", l.PollMin, l.PollMax)
	}
	if l.RequestsPerSecond < 0 {
		c.at("limits.requests_per_second", "expected 0 (no limit) or more")
	}
	if l.MaxLine < 1<<10 || l.MaxLine > 1<<30 {
		c.at("limits.max_line", "%s is out of range: expected 1KiB to 1GiB", l.MaxLine)
	}
}

func (c checker) load(l Loading) {
	c.oneOf("load.history", l.History, "none", "deletes", "all")
	for _, share := range []struct {
		key   string
		value float64
	}{{"load.quarantine_max_share", l.QuarantineMaxShare}, {"load.ghost_max_share", l.GhostMaxShare}} {
		if !(share.value >= 0 && share.value <= 1) { // also not a number
			c.at(share.key, "%g is no share: expected 0 to 1", share.value)
		}
	}
}
