package config

import "time"

// Config is the whole configuration of one ingestd instance: the YAML file with its include files merged, defaults
// applied and every value checked. Its shape mirrors the file, so that a reader who knows one knows the other.
type Config struct {
	Include   []string  `yaml:"include"`
	Database  Database  `yaml:"database"`
	Admin     Admin     `yaml:"admin"`
	JWKS      JWKS      `yaml:"jwks"`
	Log       Log       `yaml:"log"`
	Tracing   Tracing   `yaml:"tracing"`
	Shutdown  Shutdown  `yaml:"shutdown"`
	Reload    Reload    `yaml:"reload"`
	Workers   Workers   `yaml:"workers"`
	Notify    []Notify  `yaml:"notify"`
	Fleet     Fleet     `yaml:"fleet"`
	Retention Retention `yaml:"retention"`
	ECS       ECS       `yaml:"ecs"`
	Keys      []Key     `yaml:"keys"`
	Payers    []Payer   `yaml:"payers"`

	// Files are the files that were read: the main one, then the included ones.
	Files []string `yaml:"-"`
}

// Database says where resources are stored.
type Database struct {
	// URL is a Postgres connection string, or embedded:DIR for a private local Postgres.
	URL Secret `yaml:"url"`
	// DirectURL, where set, is the same database for what needs a session; then URL may lead to a pooler by transactions.
	DirectURL Secret `yaml:"direct_url"`
	// Password names the password apart from the URL; it is read anew for each connection.
	Password Secret `yaml:"password"`
	// Auth is password or rds-iam.
	Auth string `yaml:"auth"`
	// Region is the AWS region of the database, for rds-iam.
	Region string `yaml:"region"`
	// Schema is the schema of the resource tables.
	Schema string `yaml:"schema"`
	// MaxConnections bounds the connection pool of this instance.
	MaxConnections int `yaml:"max_connections"`
	// Indexes are what the resource tables get beside their own.
	Indexes []Index `yaml:"indexes"`
}

// ECS is how an instance behaves as a task of Amazon ECS.
type ECS struct {
	// TaskProtection keeps ECS from choosing this task, while it loads or publishes, when the service is made smaller.
	TaskProtection bool `yaml:"task_protection"`
}

// Index is a further index of resource tables, built for each payer after a publish, while readers go on.
type Index struct {
	// Name tells it from the others: [a-z][a-z0-9_]{0,29}.
	Name string `yaml:"name"`
	// Types are the resource types whose tables get it; all if empty.
	Types []string `yaml:"types"`
	// Columns is the SQL of the columns or expressions.
	Columns string `yaml:"columns"`
	// Using is btree, gin, gist, brin, hash or spgist.
	Using string `yaml:"using"`
	// Where is the SQL of a partial index's condition.
	Where string `yaml:"where"`
}

// Admin is the listener of health, metrics, status and the JSON API.
type Admin struct {
	// Listen is host:port; empty switches the listener off.
	Listen string `yaml:"listen"`
	// Token is the bearer token that callers must send; required unless Listen is a loopback address.
	Token Secret `yaml:"token"`
}

// JWKS is the optional public listener that payers fetch the public keys from.
type JWKS struct {
	Listen string `yaml:"listen"`
	// URL is where payers reach the key set; doctor verifies it.
	URL string `yaml:"url"`
	// CertificateFile and KeyFile switch TLS on: PEM, with the whole chain. They are read again when they change.
	CertificateFile string `config:"file" yaml:"certificate_file"`
	KeyFile         string `config:"file" yaml:"key_file"`
	// MaxAge is how long payers may keep the set: a new key is published at least that long before it signs.
	MaxAge time.Duration `yaml:"max_age"`
}

// Log is the form of the log on standard error.
type Log struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// Tracing says where traces are sent.
type Tracing struct {
	// Endpoint is the URL of an OTLP collector; empty sends nothing.
	Endpoint string `yaml:"endpoint"`
	// Headers are further request headers; a value that is a reference is resolved.
	Headers map[string]string `yaml:"headers"`
	// SampleRatio is the share of exports that are traced.
	SampleRatio float64 `yaml:"sample_ratio"`
}

// Shutdown bounds a clean stop.
type Shutdown struct {
	// Grace is how long running work may take to reach a checkpoint after SIGTERM.
	Grace time.Duration `yaml:"grace"`
}

// Reload says how a changed configuration takes effect while the daemon runs.
type Reload struct {
	// Watch looks for changed files; SIGHUP works without it.
	Watch bool `yaml:"watch"`
	// RemovedPayers is finish or cancel: what becomes of the running export of a payer that the configuration no longer has.
	RemovedPayers string `yaml:"removed_payers"`
}

// Workers bounds what this instance does at once, over all payers.
type Workers struct {
	// Control is the number of kick-offs, polls, publishes and clean-ups at once.
	Control int `yaml:"control"`
	// Downloads is the number of files that are loaded at once; never more than half of database.max_connections.
	Downloads int `yaml:"downloads"`
	// Chunk is how many bytes of lines are staged, and committed, at once. A load holds two chunks in memory.
	Chunk Size `yaml:"chunk"`
}

