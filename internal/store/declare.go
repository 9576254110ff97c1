package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/fhir"
)

// Declaration is what an export turned out to be, where that is not what was asked for.
type Declaration struct {
	Kind          Kind
	Since         string // as it counts: empty for an export that holds everything
	RemovesGhosts bool
}

// DeclareTx records what an export turned out to be: a payer refused a parameter without which it went on, or says that it
// passed over one (protocol.md KICK-9, KICK-10). Watermark and ghosts follow from what is recorded.
func (s *Store) DeclareTx(ctx context.Context, tx pgx.Tx, id int64, generation int, d Declaration) error {
	return change(ctx, tx, `
		UPDATE ingest.export SET kind = $3, since = $4, removes_ghosts = $5
		WHERE id = $1 AND generation = $2 AND state IN ('polling', 'publishing')`,
		id, generation, d.Kind, d.Since, d.RemovesGhosts)
}

// SeparateStatusTx records whether the payer tells the state of an export apart from that of the request for it (POLL-8).
func (s *Store) SeparateStatusTx(ctx context.Context, tx pgx.Tx, id int64, generation int, applies bool) error {
	return change(ctx, tx, `UPDATE ingest.export SET separate_status = $3 WHERE id = $1 AND generation = $2`, id, generation, applies)
}

// wordsOf is what an issue says: servers put it into details.text, into diagnostics, or into both by halves.
func wordsOf(issue fhir.Issue) string {
	switch {
	case issue.Diagnostics == "", strings.Contains(issue.Text, issue.Diagnostics):
		return issue.Text
	case issue.Text == "", strings.Contains(issue.Diagnostics, issue.Text):
		return issue.Diagnostics
	}
	return issue.Text + ": " + issue.Diagnostics
}

// maxOutcomesNaming bounds what OutcomesNaming returns.
const maxOutcomesNaming = 1000

// OutcomesNaming returns what the payer reported of an export, as far as it holds one of the words: at most 1000 texts of at
// most 10,000 characters, which may hold PHI.
func (s *Store) OutcomesNaming(ctx context.Context, id int64, words []string) ([]string, error) {
	patterns := make([]string, len(words))
	for i, word := range words {
		patterns[i] = "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(word) + "%"
	}
	rows, err := s.pool.Query(ctx, `SELECT DISTINCT diagnostics FROM ingest.outcome
		WHERE export_id = $1 AND diagnostics ILIKE ANY ($2) LIMIT $3`, id, patterns, maxOutcomesNaming)
	if err != nil {
		return nil, fmt.Errorf("read the payer's issues: %w", err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read the payer's issues: %w", err)
	}
	return texts, nil
}
