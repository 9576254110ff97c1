package store

import (
	"context"
	"fmt"
)

// makeAsOf makes the function that answers what payers said at an instant: of a resource type, by its name or that of its table, the
// versions that were published then. Of payers with load.history: all it is exact; with deletes, a resource that has been updated since is
// missing, and with none, one that has been deleted since, too.
func (s *Store) makeAsOf(ctx context.Context, db execer) error {
	const columns = `payer, id, version_id, last_updated, patient_id, resource, export_id`
	name := quote(s.schema) + `.as_of(resource_type text, at timestamptz)`
	_, err := db.Exec(ctx, fmt.Sprintf(`
		CREATE OR REPLACE FUNCTION %[1]s
		RETURNS TABLE (payer text, id text, version_id text, last_updated timestamptz, patient_id text, resource jsonb, export_id bigint)
		LANGUAGE plpgsql STABLE AS $function$
		BEGIN
			RETURN QUERY EXECUTE format(
				'SELECT %[2]s FROM %%1$I.%%3$I WHERE ingested_at <= $1
				UNION ALL SELECT %[2]s FROM %%2$I.%%3$I WHERE valid_from <= $1 AND valid_to > $1',
				%[3]s, %[4]s, lower(regexp_replace(resource_type, '(?<!^)([A-Z])', '_\1', 'g'))) USING at;
		END $function$;
		COMMENT ON FUNCTION %[1]s IS 'What payers said at an instant: the versions of a resource type that were published then. Exact with load.history: all.'`,
		name, columns, literal(s.schema), literal(s.history)))
	if err != nil {
		return fmt.Errorf("make the function as_of: %w", err)
	}
	return nil
}
