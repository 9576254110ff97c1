package store

import (
	"context"
	"fmt"
)

// makeAsOf makes the function that answers what payers said at an instant: of a resource type, by its name or that of its table, the
// versions that were published then. Of payers with load.history: all it is exact; with deletes, a resource that has been updated since is
// missing, and with none, one that has been deleted since, too.
func (s *Store) makeAsOf(ctx context.Context, db executor) error {
	const columns = `payer, id, version_id, last_updated, patient_id, resource, export_id`
	body := fmt.Sprintf(`
		BEGIN
			RETURN QUERY EXECUTE format(
				'SELECT %[1]s FROM %%1$I.%%3$I WHERE ingested_at <= $1
				UNION ALL SELECT %[1]s FROM %%2$I.%%3$I WHERE valid_from <= $1 AND valid_to > $1',
				%[2]s, %[3]s, lower(regexp_replace(resource_type, '(?<!^)([A-Z])', '_\1', 'g'))) USING at;
		END `, columns, literal(s.schema), literal(s.history))
	// To replace a function by itself needs its owner all the same.
	var stands bool
	err := db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
		WHERE nspname = $1 AND proname = 'as_of' AND prosrc = $2)`, s.schema, body).Scan(&stands)
	if err != nil {
		return fmt.Errorf("look for the function as_of: %w", err)
	}
	if stands {
		return nil
	}
	_, err = db.Exec(ctx, fmt.Sprintf(`
		CREATE OR REPLACE FUNCTION %[1]s
		RETURNS TABLE (payer text, id text, version_id text, last_updated timestamptz, patient_id text, resource jsonb, export_id bigint)
		LANGUAGE plpgsql STABLE AS $function$%[2]s$function$;
		COMMENT ON FUNCTION %[1]s IS 'What payers said at an instant: the versions of a resource type that were published then. Exact with load.history: all.'`,
		quote(s.schema)+`.as_of(resource_type text, at timestamptz)`, body))
	if err != nil {
		return fmt.Errorf("make the function as_of: %w", err)
	}
	return nil
}