// Notify is a webhook that is told what happens to payers.
type Notify struct {
	// Name names the target in logs, metrics and 'ingestd notify test'.
	Name string `yaml:"name"`
	// URL is where events are sent, or a reference to it: the URLs of chat systems are secrets.
	URL Secret `yaml:"url"`
	// Secret refers to the key of the HMAC by which the receiver knows the sender; empty signs nothing.
	Secret Secret `yaml:"secret"`
	// Events are those that are sent; empty sends all of NotifyEvents.
	Events []string `yaml:"events"`
	// Payers are those of whom events are sent; empty sends those of all.
	Payers []string `yaml:"payers"`
	// Template is json or slack.
	Template string `yaml:"template"`
	// Body is a text/template of the target's own, in the place of Template.
	Body string `yaml:"body"`
	// Headers are further request headers; a value that is a reference is resolved.
	Headers map[string]string `yaml:"headers"`
	// Timeout bounds one request.
	Timeout time.Duration `yaml:"timeout"`

	// Source is where the target stands, file:line, for messages.
	Source string `yaml:"-"`
}

// NotifyEvents are the events that targets are told.
var NotifyEvents = []string{"failed", "held", "stale", "recovered"}

// Fleet bounds what all instances on one database do at once. It is to be the same on each of them.
type Fleet struct {
	// MaxExports is the number of exports that run at once; 0 is no bound.
	MaxExports int `yaml:"max_exports"`
}

// Retention says how long what is over is kept. It is to be the same on each instance.
type Retention struct {
	// Exports is how long an export is kept after its end, with its files and ledgers; 0 is for ever.
	Exports time.Duration `yaml:"exports"`
	// Quarantine is how long quarantined lines are kept after the end of their export; 0 is as long as Exports.
	Quarantine time.Duration `yaml:"quarantine"`
	// History is how long earlier versions of resources are kept after their end; 0 is for ever.
	History time.Duration `yaml:"history"`
}

// Key is a private key that signs client assertions.
type Key struct {
	// ID is the JWK's kid.
	ID string `yaml:"id"`
	// PrivateKey refers to PEM or JWK bytes, or to a key in AWS KMS.
	PrivateKey Secret `yaml:"private_key"`
	// Passphrase refers to what opens an encrypted PKCS#8 key.
	Passphrase Secret `yaml:"passphrase"`
	// Algorithm is a JWS alg; empty takes the key's own default.
	Algorithm string `yaml:"algorithm"`
	// State is active (signs) or published (stands in the JWKS only).
	State string `yaml:"state"`

	// Source is where the key stands, file:line, for messages.
	Source string `yaml:"-"`
}

// Payer is one source of data: one FHIR server and one registration at its authorization server.
type Payer struct {
	// Name names the partitions: [a-z][a-z0-9_]{0,39}.
	Name    string `yaml:"name"`
	FHIRURL string `yaml:"fhir_url"`
	Enabled bool   `yaml:"enabled"`
	Auth    Auth   `yaml:"auth"`
	Export  Export `yaml:"export"`
	// Schedule is a cron expression of five fields, a descriptor such as @daily, or @every DURATION; empty never runs by itself.
	Schedule string        `yaml:"schedule"`
	Timezone string        `yaml:"timezone"`
	Jitter   time.Duration `yaml:"jitter"`
	// FreshnessSLO is how long the payer may be without a publish before its data count as stale; 0 is for ever.
	FreshnessSLO time.Duration `yaml:"freshness_slo"`
	// CatchUp is how late a missed tick may still be made up; 0 is however late.
	CatchUp time.Duration `yaml:"catch_up"`
	// NotBetween is a Window of each day in which the schedules start no export; empty is none.
	NotBetween string `yaml:"not_between"`
	// Profile names settings that fit the payer's server; see Profiles.
	Profile       string         `yaml:"profile"`
	Limits        Limits         `yaml:"limits"`
	DownloadHosts []DownloadHost `yaml:"download_hosts"`
	TLS           TLS            `yaml:"tls"`
	Load          Loading        `yaml:"load"`

	// Source is where the payer stands, file:line, for messages.
	Source string `yaml:"-"`
	// FromProfile are the keys whose values come from the profile, because nothing in the file overrides them.
	FromProfile []string `yaml:"-"`
}

// Auth is the registration of ingestd at a payer's authorization server (SMART Backend Services).
type Auth struct {
	// Method is private_key_jwt, client_secret_basic, client_secret_post or none.
	Method   string `yaml:"method"`
	ClientID string `yaml:"client_id"`
	// Key names an entry of keys.
	Key string `yaml:"key"`
	// Kid overrides the key's id at this payer.
	Kid string `yaml:"kid"`
	// TokenURL overrides discovery.
	TokenURL string `yaml:"token_url"`
	// Audience overrides the assertion's aud, which is the token URL.
	Audience string `yaml:"audience"`
	// Scopes overrides the scopes that follow from export.types; sent verbatim.
	Scopes       []string `yaml:"scopes"`
	ClientSecret Secret   `yaml:"client_secret"`
	// JKU is the registered JWKS URL, sent in the assertion's header; empty sends none.
	JKU string `yaml:"jku"`
	// BasicRaw sends id and secret of client_secret_basic without form-encoding them.
	BasicRaw bool `yaml:"basic_raw"`
	// SendClientID adds client_id to the form of private_key_jwt.
	SendClientID bool `yaml:"send_client_id"`
}

