-- The control and audit data of ingestd. The resources themselves stand in the schema that database.schema names; their
-- tables are made on demand by the store.

CREATE SCHEMA IF NOT EXISTS ingest_stage;
COMMENT ON SCHEMA ingest_stage IS 'Staging tables of exports that are being loaded; empty while nothing runs.';

CREATE TABLE ingest.export (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payer            text        NOT NULL,
    state            text        NOT NULL DEFAULT 'starting' CHECK (state IN
                     ('starting', 'polling', 'loading', 'publishing', 'held', 'published', 'failed', 'canceled')),
    kind             text        NOT NULL CHECK (kind IN ('full', 'incremental', 'backfill')),
    trigger          text        NOT NULL CHECK (trigger IN ('schedule', 'manual', 'newcomers', 'new_types')),
    due_at           timestamptz,
    queue            text        NOT NULL DEFAULT '',
    series           text        NOT NULL,
    types            text[]      NOT NULL DEFAULT '{}',
    since            text        NOT NULL DEFAULT '',
    patients         text[]      NOT NULL DEFAULT '{}',
    removes_ghosts   boolean     NOT NULL DEFAULT false,
    released_by      text        NOT NULL DEFAULT '',

    kick_off_in_doubt boolean    NOT NULL DEFAULT false,
    adopted          boolean     NOT NULL DEFAULT false,
    status_url       text        NOT NULL DEFAULT '',
    separate_status  boolean     NOT NULL DEFAULT false,
    kick_off_date    timestamptz,
    progress         text        NOT NULL DEFAULT '',
    progress_percent real,
    progress_at      timestamptz,
    stalled_at       timestamptz,
    old_status_urls  text[]      NOT NULL DEFAULT '{}',
    polls            integer     NOT NULL DEFAULT 0,
    restarts         integer     NOT NULL DEFAULT 0,
    generation       integer     NOT NULL DEFAULT 0,
    transaction_time text        NOT NULL DEFAULT '',
    organized_by     text        NOT NULL DEFAULT '',
    transaction_at   timestamptz,
    expires_at       timestamptz,
    late_at          timestamptz,

    created_at       timestamptz NOT NULL DEFAULT now(),
    kicked_off_at    timestamptz,
    manifest_at      timestamptz,
    loaded_at        timestamptz,
    finished_at      timestamptz,
    cleaned_up_at    timestamptz,
    job_due_at       timestamptz NOT NULL DEFAULT now(),

    error_code       text        NOT NULL DEFAULT '',
    error            text        NOT NULL DEFAULT '',
    hint             text        NOT NULL DEFAULT '',

    lines            bigint      NOT NULL DEFAULT 0,
    bytes            bigint      NOT NULL DEFAULT 0,
    wire_bytes       bigint      NOT NULL DEFAULT 0,
    inserted         bigint      NOT NULL DEFAULT 0,
    updated          bigint      NOT NULL DEFAULT 0,
    unchanged        bigint      NOT NULL DEFAULT 0,
    superseded       bigint      NOT NULL DEFAULT 0,
    deleted          bigint      NOT NULL DEFAULT 0,
    ghosts           bigint      NOT NULL DEFAULT 0,
    quarantined      bigint      NOT NULL DEFAULT 0
);
-- A payer has at most one running export, over all instances: this index is what holds it.
CREATE UNIQUE INDEX export_active ON ingest.export (payer)
    WHERE state IN ('starting', 'polling', 'loading', 'publishing', 'held');
CREATE INDEX export_payer ON ingest.export (payer, id DESC);
CREATE INDEX export_unfinished ON ingest.export (job_due_at)
    WHERE state IN ('starting', 'polling', 'loading', 'publishing');
CREATE INDEX export_not_cleaned_up ON ingest.export (job_due_at)
    WHERE state IN ('published', 'failed', 'canceled') AND cleaned_up_at IS NULL;
