module ingestd/tools/release

go 1.26.8
