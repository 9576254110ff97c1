-- The newest full export of a payer is kept, and often is its first: it is to be found without reading all that came since.

CREATE INDEX export_full ON ingest.export (payer, id DESC) WHERE state = 'published' AND kind = 'full';
