-- What is wrong with payers and what was told of it (notify in the configuration), and which workers are alive.

CREATE TABLE ingest.incident (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payer     text        NOT NULL,
    event     text        NOT NULL CHECK (event IN ('failed', 'held', 'stale')),
    code      text        NOT NULL DEFAULT '',
    export_id bigint,
    exports   integer     NOT NULL DEFAULT 0,
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    closed_by bigint
);
-- Of each kind a payer has at most one that is open: this index is why each is told once.
CREATE UNIQUE INDEX incident_open ON ingest.incident (payer, event) WHERE closed_at IS NULL;
COMMENT ON TABLE ingest.incident IS 'What is wrong with a payer, from the first failure, hold or staleness to the next publish.';
COMMENT ON COLUMN ingest.incident.export_id IS 'The last export that failed, or was held.';
COMMENT ON COLUMN ingest.incident.exports IS 'How many exports failed, or were held.';
COMMENT ON COLUMN ingest.incident.closed_by IS 'The export whose publish ended it.';

CREATE TABLE ingest.notification (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payer       text        NOT NULL,
    event       text        NOT NULL CHECK (event IN ('failed', 'held', 'stale', 'recovered')),
    body        jsonb       NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notification_occurred_at ON ingest.notification (occurred_at);
COMMENT ON TABLE ingest.notification IS 'What targets are told: written with the change that it tells of, and delivered by jobs. Holds no PHI.';

CREATE TABLE ingest.heartbeat (
    worker  text        PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ingest.heartbeat IS 'The workers of the job engine, and when each was last seen: what one that is gone was asking of payers is asked again by others.';
