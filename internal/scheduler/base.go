package scheduler

import (
	"context"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// noteBases stores where each payer is, and warns of one whose API version changed: ids of resources may differ between
// versions, so that another version is another payer, with a name of its own (protocol.md ND-9). What the old version
// published would leave as ghosts; the guard, load.ghost_max_share, holds that back.
func (e *Engine) noteBases(ctx context.Context, payers []string) {
	for _, name := range payers {
		p, ok := e.roster.payer(name)
		if !ok || !p.Config.Enabled {
			continue
		}
		before, err := e.store.NoteBase(ctx, name, p.Config.FHIRURL)
		if ctx.Err() != nil {
			return // it is to stop: nothing is wrong
		}
		if err != nil {
			e.logger.WarnContext(ctx, "the payer's base URL cannot be compared with the last one", "payer", name, "error", err)
			continue
		}
		was, is := apiVersion(before), apiVersion(p.Config.FHIRURL)
		if before != "" && was != is {
			e.logger.WarnContext(ctx, "the payer's fhir_url names another API version: its resources may have other ids and forms; "+
				"a payer with a name of its own keeps them apart", "payer", name, "was", was, "is", is)
		}
	}
}

var versionSegment = regexp.MustCompile(`(?i)^(v[0-9]+([._][0-9]+)*|[0-9]+\.[0-9]+(\.[0-9]+)*|r[2-9]b?|stu[23]|dstu[12]?)$`)

// apiVersion is what the path of a base URL says of the API's and FHIR's version: "v2", "r4", "v1/r4"; "none" where it says
// nothing.
func apiVersion(fhirURL string) string {
	u, err := url.Parse(fhirURL)
	if err != nil {
		return "none"
	}
	segments := slices.DeleteFunc(strings.Split(u.Path, "/"), func(segment string) bool { return !versionSegment.MatchString(segment) })
	if len(segments) == 0 {
		return "none"
	}
	return strings.ToLower(strings.Join(segments, "/"))
}
