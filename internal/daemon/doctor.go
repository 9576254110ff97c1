package daemon

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/smartauth"
)

// Doctor looks at payers as an export would meet them, without starting one and without a database.
type Doctor struct {
	config  *config.Config
	links   links
	options DoctorOptions
}

// DoctorOptions are what a Doctor needs besides the configuration. The zero value works.
type DoctorOptions struct {
	Options
	// JWKSRoots replaces the system's certificate authorities for jwks.url.
	JWKSRoots *x509.CertPool
	// AllowPrivate takes a jwks.url that resolves to a private address.
	AllowPrivate bool
	// Patience is how long the FHIR server may take for an answer: an export waits longer, but nobody at a terminal does. Default: 30 s.
	Patience time.Duration
}

// tokenPatience is how long a token is tried for: somebody waits for the answer, and wants to know why there is none.
const tokenPatience = 10 * time.Second

// NewDoctor loads the keys of a configuration. Close the Doctor.
func NewDoctor(ctx context.Context, o DoctorOptions) (*Doctor, error) {
	if o.Secrets == nil {
		o.Secrets = NewSecrets(nil)
	}
	keys, err := openKeys(ctx, o.Config.Keys, o.Options)
	if err != nil {
		return nil, err
	}
	manager := smartauth.NewManager(smartauth.ManagerOptions{Logger: o.Logger, Patience: tokenPatience})
	d := &Doctor{
		config: o.Config, options: o,
		links: links{keys: keys, manager: manager, secrets: o.Secrets, logger: o.Logger},
	}
	for _, p := range o.Config.Payers { // the manager has to know all clients, whichever payer is examined
		_, _ = d.links.to(p) // it sends nothing; Examine tells what is wrong
	}
	return d, nil
}

// Close stops the background work.
func (d *Doctor) Close() { d.links.manager.Close() }

// Examine checks all that an export of the payer needs: the name of its host, TLS, discovery, clocks, the published keys, a
// real token with its scopes, what the server says that it can export, and whether it takes the token. The checks are those
// of smartauth.Finding, and setup, capability, parameters and probe. No request can start an export.
func (d *Doctor) Examine(ctx context.Context, p config.Payer) []smartauth.Finding {
	made, err := d.links.to(p)
	if err != nil {
		return []smartauth.Finding{{
			Check: "setup", Level: smartauth.LevelFail, Detail: err.Error(), Fix: "Correct the payer at " + p.Source + ".",
		}}
	}
	defer made.transport.CloseIdleConnections()
	findings := made.source.Diagnose(ctx, smartauth.DiagnoseOptions{
		TLS: made.transport.TLSConfig(), Dial: made.transport.Dial, JWKSURL: d.config.JWKS.URL,
		JWKSRoots: d.options.JWKSRoots, AllowPrivate: d.options.AllowPrivate,
	})
	for _, f := range findings {
		if f.Level == smartauth.LevelFail && (f.Check == "dns" || f.Check == "tls") {
			return findings // the server cannot be asked; its capabilities would fail the same way
		}
	}
	asking, cancel := d.asking(ctx)
	findings = append(findings, capability(asking, made.client, p)...)
	cancel()
	if slices.ContainsFunc(findings, func(f smartauth.Finding) bool { return f.Check == "token" && f.Level == smartauth.LevelFail }) {
		return findings // there is nothing to try
	}
	asking, cancel = d.asking(ctx)
	defer cancel()
	return append(findings, probe(asking, made.client, p))
}

// asking is ctx for one check that asks the FHIR server.
func (d *Doctor) asking(ctx context.Context) (context.Context, context.CancelFunc) {
	patience := cmp.Or(d.options.Patience, 30*time.Second)
	return context.WithTimeoutCause(ctx, patience, fmt.Errorf("the server takes the request and does not answer within %s", patience))
}

// capability compares what the server declares with what is configured. Servers declare less than they do, so nothing here
// fails (DISC-7).
func capability(ctx context.Context, client *export.Client, p config.Payer) []smartauth.Finding {
	warn := func(detail, fix string) smartauth.Finding {
		return smartauth.Finding{Check: "capability", Level: smartauth.LevelWarn, Detail: detail, Fix: fix}
	}
	found, err := client.Capability(ctx)
	if err != nil {
		fix := "Nothing, if exports work: some servers publish no CapabilityStatement, or only to those who are signed in."
		if failure, ok := errors.AsType[*export.Error](err); ok && failure.Hint != "" {
			fix = sentence(failure.Hint) + " " + fix
		}
		return []smartauth.Finding{warn("the CapabilityStatement cannot be read: "+err.Error(), fix)}
	}
	var findings []smartauth.Finding
	if offered := offeredLevels(found); !slices.Contains(offered, p.Export.Level) {
		detail := "the server declares no export operation at all"
		if len(offered) > 0 {
			detail = "the server declares exports at level " + strings.Join(offered, ", ") + ", not at level " + p.Export.Level
		}
		findings = append(findings, warn(detail, "Ask the payer at which level it exports, and set export.level to it."))
	}
	if missing := undeclared(found, p.Export.Types); len(missing) > 0 {
		findings = append(findings, warn("the server does not declare "+strings.Join(missing, ", "),
			"Ask the payer whether it has these types; if not, take them out of export.types."))
	}
	more := parameters(ctx, client, found.Definitions[p.Export.Level], p)
	if len(findings) > 0 {
		return append(findings, more...)
	}
	server := strings.TrimSpace(found.Software)
	if server == "" {
		server = "a server without a name"
	}
	return append([]smartauth.Finding{{
		Check: "capability", Level: smartauth.LevelOK,
		Detail: fmt.Sprintf("%s, FHIR %s, %s, exports at level %s", server, found.FHIRVersion, guideOf(found),
			strings.Join(offeredLevels(found), ", ")),
	}}, more...)
}

// guideOf says which version of the Bulk Data guide a server claims to follow.
func guideOf(c export.Capability) string {
	switch {
	case c.GuideVersion != "":
		return "Bulk Data guide " + c.GuideVersion
	case c.BulkData:
		return "the Bulk Data guide in a version that it does not tell"
	default:
		return "without a word of the Bulk Data guide"
	}
}

func offeredLevels(c export.Capability) []string {
	var offered []string
	for level, ok := range map[string]bool{"system": c.System, "patient": c.Patient, "group": c.Group} {
		if ok {
			offered = append(offered, level)
		}
	}
	slices.Sort(offered)
	return offered
}

// undeclared lists the types that a server which declares any does not declare.
func undeclared(c export.Capability, types []string) []string {
	if len(c.Types) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(types), func(t string) bool { return slices.Contains(c.Types, t) })
}

// sentence makes a hint a sentence of its own.
func sentence(hint string) string {
	hint = strings.TrimRight(hint, ".")
	return strings.ToUpper(hint[:1]) + hint[1:] + "."
}
