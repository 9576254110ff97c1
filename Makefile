# ingestd. 'make' lists the targets.

GO      ?= go
BUILD   := build
TOOLS   := $(BUILD)/tools
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# COVERED are the packages by which data could be lost or leaked: how much of them the tests reach is asked of.
COVERED := ingestd/internal/smartauth ingestd/internal/export ingestd/internal/store ingestd/internal/scheduler
# REACHING are the packages whose tests reach much of them.
REACHING := $(COVERED) ingestd/internal/ops ingestd/internal/ops/page ingestd/cmd/ingestd
LDFLAGS := -s -w -X main.version=$(VERSION)

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build build/ingestd
	@mkdir -p $(BUILD)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BUILD)/ingestd ./cmd/ingestd

.PHONY: test
test: postgres pgbouncer promtool ## Run all tests, with the race detector
	@test -d ../shared/data/synthea-r4 || echo "NOTICE: ../shared/data/synthea-r4 is not there; the tests on Synthea's data are skipped"
	@# Side by side: tests wait for processes and databases for much of their time.
	@$(MAKE) --no-print-directory -j 3 e2e-test race-test other-tests

.PHONY: e2e-test
e2e-test: # whole processes, with the race detector; the longest
	$(GO) test -race -timeout 20m ./internal/e2e

# -short leaves what is large to other-tests: the race detector makes it ten times slower, and finds nothing in size.
.PHONY: race-test
race-test: cover # the packages, with the race detector
	$(GO) test -race -short -timeout 20m $$($(GO) list ./... | grep -vxF -e ingestd/internal/e2e $(foreach p,$(REACHING),-e $p))

.PHONY: other-tests
other-tests: # what is large, and what has a module of its own
	$(GO) test -timeout 20m ./internal/smartauth ./internal/export ./internal/fhir
	$(GO) test -timeout 20m -run TestSimulation ./internal/scheduler
	@$(MAKE) --no-print-directory browser-test
	@# What they read lies outside of their modules, where Go's cache of results does not look.
	for tool in image kubernetes mutation release terraform docs; do (cd tools/$$tool && $(GO) test -count=1 -timeout 20m ./...) || exit 1; done

.PHONY: browser-test
browser-test: postgres ## Drive the status page in Chromium, and look for barriers
	@scripts/browser
	cd tools/browser && $(GO) test -count=1 -timeout 15m .

.PHONY: screenshots
screenshots: postgres ## Write pictures of the status page to build/screenshots
	@scripts/browser
	cd tools/browser && $(GO) test -count=1 -timeout 15m -run Screenshots . -screenshots $(CURDIR)/$(BUILD)/screenshots

# The tests with the tag faults, which take minutes, are its alone: 'make test' leaves them out.
.PHONY: faults
faults: ## Provoke each fault of docs/reliability.md; writes build/faults.json (root; ROW=16 one alone)
	@scripts/faults
	@mkdir -p $(BUILD)
	$(GO) build -o $(BUILD)/faults ./cmd/faults
	$(BUILD)/faults -go $(GO) $(if $(ROW),-row $(ROW))

.PHONY: demo
demo: postgres build ## Three simulated payers, two rounds, verified; KEEP=1 leaves it running
	$(BUILD)/ingestd demo $(if $(filter-out 0,$(KEEP)),--keep)

.PHONY: bench
bench: postgres build ## Measure ingestd beside psql and a script; writes build/bench.json
	$(GO) build -o $(BUILD)/bench ./cmd/bench
	$(BUILD)/bench

SEED  ?= 0
SEEDS ?= 1

.PHONY: chaos
chaos: DURATION ?= 3m
chaos: postgres build ## Kill and disturb everything at random, then compare (DURATION=3m SEED=1 SEEDS=5)
	$(GO) build -o $(BUILD)/chaos ./cmd/chaos
	$(BUILD)/chaos --duration $(DURATION) --seed $(SEED) --seeds $(SEEDS)

