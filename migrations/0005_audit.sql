-- What operators changed, by whom, when and from where. Rows are only ever added: the roles that ingestd works under need INSERT
-- and SELECT on this table, and neither UPDATE nor DELETE nor TRUNCATE.
CREATE TABLE ingest.audit_event (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL DEFAULT now(),
    actor          text        NOT NULL,
    source         text        NOT NULL CHECK (source IN ('cli', 'api', 'daemon')),
    host           text        NOT NULL DEFAULT '',
    remote_address text        NOT NULL DEFAULT '',
    database_role  text        NOT NULL DEFAULT session_user,
    action         text        NOT NULL,
    object         text        NOT NULL,
    details        jsonb       NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_event_at ON ingest.audit_event (at);
CREATE INDEX audit_event_object ON ingest.audit_event (object, id DESC);
COMMENT ON TABLE ingest.audit_event IS 'Append-only: one row a change that an operator made, committed together with the change. Holds no PHI and no secrets.';
COMMENT ON COLUMN ingest.audit_event.actor IS 'Who asked, by their own word: the account that ran the command, or what a caller of the admin API calls itself.';
COMMENT ON COLUMN ingest.audit_event.source IS 'cli: a command on the database; api: the admin API of a daemon; daemon: an instance by itself.';
COMMENT ON COLUMN ingest.audit_event.host IS 'The host whose process made the change.';
COMMENT ON COLUMN ingest.audit_event.remote_address IS 'Where the request came from: the caller''s address for api, else that of the database connection; empty for a local socket.';
COMMENT ON COLUMN ingest.audit_event.database_role IS 'The role that Postgres authenticated.';
COMMENT ON COLUMN ingest.audit_event.action IS 'What was done: run, retry, cancel, release, reject, pause, resume, quarantine retry, payers remove, migrate.';
COMMENT ON COLUMN ingest.audit_event.object IS 'To what: export 17, payer bluecross, schema 0002_audit.';
COMMENT ON COLUMN ingest.audit_event.details IS 'Numbers, names of the configuration and states; nothing that a payer sent.';
