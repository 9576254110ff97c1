-- What the authorization let be read, for exports of all types: a type that a payer grants later was never asked for up to the watermark.

ALTER TABLE ingest.export ADD COLUMN granted text[];
COMMENT ON COLUMN ingest.export.granted IS 'For an export of all types, those that the authorization let be read when it was asked for; NULL: all, or it is not known.';

ALTER TABLE ingest.watermark ADD COLUMN granted text[], ADD COLUMN wants_full boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN ingest.watermark.granted IS 'Where it is of all types, those that were granted in every export up to it; NULL: all, or it is not known.';
COMMENT ON COLUMN ingest.watermark.wants_full IS 'Types are granted that were not before: the next export is a full one.';
