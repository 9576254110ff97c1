-- The three roles of ingestd, and what they may do with the database itself. Run it in ingestd's database, as its owner who may make
-- roles (on RDS, the master user). It can be run again. What the roles may do with tables, 'ingestd migrate roles' grants.
--
--   ingestd_owner   applies migrations and grants; owns the control tables. Nothing works as this role day by day.
--   ingestd_ingest  what 'ingestd serve' and operators' commands work as; owns the resource tables, which it makes.
--   ingestd_reader  reads the resource tables, and nothing else.
--
-- Passwords are given apart (\password ingestd_owner), or none, where roles sign in by certificate or, on RDS, by IAM: GRANT rds_iam TO …

DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY ARRAY['ingestd_owner', 'ingestd_ingest', 'ingestd_reader'] LOOP
		IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
			EXECUTE format('CREATE ROLE %I LOGIN', name);
		END IF;
	END LOOP;
	-- The owner grants readers what the ingest role makes, and may have to change it in a migration.
	GRANT ingestd_ingest TO ingestd_owner;

	EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
	EXECUTE format('GRANT CONNECT, CREATE, TEMPORARY ON DATABASE %I TO ingestd_owner', current_database());
	-- A publish sorts keys in a temporary table.
	EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO ingestd_ingest', current_database());
	EXECUTE format('GRANT CONNECT ON DATABASE %I TO ingestd_reader', current_database());
END $$;

-- Before Postgres 15, everybody may make tables in the schema public.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