COMMENT ON TABLE ingest.export IS 'One row an export: from kick-off to publish, with its ledger.';
COMMENT ON COLUMN ingest.export.due_at IS 'The tick of the schedule that started it; null for a run by hand.';
COMMENT ON COLUMN ingest.export.queue IS 'The queue of its jobs; empty for the queues that every daemon works.';
COMMENT ON COLUMN ingest.export.series IS 'Digest of what was asked (level, group, filters): watermarks of another series do not count.';
COMMENT ON COLUMN ingest.export.since IS 'The _since that was sent; empty for none.';
COMMENT ON COLUMN ingest.export.patients IS 'The patients that a back-fill asks for: those who joined the group since the last export.';
COMMENT ON COLUMN ingest.export.kick_off_in_doubt IS 'A kick-off was sent whose answer is not known: the payer may be at work.';
COMMENT ON COLUMN ingest.export.adopted IS 'The payer named this running export as one that blocks ours, after the answer to our kick-off had been lost.';
COMMENT ON COLUMN ingest.export.separate_status IS 'The payer tells the state of the export apart from that of the request for it.';
COMMENT ON COLUMN ingest.export.transaction_time IS 'transactionTime of the manifest, as the payer wrote it.';
COMMENT ON COLUMN ingest.export.late_at IS 'Since when its files will have expired before they are loaded, if it goes on as it does.';
COMMENT ON COLUMN ingest.export.organized_by IS 'The resource type by whose instances the payer organized the output; empty: by type.';
COMMENT ON COLUMN ingest.export.progress_at IS 'When the payer last said something else of its progress.';
COMMENT ON COLUMN ingest.export.stalled_at IS 'Since when it takes far longer than others of this payer did, while its progress stands still.';
COMMENT ON COLUMN ingest.export.old_status_urls IS 'Of jobs that were given up for a new kick-off, and are still to be ended at the payer.';
COMMENT ON COLUMN ingest.export.job_due_at IS 'When its next job is due: the reaper enqueues it again where it is long overdue.';
COMMENT ON COLUMN ingest.export.generation IS 'Of its jobs: when one is enqueued again, those of older generations are void.';
COMMENT ON COLUMN ingest.export.lines IS 'Lines of the output files, without blank ones. It equals inserted + updated + unchanged + superseded + quarantined, and lines that are no resources.';
COMMENT ON COLUMN ingest.export.bytes IS 'Decompressed bytes of all files.';
COMMENT ON COLUMN ingest.export.wire_bytes IS 'Bytes of all files as transferred.';
COMMENT ON COLUMN ingest.export.superseded IS 'Lines that a newer or later version of the same resource stands above.';

CREATE TABLE ingest.export_file (
    export_id      bigint  NOT NULL REFERENCES ingest.export ON DELETE CASCADE,
    ordinal        integer NOT NULL,
    place          text    NOT NULL,
    kind           text    NOT NULL CHECK (kind IN ('output', 'deleted', 'error')),
    resource_type  text    NOT NULL DEFAULT '',
    url            text    NOT NULL,
    requires_token boolean NOT NULL,
    expected_count bigint,
    expected_bytes bigint,
    sha256         text    NOT NULL DEFAULT '',
    protection     text    NOT NULL DEFAULT '',
    expires_at     timestamptz,
    state          text    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'queued', 'loaded', 'failed')),
    job_due_at     timestamptz,
    line_number    bigint  NOT NULL DEFAULT 0,
    lines          bigint  NOT NULL DEFAULT 0,
    bytes          bigint  NOT NULL DEFAULT 0,
    wire_bytes     bigint  NOT NULL DEFAULT 0,
    prefix_digest  bytea,
    staged         bigint  NOT NULL DEFAULT 0,
    unchanged      bigint  NOT NULL DEFAULT 0,
    deletions      bigint  NOT NULL DEFAULT 0,
    quarantined    bigint  NOT NULL DEFAULT 0,
    outcomes       bigint  NOT NULL DEFAULT 0,
    subsetted      bigint  NOT NULL DEFAULT 0,
    headers        bigint  NOT NULL DEFAULT 0,
    repaired       bigint  NOT NULL DEFAULT 0,
    chunks         integer NOT NULL DEFAULT 0,
    downloads      integer NOT NULL DEFAULT 0,
    mismatches     integer NOT NULL DEFAULT 0,
    unproven       boolean NOT NULL DEFAULT false,
    loaded_at      timestamptz,
    error_code     text    NOT NULL DEFAULT '',
    error          text    NOT NULL DEFAULT '',
    PRIMARY KEY (export_id, ordinal),
    UNIQUE (export_id, place)
);
CREATE INDEX export_file_left ON ingest.export_file (export_id, expires_at, ordinal) WHERE state IN ('pending', 'queued');
CREATE INDEX export_file_queued ON ingest.export_file (job_due_at) WHERE state = 'queued';
COMMENT ON TABLE ingest.export_file IS 'One row a file of a manifest, with the checkpoint up to which it is staged.';
COMMENT ON COLUMN ingest.export_file.place IS 'Where the manifest names the file: page, list and position, which do not change when its URL does.';
COMMENT ON COLUMN ingest.export_file.expires_at IS 'Until when the URL is good, where the URL itself says so.';
COMMENT ON COLUMN ingest.export_file.sha256 IS 'Of the decompressed file, where the manifest names it.';
COMMENT ON COLUMN ingest.export_file.protection IS 'A scheme of authorization or encryption that the manifest names and ingestd does not know.';
COMMENT ON COLUMN ingest.export_file.mismatches IS 'How often a whole download had not the lines or the checksum that the manifest names.';
COMMENT ON COLUMN ingest.export_file.unproven IS 'Nothing but the closed connection said that the file was whole: no length, no compression, no count, no checksum.';
COMMENT ON COLUMN ingest.export_file.line_number IS 'The checkpoint: number of the last line, from 1 and with blank lines, that is staged.';
COMMENT ON COLUMN ingest.export_file.bytes IS 'The checkpoint in decompressed bytes.';
COMMENT ON COLUMN ingest.export_file.prefix_digest IS 'SHA-256 over the digests of all lines up to the checkpoint: a resumed download must begin with the same lines.';
COMMENT ON COLUMN ingest.export_file.outcomes IS 'Lines that were OperationOutcomes: they stand in ingest.outcome.';
COMMENT ON COLUMN ingest.export_file.subsetted IS 'Lines that are tagged SUBSETTED: incomplete resources, which replace no complete ones.';
COMMENT ON COLUMN ingest.export_file.repaired IS 'Lines that were mended: U+FFFD stands for what jsonb cannot hold (load.repair_text). Lines that stand published so do not count.';
COMMENT ON COLUMN ingest.export_file.headers IS 'Lines that open a block of organized output: Parameters with a header, which are not stored.';
COMMENT ON COLUMN ingest.export_file.downloads IS 'How often the file was requested.';