.PHONY: soak
soak: DURATION ?= 30m
soak: postgres build ## A day of exports in DURATION=30m: memory, files, connections, bloat and WAL must stay flat; writes build/soak.svg
	$(GO) build -o $(BUILD)/chaos ./cmd/chaos
	$(BUILD)/chaos soak --duration $(DURATION)

.PHONY: libraries
libraries: postgres ## Measure the libraries that the loader could use: docs/adr/0010
	cd tools/libraries && $(GO) test -v -run what_passes . && $(GO) test -run '^$$' -bench . -benchtime 1s .

.PHONY: deb
deb: build ## Build the Debian package, with the systemd unit
	@scripts/deb $(VERSION)

.PHONY: deb-test
deb-test: ## Install, upgrade and remove the package in a Debian of its own (root; a minute)
	GO=$(GO) scripts/deb-test

.PHONY: image
image: ## Build the container image, without a container engine, and check it
	GO=$(GO) scripts/image $(VERSION)

FUZZTIME ?= 30s
.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME
	GO=$(GO) scripts/fuzz $(FUZZTIME)

.PHONY: cover
cover: postgres ## Measure what tests reach of the packages that data passes through, with the race detector
	@mkdir -p $(BUILD)
	$(GO) test -race -short -timeout 20m -coverpkg=$(shell echo $(COVERED) | tr ' ' ,) -coverprofile=$(BUILD)/cover.out $(REACHING)
	scripts/cover $(BUILD)/cover.out

MUTANTS ?= .
.PHONY: mutation
mutation: postgres ## Break the lines that guard data and credentials; a test must notice each (20 minutes)
	cd tools/mutation && $(GO) run . -run '$(MUTANTS)'

.PHONY: licences
licences: ## Check the licences of all modules that the product is made of
	cd tools/release && $(GO) run . licences ../..

.PHONY: release
release: licences ## Build what is released, for amd64 and arm64: binaries, packages, the image, the bill of materials, checksums
	GO=$(GO) scripts/release $(VERSION) $(BUILD)/release

.PHONY: release-check
release-check: ## Build a release twice, in two places, and compare the bytes
	GO=$(GO) scripts/release-check $(VERSION)

.PHONY: check
check: fmt-check lint vuln test ## Everything that must pass before a change lands

.PHONY: fmt
fmt: $(TOOLS)/golangci-lint ## Format the code
	$(TOOLS)/golangci-lint fmt

.PHONY: fmt-check
fmt-check: $(TOOLS)/golangci-lint
	$(TOOLS)/golangci-lint fmt --diff

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## Lint the code
	$(TOOLS)/golangci-lint run
	for tool in browser image kubernetes libraries mutation release terraform docs; do (cd tools/$$tool && $(GO) vet ./...) || exit 1; done

.PHONY: vuln
vuln: $(TOOLS)/govulncheck ## Look for known vulnerabilities in what is called
	@scripts/vuln $(TOOLS)/govulncheck

.PHONY: postgres
postgres: # install Postgres' server where it is missing and this is root on Debian
	@scripts/postgres

.PHONY: pgbouncer
pgbouncer: # install PgBouncer where it is missing and this is root on Debian
	@scripts/pgbouncer

.PHONY: promtool
promtool: # fetch promtool where it is missing and this is Debian
	@scripts/promtool

.PHONY: man
man: build ## Write the manual pages to build/man/man1
	$(BUILD)/ingestd man $(BUILD)/man/man1

.PHONY: docs
docs: postgres ## Write anew what the docs show: docs/cli.md, golden files, and what commands and queries print
	$(GO) test ./cmd/ingestd -update
	cd tools/docs && $(GO) test -count=1 . -update

.PHONY: clean
clean: ## Remove what was built
	rm -rf $(BUILD)

# The tools have a module of their own, so that their dependencies are not the product's.
$(TOOLS)/golangci-lint: tools/go.mod tools/go.sum
	@mkdir -p $(TOOLS)
	cd tools && $(GO) build -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(TOOLS)/govulncheck: tools/go.mod tools/go.sum
	@mkdir -p $(TOOLS)
	cd tools && $(GO) build -o ../$@ golang.org/x/vuln/cmd/govulncheck
