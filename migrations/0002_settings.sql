-- Settings that running exports go on under although the configuration changes, and the instances with what each has configured.

CREATE TABLE ingest.settings (
    digest     text        NOT NULL,
    payer      text        NOT NULL,
    settings   jsonb       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (payer, digest)
);
COMMENT ON TABLE ingest.settings IS 'Settings of payers that exports began with, by their digest; without secrets.';

ALTER TABLE ingest.export ADD COLUMN settings text NOT NULL DEFAULT '';
COMMENT ON COLUMN ingest.export.settings IS 'Digest of the settings that it began with; empty for those of versions that did not keep them.';

CREATE TABLE ingest.instance (
    id         text        PRIMARY KEY,
    host       text        NOT NULL,
    pid        integer     NOT NULL,
    version    text        NOT NULL,
    digest     text        NOT NULL,
    payers     jsonb       NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ingest.instance IS 'The daemons that work on this database. One that stops takes its row away; one that is not seen for a while is gone.';
COMMENT ON COLUMN ingest.instance.digest IS 'Of its whole configuration.';
COMMENT ON COLUMN ingest.instance.payers IS 'Digests of the settings of each payer of its configuration, by name.';
COMMENT ON COLUMN ingest.instance.changed_at IS 'When its configuration was last exchanged.';
