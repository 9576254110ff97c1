-- What metrics ask for at each scrape is to be found without reading an export's whole history.

CREATE INDEX export_published ON ingest.export (payer, id DESC) WHERE state = 'published' AND kind <> 'backfill';
CREATE INDEX export_fresh ON ingest.export (payer, transaction_at DESC)
    WHERE state = 'published' AND kind <> 'backfill' AND transaction_at IS NOT NULL;
