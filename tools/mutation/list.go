package main

// mutants are the lines that must not be broken unnoticed.
var mutants = []mutant{
	// What is loaded, once and whole.
	{
		"checkpoint moves from where it stood", "internal/store/load_chunk.go",
		"AND line_number = $3 AND chunks = $13 - 1 AND", "AND (line_number = $3 OR true) AND (chunks = $13 - 1 OR true) AND",
		"internal/store", "TestLoadFile",
	},
	{
		"file begins with what was loaded", "internal/store/load.go",
		"!bytes.Equal(l.chunker.prefix.Sum(nil), l.file.PrefixDigest) {", "!bytes.Equal(l.chunker.prefix.Sum(nil), l.file.PrefixDigest) && false {",
		"internal/store", "TestFILE7",
	},
	{
		"advisory lock", "internal/store/lock.go",
		"	if !locked {\n		conn.Release()\n		return nil, ErrLocked", "	if !locked && false {\n		conn.Release()\n		return nil, ErrLocked",
		"internal/store", "TestLockFile",
	},
	{
		"generation fences jobs off", "internal/store/export.go",
		"WHERE id = $1 AND generation = $2 AND state IN ('polling', 'loading')`", "WHERE id = $1 AND (generation = $2 OR true) AND state IN ('polling', 'loading')`",
		"internal/store", "TestChanges_of_an_older_generation",
	},
	{
		"stale changes are told", "internal/store/export.go",
		"if tag.RowsAffected() == 0 {\n		return errStale", "if tag.RowsAffected() == 0 && false {\n		return errStale",
		"internal/store", "TestChanges_of_an_older_generation",
	},
	{
		"digest filter", "internal/store/unchanged.go",
		"(SELECT live.digest = k.digest FROM", "(SELECT true OR live.digest = k.digest FROM",
		"internal/store", "TestPublish|TestND6",
	},
	{
		"count of the manifest", "internal/store/load.go",
		"return &CountMismatchError{", "_ = &CountMismatchError{",
		"internal/store", "TestMAN7",
	},
	{
		"a file is loaded as it was read", "internal/store/file.go",
		"AND (line_number, lines, bytes, chunks, prefix_digest) IS NOT DISTINCT FROM", "AND true OR (line_number, lines, bytes, chunks, prefix_digest) IS NOT DISTINCT FROM",
		"internal/store", "TestFileLoadedTx",
	},
	{
		"staging is voided under the generation", "internal/store/tables.go",
		"WHERE id = $1 AND generation = $2 AND state = 'starting' FOR NO KEY UPDATE`", "WHERE id = $1 AND (generation = $2 OR true) AND state = 'starting' FOR NO KEY UPDATE`",
		"internal/store", "TestVoidStaging",
	},

	// What is published.
	{
		"ledger balances", "internal/store/publish_refusal.go",
		"accounted != e.Lines {", "accounted != e.Lines && false {",
		"internal/store", "TestPublish",
	},
	{
		"deletions are counted", "internal/store/publish_refusal.go",
		"if accounted != deletions {", "if accounted != deletions && false {",
		"internal/store", "TestPublish_refuses_an_export_whose_deletions",
	},
	{
		"prepared types stand in staging", "internal/store/publish_refusal.go",
		"if prepared != standing {", "if prepared != standing && false {",
		"internal/store", "TestPublish_refuses_an_export_that_was_prepared",
	},
	{
		"back-fills of later are no ghosts", "internal/store/publish_ghosts.go",
		"p.options.History != \"none\", `AND NOT (`+ofKnownLaterExport(\"live\", e.ID)+`)`)\n\t\tif err != nil {\n\t\t\treturn fmt.Errorf(\"remove ghosts", "p.options.History != \"none\", ``)\n\t\tif err != nil {\n\t\t\treturn fmt.Errorf(\"remove ghosts",
		"internal/store", "TestINC4_what_a_back_fill",
	},
	{
		"no ghosts of types that are not granted", "internal/store/publish_ghosts.go",
		"return !p.options.Covers(resourceType)", "return false && !p.options.Covers(resourceType)",
		"internal/scheduler", "TestINC4_a_type",
	},
	{
		"no ghosts of types that were not granted", "internal/store/publish_ghosts.go",
		"return !e.grants(resourceType)", "return false && !e.grants(resourceType)",
		"internal/scheduler", "TestINC4_a_type",
	},
	{
		"types granted later make a full export", "internal/store/watermark.go",
		"THEN coalesce(old.wants_full_at, now())", "THEN old.wants_full_at",
		"internal/scheduler", "TestTOK4_types_that_are_granted_later",
	},
	{
		"an export of more types is not retried", "internal/scheduler/control.go",
		"|| !asksForNoMore(", "|| false && !asksForNoMore(",
		"internal/scheduler", "TestRetry_asks",
	},
	{
		"the grant is looked at again", "internal/scheduler/adopt.go",
		"covers: coversNow(asking, p, x)", "covers: nil",
		"internal/scheduler", "TestTOK4_what_is_granted_once",
	},
	{
		"a back-fill that lacks types settles nobody", "internal/store/newcomers.go",
		"if lacking || p.", "if false && lacking || p.",
		"internal/store", "TestINC5_newcomers_are_settled",
	},
	{
		"a kick-off in doubt is taken for the least", "internal/store/kickoff.go",
		"CASE WHEN before.was THEN", "CASE WHEN before.was AND false THEN",
		"internal/scheduler", "TestTOK4_a_kick_off_in_doubt",
	},
	{
		"what lacks something settles no newcomers", "internal/store/newcomers.go",
		"|| p.options.Partial || e.of", "|| false && p.options.Partial || e.of",
		"internal/store", "TestINC5_newcomers_are_settled",
	},
	{
		"quarantine's share", "internal/store/publish_refusal.go",
		"if float64(e.Quarantined) > p.options.QuarantineMaxShare*float64(e.Lines) {", "if float64(e.Quarantined) > 2+p.options.QuarantineMaxShare*float64(e.Lines) {",
		"internal/store", "TestPublish",
	},
	{
		"newest wins", "internal/store/prepare.go",
		"last_updated DESC NULLS LAST, file DESC, line DESC)", "last_updated ASC NULLS LAST, file DESC, line DESC)",
		"internal/store", "TestND6|TestPublish",
	},
	{
		"later line wins", "internal/store/prepare.go",
		"last_updated DESC NULLS LAST, file DESC, line DESC)", "last_updated DESC NULLS LAST, file DESC, line ASC)",
		"internal/store", "TestND6|TestPublish",
	},
	{
		"older never replaces newer", "internal/store/compare.go",
		"`live.last_updated > stage.last_updated", "`(live.last_updated > stage.last_updated AND false)",
		"internal/store", "TestND6|TestPublish",
	},
	{
		"ghost threshold", "internal/store/publish_ghosts.go",
		"if !e.Released && float64(e.Ghosts) >", "if false && !e.Released && float64(e.Ghosts) >",
		"internal/store", "TestINC|TestPublish|TestGhost",
	},
	{
		"no ghosts of files that may be cut", "internal/store/publish_ghosts.go",
		"err != nil || !proven {", "err != nil || !proven && false {",
		"internal/store", "TestINC|TestPublish|TestFILE6",
	},
	{
		"no ghosts beside quarantined lines", "internal/store/publish_ghosts.go",
		`e.OrganizedBy != "" || e.Quarantined > 0 {`, `e.OrganizedBy != "" {`,
		"internal/store", "TestINC|TestPublish",
	},
	{
		"no ghosts behind what is published", "internal/store/publish_ghosts.go",
		"err != nil || behind {", "err != nil || behind && false {",
		"internal/store", "TestINC|TestPublish",
	},
	{
		"watermark never moves back", "internal/store/watermark.go",
		"WHERE excluded.since > old.since\n", "WHERE excluded.since > old.since OR true\n",
		"internal/store", "TestMAN2|TestINC|TestPublish|TestWatermark",
	},
	{
		"errors of the payer hold the watermark", "internal/store/publish_refusal.go",
		"p.options.Watermark = time.Time{} // what", "_ = time.Time{} // what",
		"internal/store", "TestMAN5|TestPublish",
	},
	{
		"what is in output is not deleted", "internal/store/publish_removal.go",
		"if slices.Contains(staged, resourceType) {", "if slices.Contains(staged, resourceType) && false {",
		"internal/store", "TestDEL2",
	},
	{
		"errors of Postgres quote no rows", "internal/store/scrub.go",
		`e.Detail, e.Where, e.InternalQuery, e.UnknownFields = "", "", "", nil`, `e.InternalQuery, e.UnknownFields = "", nil`,
		"internal/store", "TestErrors_of_Postgres|TestScrubber",
	},
	{
		"tick is claimed once", "internal/scheduler/tick.go",
		"if err != nil || !claimed || d.outcome", "if err != nil || !claimed && false || d.outcome",
		"internal/scheduler", "TestTick_of_many_instances",
	},

	// What is pruned.
	{
		"what ended lately is kept", "internal/store/retention.go",
		"AND e.finished_at < $3 AND", "AND e.created_at < $3 AND",
		"internal/store", "TestRetention_keeps",
	},
	{
		"what is not cleaned up at the payer is kept", "internal/store/retention.go",
		"AND e.cleaned_up_at IS NOT NULL`", "`",
		"internal/store", "TestRetention_keeps",
	},
	{
		"exports that watermarks are from are kept", "internal/store/retention_rules.go",
		"AND w.export_id = e.id)", "AND w.export_id = e.id AND false)",
		"internal/store", "TestRetention_keeps",
	},
	{
		"what older jobs are behind is kept", "internal/store/retention_rules.go",
		"AND (e.transaction_at IS NULL OR (", "AND (true OR (",
		"internal/store", "TestRetention_keeps|TestRetention_lets_no_older_job",
	},
	{
		"a clock that runs ahead prunes nothing", "internal/store/retention.go",
		"host.Before(now) {", "host.Before(now) && false {",
		"internal/store", "TestRetention_goes_by",
	},

	// Tokens.
	{
		"compare and swap of tokens", "internal/smartauth/grant.go",
		"if g.token.IsZero() || g.token.serial != t.serial {", "if g.token.IsZero() {",
		"internal/smartauth", "TestUSE3|TestManager_refreshes_once|TestManager_keeps_its_token",
	},
	{
		"single flight of token requests", "internal/smartauth/keeper.go",
		"	if !g.keeping {\n		g.keeping = g.manager.start(g.keep)", "	if !g.keeping || g.token.IsZero() {\n		g.keeping = g.manager.start(g.keep)",
		"internal/smartauth", "TestTOK7|TestUSE3|TestManager_refreshes_once",
	},
	{
		"fresh jti", "internal/smartauth/assertion.go",
		"ID:       jti.String(),", `ID:       jti.String()[:0] + "once",`,
		"internal/smartauth", "TestJWT5",
	},
	{
		"token goes to its origins only", "internal/smartauth/transport.go",
		"!t.allowed[originOf(request.URL)] ||", "!t.allowed[originOf(request.URL)] && false ||",
		"internal/smartauth", "TestUSE5",
	},
	{
		"no token of another payer", "internal/smartauth/mixup.go",
		"if other.payer != s.registration.Payer && other.home != s.home {",
		"if other.payer != s.registration.Payer && other.home != s.home && false {",
		"internal/smartauth", "TestUSE5",
	},
	{
		"token goes to its hosts only", "internal/export/urls.go",
		"return c.atBase(u) || c.tokenHosts[hostPort(u)]", "return c.atBase(u) || c.tokenHosts[hostPort(u)] || true",
		"internal/export", "TestFILE|TestUSE5",
	},
	{
		"secrets redact themselves", "internal/smartauth/redact.go",
		"func (secret) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }",
		"func (s secret) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, s.reveal()) }",
		"internal/smartauth", "TestSecrets_redact|TestTOK9",
	},
	{
		"echoed credentials are redacted", "internal/smartauth/redact.go",
		"text = credentialLike.ReplaceAllString(text, redacted)", `text = credentialLike.ReplaceAllString(text, "$0")`,
		"internal/smartauth", "TestTOK9|TestTOK5|TestClean",
	},
	{
		"keys that others can read", "internal/config/secret.go",
		"case private && info.Mode().Perm()&0o077 != 0:", "case private && info.Mode().Perm()&0o077 != 0 && false:",
		"internal/config", "TestResolvePrivate",
	},

	// What a payer sends and names.
	{
		"private addresses are not dialled", "internal/outbound/guard.go",
		"return g.check(ctx, host, addrPort.Addr())", "_ = g.check(ctx, host, addrPort.Addr())\n		return nil",
		"internal/outbound", "TestMAN4|TestFILE2",
	},
	{
		"name servers prove nothing", "internal/outbound/neighbours.go",
		"proven, isOther := n.prove(ctx, addr)", "proven, isOther := true, false",
		"internal/outbound", "TestMAN4",
	},
	{
		"errors quote no answer", "internal/outbound/errors.go",
		"text, _, quotes := strings.Cut(err.Error(), `\"`)", "text, _, quotes := err.Error(), 0, false",
		"internal/outbound", "TestErrors_quote",
	},
	{
		"plain http is for loopback", "internal/outbound/transport.go",
		`case u.Scheme == "http" && config.IsLoopbackHost(u.Hostname()):`, `case u.Scheme == "http" && (config.IsLoopbackHost(u.Hostname()) || true):`,
		"internal/outbound", "TestTransport_takes_plain_http",
	},
	{
		"Retry-After is bounded", "internal/export/retryafter.go",
		"case seconds >= maxRetryAfter.Seconds():", "case seconds >= 10*maxRetryAfter.Seconds():",
		"internal/export", "TestPOLL2|TestRetryAfter",
	},
	{
		"cut gzip is not whole", "internal/export/decode.go",
		"		return n, errExpansion\n	}\n", "		return n, errExpansion\n	}\n	if errors.Is(err, io.ErrUnexpectedEOF) {\n		err = io.EOF\n	}\n",
		"internal/export", "TestFILE6",
	},
	{
		"expansion is bounded", "internal/export/decode.go",
		"if u.expansion > 0 &&", "if u.expansion > 1<<40 &&",
		"internal/export", "TestFILE5",
	},
	{
		"ranges are those that were asked for", "internal/export/resume.go",
		"case !ok, first != offset,", "case !ok, first != offset && false,",
		"internal/export", "TestFILE7",
	},
	{
		"ranges are of the same file", "internal/export/resume.go",
		`etag != "" && etag != r.etag:`, `etag != "" && etag != r.etag && false:`,
		"internal/export", "TestFILE7",
	},
	{
		"checksum of the manifest", "internal/export/content.go",
		"got != b.checksum {", "got != b.checksum && false {",
		"internal/export", "TestMAN6",
	},
	{
		"one value of a manifest is bounded", "internal/export/manifest_bounds.go",
		"b.decoder.InputOffset() + maxManifestValueBytes - b.read", "b.decoder.InputOffset() + 1<<40 - b.read",
		"internal/export", "TestPoll_refuses_an_endless",
	},
	{
		"trickling payers are given up", "internal/export/idle.go",
		"if r.came < trickleBytes && err == nil {", "if r.came < 0 && err == nil {",
		"internal/export", "TestFILE9_a_payer_that_sends_a_byte",
	},
	{
		"redirects are looked at", "internal/export/exchange.go",
		"CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },", "CheckRedirect: nil,",
		"internal/export", "TestFILE3|TestUSE5",
	},
	{
		"text of a payer is printable", "internal/fhir/outcome.go",
		"unicode.IsSpace(r) || !unicode.IsPrint(r) {", "unicode.IsSpace(r) {",
		"internal/fhir", "TestPrintable",
	},
	{
		"JSON on a terminal is text", "cmd/ingestd/output.go",
		`case r == '\n' || unicode.IsPrint(r):`, `case r == '\n' || unicode.IsPrint(r) || r > ' ':`,
		"cmd/ingestd", "TestJSON_is_printed",
	},

	// The admin listener.
	{
		"Host names this host", "internal/ops/guard.go",
		"if !g.open || isLoopbackHost(r.Host) {", "if !g.open || isLoopbackHost(r.Host) || true {",
		"internal/ops", "TestAPI_without_a_token",
	},
	{
		"no requests across origins", "internal/ops/guard.go",
		"if err := g.cross.Check(r); err != nil {", "if err := g.cross.Check(r); err != nil && false {",
		"internal/ops", "TestAPI_without_a_token",
	},
	{
		"no bodies that a page can send", "internal/ops/guard.go",
		`err != nil || media != "application/json" {`, `(err != nil || media != "application/json") && false {`,
		"internal/ops", "TestAPI_without_a_token",
	},
	{
		"the admin token is compared", "internal/ops/guard.go",
		"subtle.ConstantTimeCompare(g.token[:], got[:]) == 1", "subtle.ConstantTimeCompare(g.token[:], got[:]) >= 0",
		"internal/ops", "TestAPI_asks_for_the_token",
	},
	{
		"guesses are bounded", "internal/ops/guard.go",
		"if guesses.Tokens() < 1 {", "if guesses.Tokens() < -1 {",
		"internal/ops", "TestAPI_asks_for_the_token|TestGuard_counts",
	},
}