CREATE TABLE ingest.export_type (
    export_id     bigint NOT NULL REFERENCES ingest.export ON DELETE CASCADE,
    resource_type text   NOT NULL,
    staged        bigint NOT NULL DEFAULT 0,
    prepared_at   timestamptz,
    inserted      bigint NOT NULL DEFAULT 0,
    updated       bigint NOT NULL DEFAULT 0,
    unchanged     bigint NOT NULL DEFAULT 0,
    superseded    bigint NOT NULL DEFAULT 0,
    deleted       bigint NOT NULL DEFAULT 0,
    ghosts        bigint NOT NULL DEFAULT 0,
    standing      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (export_id, resource_type)
);
COMMENT ON TABLE ingest.export_type IS 'The ledger of an export by resource type.';
COMMENT ON COLUMN ingest.export_type.standing IS 'Resources that the export holds and publishes no row of: the published one is the same, or newer.';

CREATE TABLE ingest.outcome (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    export_id   bigint NOT NULL REFERENCES ingest.export ON DELETE CASCADE,
    file        integer,
    line        bigint,
    severity    text   NOT NULL,
    code        text   NOT NULL DEFAULT '',
    diagnostics text   NOT NULL DEFAULT ''
);
CREATE INDEX outcome_export ON ingest.outcome (export_id, file, line);
COMMENT ON TABLE ingest.outcome IS 'Issues that a payer reported of an export. Diagnostics may hold PHI.';

CREATE TABLE ingest.attachment (
    export_id      bigint  NOT NULL REFERENCES ingest.export ON DELETE CASCADE,
    resource_type  text    NOT NULL,
    resource_id    text    NOT NULL,
    path           text[]  NOT NULL,
    url            text    NOT NULL,
    content_type   text    NOT NULL DEFAULT '',
    expected_bytes bigint,
    hash           text    NOT NULL DEFAULT '',
    requires_token boolean NOT NULL,
    state          text    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'fetched', 'published', 'failed')),
    attempts       integer NOT NULL DEFAULT 0,
    reason         text    NOT NULL DEFAULT '',
    fetched_type   text,
    bytes          bigint,
    content        bytea,
    PRIMARY KEY (export_id, resource_type, resource_id, path)
);
ALTER TABLE ingest.attachment ALTER COLUMN content SET STORAGE EXTERNAL;
COMMENT ON TABLE ingest.attachment IS 'What the resources of an export refer to by URL, and what became of it. URLs may carry signatures.';
COMMENT ON COLUMN ingest.attachment.path IS 'Where in the resource the Attachment stands: resource #> path.';
COMMENT ON COLUMN ingest.attachment.hash IS 'Attachment.hash: SHA-1 in base64.';
COMMENT ON COLUMN ingest.attachment.reason IS 'Why it was not fetched. May hold what the payer said.';
COMMENT ON COLUMN ingest.attachment.content IS 'Between fetch and publish only.';

