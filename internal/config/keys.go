package config

import "strings"

// key describes one key of the file: what it means, and which values it takes. The checks of single values, the JSON
// Schema and docs/configuration.md follow from it.
type key struct {
	// text says what the key means, in a sentence or two of Markdown.
	text string
	// want is what a required key must be given; empty for optional keys.
	want string
	// standard describes the default where it is not a constant.
	standard string
	// enum lists the values that a string may have.
	enum []string
	// number says that editors let a bare number stand where a string is meant. Load does so everywhere.
	number bool
	// low and high bound a number, size or duration, in the notation of the file; empty is no bound.
	low, high string
}

// describeKey finds the description of a key by its path, in which the elements of a list have no number.
func describeKey(path string) key {
	if rest, ok := strings.CutPrefix(path, "defaults."); ok {
		path = "payers[]." + rest
	}
	return keys[path]
}

// The values of keys that choose one of a few.
var (
	logLevels     = []string{"debug", "info", "warn", "error"}
	algorithms    = []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"}
	keyStates     = []string{"active", "published"}
	authMethods   = []string{"private_key_jwt", "client_secret_basic", "client_secret_post", "none"}
	levels        = []string{"system", "patient", "group"}
	databaseAuths = []string{AuthPassword, AuthRDSIAM}
	histories     = []string{"none", "deletes", "all"}

	indexMethods = []string{"btree", "gin", "gist", "brin", "hash", "spgist"}
)

