package scheduler

import (
	"context"
	"maps"
	"slices"
	"strings"

	"ingestd/internal/config"
)

// warnOfSharedClients warns of payers that are one and the same to the server: the same client of the same group. Servers that allow
// one export a client and group make them wait for one another (protocol.md KICK-8).
func (e *Engine) warnOfSharedClients(ctx context.Context) {
	configs := make([]config.Payer, 0, len(e.payers))
	for _, name := range slices.Sorted(maps.Keys(e.payers)) {
		configs = append(configs, e.payers[name].Config)
	}
	for _, names := range sharedClients(configs) {
		e.logger.WarnContext(ctx, "payers share client, server and group: where the server allows one export at a time, they wait for one "+
			"another; one payer with the types of all asks once", "payers", names)
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