// Export says what is asked of the payer's $export operation.
type Export struct {
	// Level is system, patient or group.
	Level                 string   `yaml:"level"`
	GroupID               string   `yaml:"group_id"`
	Types                 []string `yaml:"types"`
	TypeFilters           []string `yaml:"type_filters"`
	Elements              []string `yaml:"elements"`
	IncludeAssociatedData []string `yaml:"include_associated_data"`
	// Method is get or post.
	Method   string   `yaml:"method"`
	Patients []string `yaml:"patients"`
	// Since is auto, never, or an RFC 3339 instant for the first run.
	Since        string        `yaml:"since"`
	SinceOverlap time.Duration `yaml:"since_overlap"`
	FullSince    string        `yaml:"full_since"`
	FullSchedule string        `yaml:"full_schedule"`
	// Attachments is none, inline or table: what becomes of content that resources refer to by URL.
	Attachments string `yaml:"attachments"`
	// AttachmentTypes are the media types that are fetched, with * for any subtype; empty: all.
	AttachmentTypes []string `yaml:"attachment_types"`
	// Log is the directory for the logs of exports in the SMART Bulk Data client's form; empty: none.
	Log string `yaml:"log"`
	// Newcomers is backfill, full or ignore: what becomes of patients who join a group between two exports.
	Newcomers        string `yaml:"newcomers"`
	OrganizeOutputBy string `yaml:"organize_output_by"`
	PartialManifests bool   `yaml:"partial_manifests"`
	// Handling is none or lenient.
	Handling string `yaml:"handling"`
	// SinceOptional lets an export whose _since is refused go on in full; with Handling lenient only.
	SinceOptional bool `yaml:"since_optional"`
	// SeparateStatus asks the payer to tell the state of an export apart from that of the request for it.
	SeparateStatus bool              `yaml:"separate_status"`
	Timeout        time.Duration     `yaml:"timeout"`
	Headers        map[string]string `yaml:"headers"`
}

// FetchesAttachments reports whether content that resources refer to by URL is fetched.
func (x Export) FetchesAttachments() bool {
	return x.Attachments == "inline" || x.Attachments == "table"
}

// Limits bounds what ingestd asks of one payer, and what it takes from it.
type Limits struct {
	// Downloads is the number of files read at once, over all instances.
	Downloads int `yaml:"downloads"`
	// DownloadsPerFile is how often one file may be read; 0 is no budget.
	DownloadsPerFile int           `yaml:"downloads_per_file"`
	PollMin          time.Duration `yaml:"poll_min"`
	PollMax          time.Duration `yaml:"poll_max"`
	// RequestsPerSecond to the payer's hosts; 0 is no limit.
	RequestsPerSecond float64 `yaml:"requests_per_second"`
	// MaxLine is the longest NDJSON line that is loaded.
	MaxLine Size `yaml:"max_line"`
	// AttachmentBytes is the largest attachment that is fetched.
	AttachmentBytes Size `yaml:"attachment_bytes"`
}

// DownloadHost is a further origin that a manifest's URLs may name.
type DownloadHost struct {
	// Host is host or host:port.
	Host string `config:"short" yaml:"host"`
	// Token permits sending the access token there.
	Token bool `yaml:"token"`
}

// TLS is how connections to one payer are secured.
type TLS struct {
	CAFile            string `config:"file" yaml:"ca_file"`
	ClientCertificate string `config:"file" yaml:"client_certificate"`
	ClientKey         string `config:"file" yaml:"client_key"`
	// MinVersion is 1.2 or 1.3.
	MinVersion string `yaml:"min_version"`
}

// Loading says how lines become rows.
type Loading struct {
	// History is none, deletes or all.
	History string `yaml:"history"`
	// RepairText mends text that jsonb cannot hold, instead of quarantining its line.
	RepairText bool `yaml:"repair_text"`
	// QuarantineMaxShare of bad lines fails an export when exceeded.
	QuarantineMaxShare float64 `yaml:"quarantine_max_share"`
	RemoveGhosts       bool    `yaml:"remove_ghosts"`
	AcceptErrors       bool    `yaml:"accept_errors"`
	// ErrorsMaxShare of the lines may be reported as errors by the payer, before an export counts as failed.
	ErrorsMaxShare float64 `yaml:"errors_max_share"`
	// GhostMaxShare of ghosts holds an export back when exceeded.
	GhostMaxShare float64 `yaml:"ghost_max_share"`
}
