package config

import "time"

// The values of database.auth.
const (
	// AuthPassword is the password of the URL, or database.password.
	AuthPassword = "password"
	// AuthRDSIAM is a token that is signed for each connection with the AWS credentials of the machine.
	AuthRDSIAM = "rds-iam"
)

// builtIn is the configuration in which nothing was written.
func builtIn() *Config {
	return &Config{
		Database:  Database{Auth: AuthPassword, Schema: "fhir", MaxConnections: 10},
		Admin:     Admin{Listen: "127.0.0.1:8090"},
		JWKS:      JWKS{MaxAge: time.Hour},
		Log:       Log{Level: "info", Format: LogAuto},
		Tracing:   Tracing{SampleRatio: 1},
		Shutdown:  Shutdown{Grace: 25 * time.Second}, // systemd and ECS kill after 30 s or more
		Reload:    Reload{RemovedPayers: RemovedFinish},
		Retention: Retention{Exports: 400 * 24 * time.Hour},
		ECS:       ECS{TaskProtection: true},
		Workers:   Workers{Control: 8, Downloads: 8, Chunk: 4 << 20},
	}
}

// builtInKey is a key of which nothing was written.
func builtInKey() Key { return Key{State: "active"} }

// builtInNotify is a target of which nothing was written.
func builtInNotify() Notify { return Notify{Template: "json", Timeout: 10 * time.Second} }

// builtInPayer is a payer of which nothing was written, neither in it nor in the file's defaults.
func builtInPayer() Payer {
	return Payer{
		Enabled:  true,
		Auth:     Auth{Method: "private_key_jwt"},
		Timezone: "UTC",
		Export: Export{
			Level: "system", Method: "get", Handling: "none", Since: "auto", SinceOverlap: 10 * time.Minute, Newcomers: "backfill",
			Timeout: 24 * time.Hour, Attachments: "none",
		},
		Limits: Limits{Downloads: 4, PollMin: 5 * time.Second, PollMax: 5 * time.Minute, MaxLine: 64 << 20, AttachmentBytes: 32 << 20},
		TLS:    TLS{MinVersion: "1.2"},
		Load:   Loading{History: "deletes", QuarantineMaxShare: 0.001, RemoveGhosts: true, GhostMaxShare: 0.2},
	}
}