// keys describes every key of the file, by its path.
var keys = map[string]key{
	"include": {text: "Further files, as names or patterns relative to this file. They may hold `payers` and `keys` and nothing else, " +
		"and cannot include in turn. A pattern that matches nothing is allowed, a name that does not exist is not."},

	"database": {text: "Where resources are stored."},
	"database.url": {
		want: "env:NAME, file:/path, postgres://… or embedded:DIR",
		text: "A Postgres connection string, as a reference or written out, or `embedded:DIR`: a private local Postgres that " +
			"ingestd runs from the installed binaries, with its data in DIR.",
	},
	"database.direct_url": {
		text: "The same database without a pooler in between, where `url` leads to one that gives each transaction another session, such as " +
			"PgBouncer with `pool_mode = transaction`: loads, publishes, migrations and the job engine's `LISTEN` need a session of their own. " +
			"See [connection poolers](architecture.md#connection-poolers).",
		standard: "`url`",
	},
	"database.password": {text: "The password, apart from the URL. It is read anew for each connection, so that it can be rotated while the daemon runs: " +
		"connections that stand go on, and new ones use the new one.", standard: "that of the URL"},
	"database.auth": {
		text: "How the user signs in: with a password (or a client certificate), or with `rds-iam`: RDS' IAM authentication, by a token that is signed for each " +
			"connection with the AWS credentials of the machine, such as the role of an ECS task. `rds-iam` needs `sslmode=verify-full` and one host.",
		enum: databaseAuths,
	},
	"database.region": {text: "The AWS region of the database, for `rds-iam`.", standard: "that of the AWS SDK: `AWS_REGION`"},
	"database.schema": {text: "The schema of the resource tables; their history stands in the schema of this name with `_history` behind it."},
	"database.max_connections": {
		text: "Connections of this instance to Postgres, at most; those by `direct_url` among them.",
		low:  "4", high: "10000",
	},

	"database.indexes": {text: "Indexes of the resource tables, beside the primary key and `patient_id`. Each is built for each payer after its next " +
		"publish, or by `ingestd indexes build`, while readers go on (`CREATE INDEX CONCURRENTLY`); where its definition changes, anew before " +
		"the old one is dropped. One that is no longer listed stays until it is dropped by hand. Postgres refuses rows whose value is longer " +
		"than 2,700 bytes in a `btree`: cut long text (`left(…, 500)`), or use `hash`."},
	"database.indexes[].name": {
		text: "Tells it from the others, and becomes part of its name in Postgres: `[a-z][a-z0-9_]{0,29}`. Unique.",
		want: "a name of small letters, digits and _",
	},
	"database.indexes[].types": {text: "The resource types whose tables get it; without any, all."},
	"database.indexes[].columns": {
		text: "What is indexed: the SQL between the parentheses of `CREATE INDEX`, for example `(resource #>> '{type,coding,0,code}')`, " +
			"or `resource jsonb_path_ops` with `using: gin`.",
		want: "the columns or expressions, as SQL",
	},
	"database.indexes[].using": {text: "The access method.", enum: indexMethods, standard: "`btree`"},
	"database.indexes[].where": {text: "The condition of a partial index, as SQL.", standard: "none: a whole index"},

	"admin":        {text: "The listener of health, metrics, status page and JSON API."},
	"admin.listen": {text: "`host:port`; empty switches the listener off."},
	"admin.token": {
		text:     "The bearer token that callers must send. Required as soon as `admin.listen` is not a loopback address.",
		standard: "none",
	},

	"jwks": {text: "The public half of the keys, for payers that fetch it."},
	"jwks.listen": {
		text:     "`host:port` of a listener that serves `/.well-known/jwks.json` and nothing else, for example `0.0.0.0:8091`.",
		standard: "off",
	},
	"jwks.url": {text: "Where payers fetch the key set; `ingestd doctor` verifies it.", standard: "none"},
	"jwks.certificate_file": {
		text:     "A PEM file with the listener's certificate and its whole chain; it is read again when it changes.",
		standard: "none: plain HTTP, for a proxy that terminates TLS",
	},
	"jwks.key_file": {text: "The PEM file of the certificate's private key.", standard: "none"},
	"jwks.max_age": {
		text: "How long payers may keep the key set (`Cache-Control`). A new key is to be published that long before it signs.",
		low:  "1m", high: "168h",
	},

	"log":       {text: "The log, on standard error."},
	"log.level": {text: "The least level that is logged.", enum: logLevels},
	"log.format": {
		text: "`json` for machines, `text` for people; `auto` is `text` on a terminal and `json` everywhere else.",
		enum: []string{LogAuto, "json", "text"},
	},

	"tracing": {text: "OpenTelemetry traces: one per export, over all instances ([tracing](tracing.md))."},
	"tracing.endpoint": {
		text: "The URL of a collector that takes OTLP over HTTP, for example `http://127.0.0.1:4318`. Without a path, traces go to " +
			"`/v1/traces`. `http` is for loopback hosts where `headers` are sent.",
		standard: "off",
	},
	"tracing.headers":      {text: "Further request headers. A value that is a reference (`env:NAME`, `file:/path` …) is resolved when it is sent."},
	"tracing.sample_ratio": {text: "The share of exports that are traced. To be the same on all instances.", low: "0", high: "1"},

	"shutdown": {text: "How ingestd stops."},
	"shutdown.grace": {
		text: "How long running work may take to reach a checkpoint after SIGTERM. Work that does not is taken up from its last one.",
		low:  "1ms",
	},

	"reload": {text: "How a changed configuration takes effect while the daemon runs: see [above](#changing-it-while-the-daemon-runs)."},
	"reload.watch": {text: "Whether to look for changed files, also such as are exchanged by a link (Kubernetes). SIGHUP reloads in " +
		"either case."},
	"reload.removed_payers": {
		text: "What becomes of the running export of a payer that is no longer in any instance's configuration: `finish` publishes it, " +
			"under the settings that it began with; `cancel` ends it, here and at the payer.",
		enum: []string{RemovedFinish, RemovedCancel},
	},

	"workers":         {text: "What this instance does at once, over all payers."},
	"workers.control": {text: "Kick-offs, polls, publishes and clean-ups at once.", low: "1", high: "1000"},
	"workers.downloads": {
		text: "Files that are loaded at once; never more than half of `database.max_connections`.",
		low:  "1", high: "1000",
	},
	"workers.chunk": {
		text: "Bytes of lines that are staged, and committed, at once. A load holds two chunks in memory, and repeats at most one after a crash.",
		low:  "64KiB", high: "64MiB",
	},

	"notify":        {text: "Webhooks that are told when an export fails or is held back, when a payer's data grow stale, and when it is over: [notifications](notifications.md)."},
	"notify[].name": {text: "Names the target in logs, metrics and `ingestd notify test`: `[a-z][a-z0-9_-]{0,39}`. Unique.", want: "a name of small letters, digits, _ and -"},
	"notify[].url": {
		text: "Where events are POSTed, as a reference or written out; `https`, or `http` for loopback hosts. The URLs of chat systems are secrets.",
		want: "a reference such as env:NAME, or https://…",
	},
	"notify[].secret": {
		text:     "A reference to the key of the HMAC-SHA256 by which the receiver knows that an event is from here.",
		standard: "none: not signed",
	},
	"notify[].events": {text: "The events that are sent: `failed`, `held`, `stale`, `recovered`.", standard: "`[]`: all"},
	"notify[].payers": {text: "The payers of whom events are sent.", standard: "`[]`: all"},
	"notify[].template": {
		text: "The form of the body: `json` is the event as it is, `slack` what Slack, Mattermost and others that read the same show as a message.",
		enum: []string{"json", "slack"},
	},
	"notify[].body": {
		text:     "A template of your own for the body (Go's `text/template`), in the place of `template`.",
		standard: "none",
	},
	"notify[].headers": {text: "Further request headers. A value that is a reference (`env:NAME`, `file:/path` …) is resolved when it is sent."},
	"notify[].timeout": {text: "How long one request may take.", low: "100ms", high: "30s"},
	"ecs":              {text: "How an instance behaves as a task of Amazon ECS."},
	"ecs.task_protection": {text: "Whether the task asks ECS, while it loads or publishes, not to be chosen when the service is made smaller or deployed anew, where " +
		"`ECS_AGENT_URI` is set. It is released at the end of the work, and after an hour in a row for three minutes."},
	"fleet": {text: "What all instances on one database do at once. It is to be the same in each instance's configuration."},
	"fleet.max_exports": {
		text: "Exports that run at once, of all payers and over all instances; 0 is no bound. Those beyond it wait in the order of their due " +
			"time, one started by hand by the time of its start. An export that is held back for an operator does not count.",
		low: "0", high: "100000",
	},

	"retention": {text: "How long what is over is kept: [what grows, and what is pruned](operations.md#what-grows-and-what-is-pruned). `serve` prunes, in small " +
		"steps. To be the same in each instance's configuration. The audit is never pruned by itself: [the audit](audit.md#retention)."},
	"retention.exports": {
		text: "How long an export is kept after its end, with its files, ledgers and quarantine; `0s` is for ever, and less than `168h` is refused. " +
			"Whatever its age, what a payer's next exports, its status or its freshness rest on stays, and so do its last 30.",
		low: "0s",
	},
	"retention.quarantine": {
		text: "How long quarantined lines, which are PHI, are kept after the end of their export; at least `24h`, and no longer than `exports`.",
		low:  "0s", standard: "`0s`: as long as `exports`",
	},
	"retention.history": {
		text: "How long earlier versions of resources are kept in the history after they were replaced or removed; at least `24h`. What " +
			"`fhir.as_of` says of an instant before that is not whole.",
		low: "0s", standard: "`0s`: for ever",
	},

	"keys":      {text: "The private keys that sign client assertions."},
	"keys[].id": {text: "The JWK's `kid`. Unique.", want: "the key's kid", number: true},
	"keys[].private_key": {
		text: "A reference to the private key: PKCS#1, PKCS#8 or SEC1 PEM, or a JWK. A file must be readable by its owner only. " +
			"`aws-kms:ARN` names a key that signs in AWS KMS and never leaves it.",
		want: "a reference such as file:/etc/ingestd/keys/2026-11.pem",
	},
	"keys[].passphrase": {text: "A reference to the passphrase of an encrypted PKCS#8 key.", standard: "none"},
	"keys[].algorithm":  {text: "The JWS algorithm.", standard: "the key's own", enum: algorithms},
	"keys[].state":      {text: "`active` signs; `published` stands in the JWKS only: a key that is being rotated in or out.", enum: keyStates},

	"defaults": {text: "Any setting of a payer but its `name` and `fhir_url`, for all payers. A payer's own value wins, key by key: " +
		"mappings are merged, lists are replaced."},

	"payers":            {text: "The sources of data: one FHIR server and one registration each."},
	"payers[].name":     {text: "Names the payer and its partitions: `[a-z][a-z0-9_]{0,39}`. Unique.", want: "a name of small letters, digits and _"},
	"payers[].fhir_url": {text: "The FHIR base URL, `https`; `http` for loopback hosts only.", want: "the payer's FHIR base URL"},
	"payers[].enabled":  {text: "Whether the payer is exported by its schedule. Its data stay where they are."},

	"payers[].auth":           {text: "The registration at the payer's authorization server (SMART Backend Services)."},
	"payers[].auth.method":    {text: "How ingestd authenticates at the token endpoint; `none` sends no token at all.", enum: authMethods},
	"payers[].auth.client_id": {text: "The id that the payer registered ingestd under. Required unless `method` is `none`.", number: true},
	"payers[].auth.key": {
		text:     "The `id` of the entry of `keys` that signs; it must be active.",
		standard: "the only active key", number: true,
	},
	"payers[].auth.kid": {text: "The `kid` that the payer knows the key by, where it issues its own.", standard: "the key's id", number: true},
	"payers[].auth.token_url": {
		text: "The token endpoint. It is needed where it lies on another host than `fhir_url`, and payers with other FHIR servers have the" +
			" same `client_id`: discovery could name the endpoint of another one.",
		standard: "discovered from `fhir_url`/.well-known/smart-configuration",
	},
	"payers[].auth.audience": {text: "The `aud` of client assertions.", standard: "the token endpoint"},
	"payers[].auth.scopes": {
		text:     "The scopes to ask for, sent as they are. Only `system/` scopes make sense: nobody signs in.",
		standard: "`system/<Type>.read` (or `.rs`) for each of `export.types`",
	},
	"payers[].auth.client_secret": {text: "A reference to the secret, for the `client_secret_…` methods.", standard: "none"},
	"payers[].auth.jku": {
		text:     "The JWKS URL as registered at the payer, to the byte, for payers that want it in the assertion's header (`jku`).",
		standard: "none: not sent",
	},
	"payers[].auth.basic_raw": {
		text: "Send id and secret of `client_secret_basic` as they are, to servers that do not decode them (RFC 6749 form-encodes both).",
	},
	"payers[].auth.send_client_id": {text: "Send `client_id` in the form of `private_key_jwt` too, to servers that want it there."},

	"payers[].export":          {text: "What is asked of the payer's `$export` operation."},
	"payers[].export.level":    {text: "`system` asks `/$export`, `patient` `/Patient/$export`, `group` `/Group/[group_id]/$export`.", enum: levels},
	"payers[].export.group_id": {text: "The id of the group. Required at level `group`, refused at the others.", number: true},
	"payers[].export.types":    {text: "The resource types (`_type`): names of FHIR R4, R4B or R5.", standard: "`[]`: all that the payer has"},
	"payers[].export.type_filters": {text: "Searches that narrow the types (`_typeFilter`), each `Type?query` with a type of `export.types`. " +
		"Several for one type are alternatives. Parameters that shape a result (`_sort`, `_include`, `_elements`, `_count` …) are refused."},
	"payers[].export.elements":                {text: "Elements to which resources are reduced (`_elements`): `element` or `Type.element`."},
	"payers[].export.include_associated_data": {text: "Sets of data to add (`includeAssociatedData`), for example `LatestProvenanceResources`."},
	"payers[].export.method": {
		text: "The method of the kick-off: `get`, or `post` with a Parameters resource.",
		enum: []string{"get", "post"},
	},
	"payers[].export.patients": {text: "The patients to export, as `Patient/id` or mere ids. Only with method `post`, and not at level `system`.", number: true},
	"payers[].export.since": {text: "The start of an incremental run: `auto` takes the watermark of the last published export, `never` makes " +
		"every run a full one, an RFC 3339 instant is the start of the first run."},
	"payers[].export.since_overlap": {
		text: "Subtracted from the watermark, for payers whose clocks or indexes lag. Unchanged resources cost next to nothing.",
		low:  "0s",
	},
	"payers[].export.full_since": {
		text:     "The RFC 3339 instant that a full run sends as `_since`, where leaving it out does not mean all (AB2D).",
		standard: "none: full runs send no `_since`",
	},
	"payers[].export.attachments": {
		text: "What becomes of content that resources refer to by URL (`Attachment.url` in DocumentReference, DiagnosticReport, Media and" +
			" Communication): `none` fetches nothing; `inline` puts it into the resource, as `Attachment.data`; `table` into the table" +
			" `attachment` beside the resources. It is fetched once for each version of a resource that is loaded from then on, before the publish, and published with it." +
			" What cannot be fetched stands in `ingest.attachment`, with the reason, and keeps nothing back.",
		enum: []string{"none", "inline", "table"},
	},
	"payers[].export.attachment_types": {
		text: "The media types of attachments that are fetched, for example `application/pdf` or `text/*`; without any, all.",
	},
	"payers[].export.log": {
		text: "A directory for a log of each export, `PAYER-NUMBER.ndjson`, in the form of the SMART Bulk Data client: for escalations to the" +
			" payer. It holds no token, no query of a URL and none of the payer's own words but X-Progress.",
		standard: "none: no log",
	},
	"payers[].export.newcomers": {
		text: "What becomes of patients who join the group between two runs, and whose history an incremental run may leave out: `backfill`" +
			" asks for theirs alone (`patient`, by POST), and where the payer does not take that makes the next run a full one, as `full`" +
			" does at once; `ignore` is for payers that send their history by themselves.",
		enum: []string{"backfill", "full", "ignore"},
	},
	"payers[].export.full_schedule": {
		text:     "Cron expression of full runs, besides the incremental ones. Full runs find what the payer dropped without telling.",
		standard: "none",
	},
	"payers[].export.organize_output_by": {text: "The resource type that output files are organised by (`organizeOutputBy`).", standard: "none"},
	"payers[].export.partial_manifests":  {text: "Load pages of the manifest while the payer still works (`allowPartialManifests`)."},
	"payers[].export.handling": {
		text: "`lenient` asks the payer to pass over parameters that it does not know (`Prefer: handling=lenient`), and lets an export go on " +
			"without `elements`, `include_associated_data` and `organize_output_by` where the payer refuses them by name. Types, filters " +
			"and patients are never given up. Some payers refuse the preference itself (DPC).",
		enum: []string{"none", "lenient"},
	},
	"payers[].export.since_optional": {
		text: "With `handling: lenient`, go on without `_since` where the payer refuses it: the export is then a full one.",
	},
	"payers[].export.separate_status": {
		text: "Ask the payer to tell the state of an export apart from that of the request for it (`Prefer: separate-export-status`). It is " +
			"heeded where the payer says that it applies.",
	},
	"payers[].export.timeout": {text: "From kick-off to the complete manifest. Some payers need weeks: `504h`.", low: "1ms"},
	"payers[].export.headers": {text: "Further request headers, sent to the origin of `fhir_url` only. Not for secrets, and not for headers that " +
		"ingestd sets itself."},

	"payers[].schedule": {
		text: "Cron expression of five fields (minute hour day month weekday), a descriptor such as `@daily`, or `@every 6h`. " +
			"A tick that is missed while nothing runs is made up once. A local time that daylight saving skips runs once, when the clock has " +
			"jumped over it; one that comes twice runs once, unless the schedule names every hour.",
		standard: "none: runs only by `ingestd run`",
	},
	"payers[].timezone": {text: "The timezone of both schedules, by its IANA name, for example `America/New_York`."},
	"payers[].jitter":   {text: "Puts the payer's runs off by a fixed part of this, so that payers with the same schedule do not start at once.", low: "0s"},
	"payers[].freshness_slo": {
		text: "How long the payer may be without a publish before its data count as stale: `status` says so, and `notify` tells it. 0 is no limit.",
		low:  "0s",
	},
	"payers[].catch_up": {
		text: "How late a tick may still be made up, for example after an outage. A later one is noted in `ingest.tick` as missed and does not " +
			"run. What `not_between` or a running export of the payer puts off is not late. `0s`: however late.",
		low: "0s",
	},
	"payers[].not_between": {
		text: "A time of day, `HH:MM-HH:MM` by the clock of `timezone`, in which no export is kicked off: what is due then is put off to its end, " +
			"and to `jitter` after that. It may go past midnight. What runs goes on, and `ingestd run` is not bound by it.",
		standard: "none",
	},
	"payers[].profile": {
		text: "Settings that fit a payer's server ([profiles](profiles.md)). They lie beneath what the payer says itself, " +
			"and over the file's `defaults`; a profile that the `defaults` name lies beneath those too.",
		standard: "none", enum: ProfileNames(),
	},

	"payers[].limits":           {text: "What ingestd asks of the payer, and takes from it."},
	"payers[].limits.downloads": {text: "Files at once, over all instances.", low: "1", high: "100"},
	"payers[].limits.downloads_per_file": {
		text: "How often one file may be read, where the payer rations it (AB2D: 6); 0 is no budget.",
		low:  "0", high: "1000000",
	},
	"payers[].limits.poll_min": {text: "The least time between two polls, where the payer names none.", low: "1ms"},
	"payers[].limits.poll_max": {text: "The most time between two polls, also where the payer names more, unless it answered 429.", low: "1ms"},
	"payers[].limits.requests_per_second": {
		text: "Requests to the payer's hosts; 0 is no limit.",
		low:  "0",
	},
	"payers[].limits.max_line": {
		text: "The longest NDJSON line that is loaded; a longer one goes to the quarantine. It bounds the memory of a load.",
		low:  "1KiB", high: "1GiB",
	},

	"payers[].limits.attachment_bytes": {
		text: "The largest attachment that is fetched. `limits.downloads` of them, and as much again, may be in memory at once.",
		low:  "1KiB", high: "256MiB",
	},

	"payers[].download_hosts": {text: "Further hosts that the URLs of output files may name, as `{host: …, token: …}` or the mere host. " +
		"The access token goes to the origin of `fhir_url` only, unless `token` is true here."},
	"payers[].download_hosts[].host":  {text: "`host` or `host:port`.", want: "host or host:port"},
	"payers[].download_hosts[].token": {text: "Whether the access token may be sent there."},

	"payers[].tls":                    {text: "How connections to the payer are secured."},
	"payers[].tls.ca_file":            {text: "A PEM file of certificate authorities, relative to the file that names it.", standard: "those of the system"},
	"payers[].tls.client_certificate": {text: "A PEM file with the client certificate and its chain, for mutual TLS.", standard: "none"},
	"payers[].tls.client_key":         {text: "The PEM file of its private key.", standard: "none"},
	"payers[].tls.min_version":        {text: "The least version of TLS.", enum: []string{"1.2", "1.3"}},

	"payers[].load": {text: "How lines become rows."},
	"payers[].load.history": {
		text: "What is kept of earlier versions: `none`, the last version of what was deleted (`deletes`), or every version (`all`).",
		enum: histories,
	},
	"payers[].load.repair_text": {text: "Load lines that hold text which `jsonb` cannot, `\\u0000` or half a surrogate pair, with U+FFFD in its place," +
		" and count them. Otherwise they go to the quarantine."},
	"payers[].load.quarantine_max_share": {
		text: "The share of lines that may be unusable; an export with more fails, and is not published.",
		low:  "0", high: "1",
	},
	"payers[].load.remove_ghosts": {text: "After a full export, remove the resources that it no longer holds."},
	"payers[].load.accept_errors": {text: "Publish although the payer's error files report fatal or error entries, and go on from there."},
	"payers[].load.errors_max_share": {
		text: "How many entries of severity error the payer's error files may hold, as a share of the lines: the export is then published," +
			" but counts as incomplete. It removes no ghosts, and the watermark stays, so that what is missing is asked for again. Fatal" +
			" entries always fail an export.",
		low: "0", high: "1",
	},
	"payers[].load.ghost_max_share": {
		text: "The share of a payer's resources, of all types that were asked for together, that a full export may remove; with more, the" +
			" publish is held back until somebody decides.",
		low: "0", high: "1",
	},
}
