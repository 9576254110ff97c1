-- Binaries of two versions on one database; settings that nobody needs any more.

ALTER TABLE ingest.schema_migration ADD COLUMN needs integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN ingest.schema_migration.needs IS 'The lowest version of the schema that a binary has to know to work on the database since this migration; 0: every one that could before.';

ALTER TABLE ingest.instance ADD COLUMN schema integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN ingest.instance.schema IS 'The version of the schema that its binary knows; 0 for those of versions that did not tell.';

COMMENT ON COLUMN ingest.settings.created_at IS 'When an export last began with them. They are forgotten 90 days later, unless one that is not over needs them.';
