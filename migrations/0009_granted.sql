-- What the authorization let be read, for exports of all types: a type that a payer grants later was never asked for up to the watermark.

ALTER TABLE ingest.export ADD COLUMN granted text[];
COMMENT ON COLUMN ingest.export.granted IS 'For an export of all types, those that the authorization let be read when it was asked for; NULL: all, or it is not known.';

ALTER TABLE ingest.watermark ADD COLUMN granted text[], ADD COLUMN wants_full_at timestamptz;
COMMENT ON COLUMN ingest.watermark.granted IS 'Where it is of all types, those that were granted in every export up to it; NULL: all, or it is not known.';
COMMENT ON COLUMN ingest.watermark.wants_full_at IS 'Since when types are granted that were not before, and a full export is due for what they held by then; NULL: none.';