CREATE TABLE ingest.quarantine (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    export_id     bigint NOT NULL REFERENCES ingest.export ON DELETE CASCADE,
    payer         text   NOT NULL,
    file          integer NOT NULL,
    line          bigint NOT NULL,
    byte_offset   bigint NOT NULL,
    reason        text   NOT NULL,
    detail        text   NOT NULL DEFAULT '',
    resource_type text   NOT NULL DEFAULT '',
    resource_id   text   NOT NULL DEFAULT '',
    raw           bytea  NOT NULL,
    raw_bytes     bigint NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    result        text   NOT NULL DEFAULT '' CHECK (result IN ('', 'loaded')),
    retried_at    timestamptz
);
CREATE INDEX quarantine_export ON ingest.quarantine (export_id, file, line);
CREATE INDEX quarantine_payer ON ingest.quarantine (payer, id DESC);
COMMENT ON TABLE ingest.quarantine IS 'Lines that could not be loaded, as the payer sent them. Holds PHI.';
COMMENT ON COLUMN ingest.quarantine.result IS 'loaded: a retry has loaded the line, at retried_at, or found its resource published already.';
COMMENT ON COLUMN ingest.quarantine.raw IS 'The line; its beginning where it is longer than raw (raw_bytes says how long it was).';

CREATE TABLE ingest.watermark (
    payer         text        NOT NULL,
    series        text        NOT NULL,
    resource_type text        NOT NULL,
    since         timestamptz NOT NULL,
    export_id     bigint      NOT NULL,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (payer, series, resource_type)
);
COMMENT ON TABLE ingest.watermark IS 'Up to which instant a payer''s data is complete here, by type; the next _since follows from it.';
COMMENT ON COLUMN ingest.watermark.resource_type IS 'Empty where the export asks for no types, that is for all.';

CREATE TABLE ingest.tick (
    payer     text        NOT NULL,
    schedule  text        NOT NULL CHECK (schedule IN ('schedule', 'full_schedule')),
    due_at    timestamptz NOT NULL,
    fired_at  timestamptz NOT NULL DEFAULT now(),
    outcome   text        NOT NULL CHECK (outcome IN ('registered', 'started', 'skipped')),
    export_id bigint,
    PRIMARY KEY (payer, schedule, due_at)
);
COMMENT ON TABLE ingest.tick IS 'Ticks of the schedules that were seen: the primary key is why each fires once.';
COMMENT ON COLUMN ingest.tick.outcome IS 'registered: the schedule was first seen then; skipped: another export of the payer still ran.';

CREATE TABLE ingest.payer (
    payer               text PRIMARY KEY,
    paused_at           timestamptz,
    paused_by           text NOT NULL DEFAULT '',
    backfill_refused_at timestamptz,
    fhir_url            text NOT NULL DEFAULT ''
);
COMMENT ON TABLE ingest.payer IS 'What operators decided about a payer, and what was learned of it.';
COMMENT ON COLUMN ingest.payer.fhir_url IS 'Where the payer was at the last start: another API version under the same name is warned of.';
COMMENT ON COLUMN ingest.payer.backfill_refused_at IS 'When the payer refused an export of single patients: newcomers make the next export a full one.';

CREATE TABLE ingest.host (
    host          text PRIMARY KEY,
    blocked_until timestamptz NOT NULL,
    allowance     integer,
    slowed_at     timestamptz NOT NULL,
    grown_at      timestamptz
);
COMMENT ON TABLE ingest.host IS 'Hosts of files that answered 429 or 503: what all payers and instances that use them have to know.';
COMMENT ON COLUMN ingest.host.host IS 'The origin: scheme, name and port.';
COMMENT ON COLUMN ingest.host.blocked_until IS 'Nobody asks it for a file before.';
COMMENT ON COLUMN ingest.host.allowance IS 'How many files it is asked for at once, over all instances; null: as limits.downloads has it.';

CREATE TABLE ingest.newcomer (
    payer      text        NOT NULL,
    patient_id text        NOT NULL,
    found_by   bigint      NOT NULL,
    wants_full boolean     NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (payer, patient_id)
);
COMMENT ON TABLE ingest.newcomer IS 'Patients who joined a group between two exports, and whose history is not here yet.';
COMMENT ON COLUMN ingest.newcomer.wants_full IS 'The next export is to be a full one; otherwise theirs is asked for alone.';
