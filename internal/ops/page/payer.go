package page

import (
	"context"
	"net/http"
	"slices"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/ops"
	"ingestd/internal/smartauth"
	"ingestd/internal/store"
)

// payerExports is how many of its last exports a payer's page lists.
const payerExports = 15

// payerView is all that is shown of a payer.
type payerView struct {
	Row      row
	Config   config.Payer
	Settings []config.Shown
	Digest   string
	Exports  []ops.ExportSummary
	Events   []store.AuditEvent
	Tokens   []smartauth.Status
	Keys     []smartauth.KeyStatus // of which the first signs
	JWKS     config.JWKS
	Signs    bool
}

// WithPayer says that the exports are of one payer.
func (payerView) WithPayer() bool { return false }

// payerRead is what of it the database knows.
type payerRead struct {
	exports []ops.ExportSummary
	events  []store.AuditEvent
}

func (p *Page) payerPage(v *visit) error {
	name := v.r.PathValue("name")
	c, _ := p.options.Config()
	at := slices.IndexFunc(c.Payers, func(payer config.Payer) bool { return payer.Name == name })
	if at < 0 {
		return errNoPage
	}
	payer := c.Payers[at]
	fleet, err := p.overview(v.r.Context())
	if err != nil {
		return err
	}
	k, err := read(v.r.Context(), &p.known, "payer "+name, func(ctx context.Context) (payerRead, error) {
		var r payerRead
		var err error
		if r.exports, err = p.options.Direct.Exports(ctx, ops.ExportFilter{Payer: name, Limit: payerExports}); err != nil {
			return r, err
		}
		r.events, err = p.options.Direct.Audit(ctx, store.AuditFilter{Object: store.PayerObject(name)}, maxEvents)
		return r, err
	})
	if err != nil {
		return err
	}
	body := payerView{
		Config: payer, Settings: payer.Shown(), Digest: payer.Digest(), Exports: k.Value.exports, Events: k.Value.events, JWKS: c.JWKS,
		Signs: payer.Auth.Method == smartauth.MethodPrivateKeyJWT,
	}
	if i := slices.IndexFunc(fleet.Value.Rows, func(r row) bool { return r.Payer == name }); i >= 0 {
		body.Row = fleet.Value.Rows[i]
	}
	body.Tokens, body.Keys = p.tokensOf(name), p.keysOf(payer)
	page := v.chrome(name, "payers", body)
	page.Down, page.Since = k.Down || fleet.Down, earlier(k.At, fleet.At)
	page.Follows, page.Watch, page.Sequence = true, name, p.board.sequenceOf(fleet.Value)
	return v.show(http.StatusOK, "payer", page)
}

// Failing reports whether there is no token because the last attempt to get one failed.
func (v payerView) Failing() bool {
	return slices.ContainsFunc(v.Tokens, func(t smartauth.Status) bool { return t.Failure != nil })
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// tokensOf is what this instance knows of a payer's access token. There may be two for a time, where the configuration changed.
func (p *Page) tokensOf(payer string) []smartauth.Status {
	if p.options.Tokens == nil {
		return nil
	}
	var of []smartauth.Status
	for _, status := range p.options.Tokens() {
		if slices.Contains(status.Payers, payer) {
			of = append(of, status)
		}
	}
	slices.SortFunc(of, func(a, b smartauth.Status) int { return b.Obtained.Compare(a.Obtained) })
	return of
}

// keysOf are the keys, the one that signs for a payer first.
func (p *Page) keysOf(payer config.Payer) []smartauth.KeyStatus {
	if p.options.Keys == nil || payer.Auth.Method != smartauth.MethodPrivateKeyJWT {
		return nil
	}
	keys := p.options.Keys()
	rank := func(k smartauth.KeyStatus) int {
		switch {
		case k.State != smartauth.KeyActive:
			return 2
		case k.Kid == payer.Auth.Key:
			return 0
		}
		return 1
	}
	slices.SortStableFunc(keys, func(a, b smartauth.KeyStatus) int { return rank(a) - rank(b) })
	return keys
}

// configBody is the configuration in use.
type configBody struct {
	YAML     string
	Digest   string
	LoadedAt time.Time
	Files    []string
}

func (p *Page) configPage(v *visit) error {
	c, loadedAt := p.options.Config()
	text, err := c.Dump()
	if err != nil {
		return err
	}
	return v.show(http.StatusOK, "configuration", v.chrome("Configuration", "configuration", configBody{
		YAML: string(text), Digest: c.Effective().Digest, LoadedAt: loadedAt, Files: c.Files,
	}))
}
