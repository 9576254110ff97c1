-- Why a job of an export is tried again, which the export's error does not say: that is why it ended.

ALTER TABLE ingest.export
    ADD COLUMN trouble_at timestamptz,
    ADD COLUMN trouble_code text NOT NULL DEFAULT '',
    ADD COLUMN trouble text NOT NULL DEFAULT '',
    ADD COLUMN trouble_hint text NOT NULL DEFAULT '',
    ADD COLUMN trouble_file integer;
COMMENT ON COLUMN ingest.export.trouble_at IS 'When a job of it last failed that is tried again; NULL where what failed has gone on since.';
COMMENT ON COLUMN ingest.export.trouble IS 'What failed then, without words of the payer.';
COMMENT ON COLUMN ingest.export.trouble_file IS 'The file that it was about; NULL where it was about none.';
