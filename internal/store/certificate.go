package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Certificate is the balanced ledger of an export: what was asked for, what came, and what became of each line. It holds no URL, no id
// and nothing that the payer said, so that it can be given away.
type Certificate struct {
	ExportID        int64      `json:"export_id"`
	Payer           string     `json:"payer"`
	State           State      `json:"state"`
	Kind            Kind       `json:"kind"`
	Trigger         Trigger    `json:"trigger"`
	Types           []string   `json:"types"` // empty: all
	Since           string     `json:"since,omitempty"`
	Series          string     `json:"configuration_digest"` // of level, group, filters, elements and patients
	TransactionTime string     `json:"transaction_time,omitempty"`
	KickedOffAt     *time.Time `json:"kicked_off_at,omitempty"`
	ManifestAt      *time.Time `json:"manifest_at,omitempty"`
	LoadedAt        *time.Time `json:"loaded_at,omitempty"`
	FinishedAt      *time.Time `json:"finished_at,omitempty"`

	Files  []CertifiedFile `json:"files"`
	Ledger CertifiedLedger `json:"ledger"`

	// Digest is the SHA-256 of all of the above as JSON: two prints of one export have the same.
	Digest string `json:"digest,omitempty"`
}

// CertifiedFile is a file of a certificate.
type CertifiedFile struct {
	Ordinal       int      `json:"file"`
	Place         string   `json:"place"` // page, list and position in the manifest
	Kind          FileKind `json:"kind"`
	ResourceType  string   `json:"type"`
	ExpectedCount *int64   `json:"manifest_count,omitempty"`
	Lines         int64    `json:"lines"`
	Bytes         int64    `json:"bytes"`
	WireBytes     int64    `json:"wire_bytes"`
	Downloads     int      `json:"downloads"`
	ManifestHash  string   `json:"manifest_sha256,omitempty"`
	// LinesHash is the SHA-256 over the SHA-256 of each line, without line ends and blank lines.
	LinesHash string `json:"lines_sha256"`
	// Whole is false where nothing but the closed connection said that the file was whole.
	Whole bool `json:"proven_whole"`
}

// CertifiedLedger accounts for the lines of the output files.
type CertifiedLedger struct {
	Lines       int64 `json:"lines"`
	Inserted    int64 `json:"inserted"`
	Updated     int64 `json:"updated"`
	Unchanged   int64 `json:"unchanged"`
	Superseded  int64 `json:"superseded"`
	Quarantined int64 `json:"quarantined"`
	Outcomes    int64 `json:"outcomes"` // OperationOutcomes among the output
	Headers     int64 `json:"headers"`  // of organized output
	// Repaired are lines among the above in which U+FFFD stands for what jsonb cannot hold.
	Repaired int64 `json:"repaired"`
	// Balanced is true where the figures above add up to Lines.
	Balanced bool `json:"balanced"`
	// Deleted and Ghosts are rows, not lines.
	Deleted int64 `json:"deleted"`
	Ghosts  int64 `json:"ghosts"`
}

// Certificate returns the certificate of an export; the errors are those of Export. Only that of a published export is final.
func (s *Store) Certificate(ctx context.Context, id int64) (Certificate, error) {
	e, err := s.Export(ctx, id)
	if err != nil {
		return Certificate{}, err
	}
	files, err := s.Files(ctx, id)
	if err != nil {
		return Certificate{}, err
	}
	c := Certificate{
		ExportID: e.ID, Payer: e.Payer, State: e.State, Kind: e.Kind, Trigger: e.Trigger, Types: e.Types, Since: e.Since, Series: e.Series,
		TransactionTime: e.TransactionTime, KickedOffAt: utc(e.KickedOffAt), ManifestAt: utc(e.ManifestAt), LoadedAt: utc(e.LoadedAt),
		FinishedAt: utc(e.FinishedAt), Files: make([]CertifiedFile, 0, len(files)),
	}
	l := CertifiedLedger{
		Inserted: e.Inserted, Updated: e.Updated, Unchanged: e.Unchanged, Superseded: e.Superseded, Deleted: e.Deleted, Ghosts: e.Ghosts,
	}
	for _, f := range files {
		c.Files = append(c.Files, CertifiedFile{
			Ordinal: f.Ordinal, Place: f.Place, Kind: f.Kind, ResourceType: f.ResourceType, ExpectedCount: atLeastZero(f.ExpectedCount),
			Lines: f.Lines, Bytes: f.Bytes, WireBytes: f.WireBytes, Downloads: f.Downloads, ManifestHash: f.SHA256,
			LinesHash: hex.EncodeToString(f.PrefixDigest), Whole: !f.Unproven,
		})
		if f.Kind == FileOutput {
			l.Lines += f.Lines
			l.Quarantined += f.Quarantined
			l.Outcomes += f.Outcomes
			l.Headers += f.Headers
			l.Repaired += f.Repaired
		}
	}
	l.Balanced = l.Inserted+l.Updated+l.Unchanged+l.Superseded+l.Quarantined+l.Outcomes+l.Headers == l.Lines
	c.Ledger = l
	text, err := json.Marshal(c)
	if err != nil {
		return Certificate{}, fmt.Errorf("write the certificate: %w", err)
	}
	sum := sha256.Sum256(text)
	c.Digest = hex.EncodeToString(sum[:])
	return c, nil
}

func utc(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
