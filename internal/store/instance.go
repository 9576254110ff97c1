package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Instance is a daemon that works on the database.
type Instance struct {
	ID      string
	Host    string
	PID     int
	Version string
	// Schema is the version of the schema that its binary knows; 0 where it did not tell.
	Schema int
	// Digest is of its whole configuration, Payers are those of its payers' settings, by name.
	Digest    string
	Payers    map[string]string
	StartedAt time.Time
	SeenAt    time.Time
	ChangedAt time.Time // its configuration
	// Live says that it was seen lately.
	Live bool
}

// Name tells instances apart for people.
func (i Instance) Name() string { return fmt.Sprintf("%s/%d", i.Host, i.PID) }

const (
	// instanceLife is how long an instance that is not seen counts as live: several heartbeats.
	instanceLife = 45 * time.Second
	// instanceRetention is how long one that has died stays listed.
	instanceRetention = 24 * time.Hour
)

// Announce registers an instance, or says what it has configured now.
func (s *Store) Announce(ctx context.Context, i Instance) error {
	_, err := s.pool.Exec(ctx, `
		INSERT INTO ingest.instance (id, host, pid, version, schema, digest, payers) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (id) DO UPDATE SET digest = excluded.digest, payers = excluded.payers, seen_at = now(),
			changed_at = CASE WHEN instance.digest = excluded.digest THEN instance.changed_at ELSE now() END`,
		i.ID, i.Host, i.PID, i.Version, SchemaVersion(), i.Digest, i.Payers)
	if err != nil {
		return fmt.Errorf("announce this instance: %w", err)
	}
	return nil
}

// Beat says that an instance is alive, and reports whether it is registered with that configuration. It forgets those that
// died long ago.
func (s *Store) Beat(ctx context.Context, id, digest string) (known bool, err error) {
	tag, err := s.pool.Exec(ctx, `UPDATE ingest.instance SET seen_at = now() WHERE id = $1 AND digest = $2`, id, digest)
	if err == nil {
		_, err = s.pool.Exec(ctx, `DELETE FROM ingest.instance WHERE seen_at < now() - $1::interval`, instanceRetention)
	}
	if err != nil {
		return false, fmt.Errorf("say that this instance is alive: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}

// Retire takes an instance that stops off the list.
func (s *Store) Retire(ctx context.Context, id string) error {
	if _, err := s.pool.Exec(ctx, `DELETE FROM ingest.instance WHERE id = $1`, id); err != nil {
		return fmt.Errorf("take this instance off the list: %w", err)
	}
	return nil
}

// Instances lists the instances, the oldest first.
func (s *Store) Instances(ctx context.Context) ([]Instance, error) {
	rows, err := s.pool.Query(ctx, `SELECT id, host, pid, version, schema, digest, payers, started_at, seen_at, changed_at,
		seen_at > now() - $1::interval FROM ingest.instance ORDER BY started_at, id`, instanceLife)
	if err != nil {
		return nil, fmt.Errorf("list the instances: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Instance, error) {
		var i Instance
		err := row.Scan(&i.ID, &i.Host, &i.PID, &i.Version, &i.Schema, &i.Digest, &i.Payers, &i.StartedAt, &i.SeenAt, &i.ChangedAt, &i.Live)
		return i, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the instances: %w", err)
	}
	return all, nil
}

// Mismatches are the payers that live instances have configured differently, or that only some of them have: for each the
// digests by the names of the instances, empty where one has no such payer. One query for all, so that it can be asked often.
func (s *Store) Mismatches(ctx context.Context) (map[string]map[string]string, error) {
	rows, err := s.pool.Query(ctx, `
		WITH live AS (SELECT host || '/' || pid AS name, payers FROM ingest.instance WHERE seen_at > now() - $1::interval),
		payer AS (SELECT key AS payer FROM live, jsonb_each_text(live.payers)
			GROUP BY key HAVING count(DISTINCT value) > 1 OR count(*) < (SELECT count(*) FROM live))
		SELECT payer, jsonb_object_agg(live.name, coalesce(live.payers ->> payer, '')) FROM payer, live GROUP BY payer`, instanceLife)
	if err != nil {
		return nil, fmt.Errorf("compare the instances: %w", err)
	}
	mismatches := make(map[string]map[string]string)
	var payer string
	var digests map[string]string
	_, err = pgx.ForEachRow(rows, []any{&payer, &digests}, func() error {
		mismatches[payer], digests = digests, nil
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("compare the instances: %w", err)
	}
	return mismatches, nil
}

// IsConfigured reports whether a live instance has a payer in its configuration.
func (s *Store) IsConfigured(ctx context.Context, payer string) (bool, error) {
	var configured bool
	err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM ingest.instance WHERE seen_at > now() - $2::interval AND payers ? $1)`,
		payer, instanceLife).Scan(&configured)
	if err != nil {
		return false, fmt.Errorf("look for instances that have %s: %w", payer, err)
	}
	return configured, nil
}

// Unconfigured lists the running exports of payers that no live instance has in its configuration. Those of runs in the
// foreground, which may have a configuration of their own, are not among them.
func (s *Store) Unconfigured(ctx context.Context) ([]Export, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+exportColumns+` FROM ingest.export AS e
		WHERE state IN ('starting', 'polling', 'loading', 'publishing', 'held') AND queue = ''
			AND NOT EXISTS (SELECT FROM ingest.instance WHERE seen_at > now() - $1::interval AND payers ? e.payer)`, instanceLife)
	if err != nil {
		return nil, fmt.Errorf("look for exports of payers that are not configured: %w", err)
	}
	exports, err := pgx.CollectRows(rows, scanExport)
	if err != nil {
		return nil, fmt.Errorf("look for exports of payers that are not configured: %w", err)
	}
	return exports, nil
}

// Load is how much there is to do, over all instances.
type Load struct {
	Running int // exports that the payer has accepted and that are not over
	Due     int // exports that wait for their kick-off
}

// Load counts the exports.
func (s *Store) Load(ctx context.Context) (Load, error) {
	var l Load
	err := s.pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE state IN ('polling', 'loading', 'publishing')),
		count(*) FILTER (WHERE state = 'starting') FROM ingest.export
		WHERE state IN ('starting', 'polling', 'loading', 'publishing', 'held')`).Scan(&l.Running, &l.Due)
	if err != nil {
		return Load{}, fmt.Errorf("count the exports: %w", err)
	}
	return l, nil
}
