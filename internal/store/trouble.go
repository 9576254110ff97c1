package store

import (
	"context"
	"fmt"
	"time"
)

// Trouble is why a job of an export was put off, or is tried again. What has gone on since has none.
type Trouble struct {
	Failure // without words of the payer

	At   time.Time // zero where there is none
	File int       // the ordinal of the file that it is about; -1 for none
}

// EndTrouble forgets a trouble of a file, which goes on.
func (s *Store) EndTrouble(ctx context.Context, id int64, file int) error {
	_, err := s.pool.Exec(ctx, `UPDATE ingest.export SET trouble_at = NULL WHERE id = $1 AND trouble_file = $2`, id, file)
	if err != nil {
		return fmt.Errorf("note that file %d of export %d goes on: %w", file, id, err)
	}
	return nil
}

// troublePause is how often it is noted at most that files of an export fail for the same reason: of thousands, all may.
const troublePause = 10 * time.Second

// NoteTrouble stores why a job of this generation of an export is tried again, for those who look at it meanwhile. file is the ordinal of the
// file that the job loads, -1 where it loads none.
func (s *Store) NoteTrouble(ctx context.Context, id int64, generation, file int, f Failure) error {
	_, err := s.pool.Exec(ctx, `
		UPDATE ingest.export SET trouble_at = now(), trouble_code = $4, trouble = $5, trouble_hint = $6, trouble_file = nullif($3, -1)
		WHERE id = $1 AND generation = $2 AND state IN ('starting', 'polling', 'loading', 'publishing')
			AND ($3 = -1 OR trouble_at IS NULL OR trouble_code <> $4 OR trouble_at < now() - $7::interval)`,
		id, generation, file, f.Code, cleanText(f.Text), cleanText(f.Hint), troublePause)
	if err != nil {
		return fmt.Errorf("note why export %d is tried again: %w", id, err)
	}
	return nil
}
