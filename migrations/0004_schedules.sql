-- Exports that wait for their turn, and ticks that are too late to be made up.

ALTER TABLE ingest.export
    ADD COLUMN waiting     boolean NOT NULL DEFAULT false,
    ADD COLUMN admitted_at timestamptz;
COMMENT ON COLUMN ingest.export.waiting IS 'It is recorded, and has no job yet: as many exports run as may (fleet.max_exports), or the payer is in its blackout (not_between).';
COMMENT ON COLUMN ingest.export.admitted_at IS 'When its waiting last ended; null where it never waited.';
CREATE INDEX export_waiting ON ingest.export (coalesce(due_at, created_at), id) WHERE waiting AND state = 'starting';

ALTER TABLE ingest.tick
    DROP CONSTRAINT tick_outcome_check,
    ADD CONSTRAINT tick_outcome_check CHECK (outcome IN ('registered', 'started', 'skipped', 'missed'));
COMMENT ON COLUMN ingest.tick.outcome IS 'registered: the schedule was first seen then; skipped: another export of the payer still ran; missed: it was later than catch_up.';
