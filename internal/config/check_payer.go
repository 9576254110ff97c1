package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

var payerName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

// payer reports what is wrong between the keys of a payer. It fills in auth.key where that is left to be found.
func (c checker) payer(p *Payer) {
	if p.Name != "" && !payerName.MatchString(p.Name) {
		c.at("name", "%s cannot name a partition: expected a small letter, then up to 39 small letters, digits or _", excerpt(p.Name))
	}
	if p.FHIRURL != "" {
		c.url("fhir_url", p.FHIRURL, "https://fhir.payer.example/r4", false)
	}
	c.auth(&p.Auth)
	c.export(&p.Export)
	c.schedules(p)
	if p.Limits.PollMin > p.Limits.PollMax && c.readable("limits.poll_max") {
		c.at("limits.poll_min", "%s is more than limits.poll_max, %s: expected no more",
			durationText(p.Limits.PollMin), durationText(p.Limits.PollMax))
	}
	for i, h := range p.DownloadHosts {
		if strings.ContainsAny(h.Host, "/@?#* ") {
			c.at(fmt.Sprintf("download_hosts[%d].host", i), "%s: expected host or host:port", excerpt(h.Host))
		}
	}
	c.tls(p.TLS)
}

func (c checker) auth(a *Auth) {
	if !slices.Contains(authMethods, a.Method) {
		return // what it needs is not known
	}
	if a.ClientID == "" && a.Method != "none" {
		c.at("auth.client_id", "is missing: expected the id that the payer registered ingestd under")
	}
	c.reference("auth.client_secret", a.ClientSecret)
	switch a.Method {
	case "private_key_jwt":
		c.signingKey(a)
	case "client_secret_basic", "client_secret_post":
		if a.ClientSecret == "" {
			c.at("auth.client_secret", "is missing: method %s expects a reference such as env:NAME", a.Method)
		}
	}
	if a.TokenURL != "" {
		c.url("auth.token_url", a.TokenURL, "https://auth.payer.example/token", true)
	}
	if a.JKU != "" {
		c.url("auth.jku", a.JKU, "https://keys.example.org/.well-known/jwks.json", true)
	}
	for i, scope := range a.Scopes {
		key := fmt.Sprintf("auth.scopes[%d]", i)
		switch {
		case strings.HasPrefix(scope, "patient/"), strings.HasPrefix(scope, "user/"), strings.HasPrefix(scope, "launch"):
			c.at(key, "%s needs a person who signs in, and here nobody does (SMART Backend Services): expected system/ scopes", excerpt(scope))
		case strings.ContainsFunc(scope, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }):
			c.at(key, "%s: expected one scope an entry", excerpt(scope))
		}
	}
}

// signingKey finds the key that signs: the one that is named, or the only active one.
func (c checker) signingKey(a *Auth) {
	if c.parser.keysUnreadable() {
		return
	}
	var active []string
	for _, k := range c.parser.config.Keys {
		if k.ID == a.Key && k.State == "published" {
			c.at("auth.key", "%s is only published: expected an active key, which may sign", excerpt(a.Key))
			return
		}
		if k.State == "active" && !slices.Contains(active, k.ID) {
			active = append(active, k.ID)
		}
	}
	if c.parser.isKeyID(a.Kid) && a.Kid != a.Key && (a.Key != "" || len(active) != 1 || active[0] != a.Kid) {
		c.at("auth.kid", "%s is the id of another key: expected a kid that names this one only", excerpt(a.Kid))
	}
	switch {
	case len(active) == 0:
		c.at("auth.key", "method private_key_jwt needs a key, and none is active: expected one in keys (make it with 'ingestd keys generate')")
	case a.Key == "" && len(active) == 1:
		a.Key = active[0]
	case a.Key == "":
		c.at("auth.key", "is missing: expected one of the active keys: %s", strings.Join(active, ", "))
	case !slices.Contains(active, a.Key):
		c.at("auth.key", "%s is not the id of a key: expected one of %s", excerpt(a.Key), strings.Join(active, ", "))
	}
}

// isKeyID reports whether a kid is the id of a configured key.
func (p *parser) isKeyID(kid string) bool {
	return slices.ContainsFunc(p.config.Keys, func(k Key) bool { return k.ID == kid && kid != "" })
}

// keysUnreadable reports whether it cannot be told which keys there are.
func (p *parser) keysUnreadable() bool {
	return p.main.unreadable("keys") || slices.ContainsFunc(p.keys, func(l location) bool {
		return l.unreadable(l.path+".id") || l.unreadable(l.path+".state")
	})
}

// schedules checks the cron expressions and their timezone.
func (c checker) schedules(p *Payer) {
	if _, err := time.LoadLocation(p.Timezone); err != nil || p.Timezone == "" || p.Timezone == "Local" {
		c.at("timezone", "%s is not known: expected a name such as UTC or America/New_York", excerpt(p.Timezone))
	}
	for _, s := range []struct{ key, expression string }{
		{"schedule", p.Schedule}, {"export.full_schedule", p.Export.FullSchedule},
	} {
		if s.expression == "" {
			continue
		}
		if err := validSchedule(s.expression); err != nil {
			c.at(s.key, "%s: %s", excerpt(s.expression), err)
		}
	}
	if p.NotBetween == "" {
		return
	}
	w, err := ParseWindow(p.NotBetween)
	switch {
	case err != nil:
		c.at("not_between", "%s: %s", excerpt(p.NotBetween), err)
	case c.readable("jitter") && w.Length()+p.Jitter >= 24*time.Hour:
		c.at("not_between", "%s and jitter leave no time of the day: expected less than 24h together", excerpt(p.NotBetween))
	}
}

// tls checks that the files can be read, and hold what they are named for.
func (c checker) tls(t TLS) {
	if t.CAFile != "" {
		data, err := readPEM(t.CAFile)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(data) {
			err = errors.New("holds no certificate in PEM form")
		}
		if err != nil {
			c.at("tls.ca_file", "%s: %s", t.CAFile, err)
		}
	}
	c.certificate("tls", "client_certificate", t.ClientCertificate, "client_key", t.ClientKey)
}

// certificate checks that a certificate and its private key are both there or neither, can be read, and fit each other. The
// keys that name their files stand in the mapping named in.
func (c checker) certificate(in, certificateName, certificateFile, keyName, keyFile string) {
	if (certificateFile == "") != (keyFile == "") {
		c.at(in, "%s and %s belong together: expected both or neither", certificateName, keyName)
		return
	}
	if certificateFile == "" {
		return
	}
	certificate, err := readPEM(certificateFile)
	if err != nil {
		c.at(join(in, certificateName), "%s: %s", certificateFile, err)
		return
	}
	key, err := readPEM(keyFile)
	if err != nil {
		c.at(join(in, keyName), "%s: %s", keyFile, err)
		return
	}
	if _, err := tls.X509KeyPair(certificate, key); err != nil {
		c.at(join(in, certificateName), "cannot be used with %s: %s", keyName, strings.TrimPrefix(err.Error(), "tls: "))
	}
}

// readPEM reads a file of certificates or keys; it does not wait for a pipe.
func readPEM(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", cause(err))
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("is not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(file, maxSecretBytes))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", cause(err))
	}
	return data, nil
}
