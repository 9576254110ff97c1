package scheduler

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/store"
)

// warnOfSharedClients warns of payers that are one and the same to the server: the same client of the same group. Servers that allow
// one export a client and group make them wait for one another (protocol.md KICK-8).
func (e *Engine) warnOfSharedClients(ctx context.Context) {
	warned := make(map[string]bool)
	sharing := e.roster.sharers()
	for _, name := range slices.Sorted(maps.Keys(sharing)) {
		if warned[name] {
			continue
		}
		names := append([]string{name}, sharing[name]...)
		for _, other := range names {
			warned[other] = true
		}
		e.logger.WarnContext(ctx, "payers share client, server and group: they wait for one another's exports; one payer with the types of "+
			"all asks once", "payers", names)
	}
}

// shareOut returns, for each payer that shares its client with others, the names of these.
func shareOut(payers map[string]Payer) map[string][]string {
	configs := make([]config.Payer, 0, len(payers))
	for _, name := range slices.Sorted(maps.Keys(payers)) {
		configs = append(configs, payers[name].Config)
	}
	sharing := make(map[string][]string)
	for _, names := range sharedClients(configs) {
		for _, name := range names {
			sharing[name] = slices.DeleteFunc(slices.Clone(names), func(other string) bool { return other == name })
		}
	}
	return sharing
}

// turnPause is how long an export waits at most before it looks again whether that of another payer with the same client is over.
const turnPause = 15 * time.Second

// awaitTurn puts an export off while the server works on one for another payer that is the same client to it: one active export per
// client and group (protocol.md KICK-8). The earlier export goes first, so that two do not wait for each other.
func (e *Engine) awaitTurn(ctx context.Context, x store.Export, pollMax time.Duration) error {
	others := e.roster.sharers()[x.Payer]
	if len(others) == 0 {
		return nil
	}
	earlier, err := e.store.AtWork(ctx, others, x.ID)
	if err != nil || earlier == "" {
		return err
	}
	return &export.Error{
		Phase: export.PhaseKickOff, Code: codeClientBusy, Action: export.ActionWait, RetryAfter: min(orDefault(pollMax, turnPause), turnPause),
		Detail: "the server works on an export of " + earlier + ", which is the same client and group",
	}
}

// sharedClients returns the names of enabled payers that ask the same server, as the same client, for the same group.
func sharedClients(payers []config.Payer) [][]string {
	type identity struct{ server, client, level, group string }
	var order []identity
	names := make(map[identity][]string)
	for _, p := range payers {
		if !p.Enabled || p.Auth.ClientID == "" {
			continue
		}
		id := identity{strings.TrimRight(p.FHIRURL, "/"), p.Auth.ClientID, p.Export.Level, p.Export.GroupID}
		if names[id] == nil {
			order = append(order, id)
		}
		names[id] = append(names[id], p.Name)
	}
	var shared [][]string
	for _, id := range order {
		if len(names[id]) > 1 {
			shared = append(shared, names[id])
		}
	}
	return shared
}
