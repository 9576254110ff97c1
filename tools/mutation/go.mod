module ingestd/tools/mutation

go 1.26.8
