package scheduler

import (
	"context"
	"time"

	"ingestd/internal/store"
)

// A server leaves out of an export of all types, without a word, what it does not grant (protocol.md TOK-4). Types that are named are looked at
// before the kick-off, which does not come about where one is missing.

// granted returns what tells whether the payer's authorization lets resources of a type be read, for an export that is to ask for all of
// them; nil: all, or nothing says so. The error is that of the token, and as good as that of the kick-off, which needs it as well.
func granted(ctx context.Context, p Payer, x store.Export) (func(resourceType string) bool, error) {
	if len(x.Types) > 0 || p.Covers == nil {
		return nil, nil
	}
	return p.Covers(ctx)
}

// coveredWithin bounds the second look: the payer's answer is to be stored, and the token is there as a rule.
const coveredWithin = 2 * time.Second

// coversNow is granted once the kick-off was accepted: a server that withdraws types may have refused the token that was looked at, and
// taken another one. nil where that cannot be told now: what was looked at before holds.
func coversNow(ctx context.Context, p Payer, x store.Export) func(resourceType string) bool {
	ctx, cancel := context.WithTimeout(ctx, coveredWithin)
	defer cancel()
	covers, err := granted(ctx, p, x)
	if err != nil {
		return nil
	}
	return covers
}

// covers says of which types a full export that asked for all of them can tell ghosts, beside those that were not granted at its kick-off:
// what a payer has withdrawn since may be missing from what it sends, and is not gone (INC-4). nil is all of them; of none where that
// cannot be asked now, because the next full export can tell as well.
func (e *Engine) covers(ctx context.Context, p Payer, x store.Export) func(resourceType string) bool {
	if !x.RemovesGhosts {
		return nil
	}
	covers, err := granted(ctx, p, x)
	if err != nil {
		e.logger.WarnContext(ctx, "cannot ask which types are granted: the export removes no ghosts", "payer", x.Payer, "export_id", x.ID, "error", err)
		return func(string) bool { return false }
	}
	return covers
}
