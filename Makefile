# ingestd. 'make' lists the targets.

GO      ?= go
BUILD   := build
TOOLS   := $(BUILD)/tools
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
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
test: postgres ## Run all tests, with the race detector
	@test -d ../shared/data/synthea-r4 || echo "NOTICE: ../shared/data/synthea-r4 is not there; the tests on Synthea's data are skipped"
	$(GO) test -race -timeout 20m ./...
	$(GO) test -timeout 10m -run 30_days ./internal/smartauth # with -race it simulates three days only
	$(GO) test -timeout 10m -run a_year_of_a_fleet ./internal/scheduler # likewise: some payers, some months
	for tool in image terraform; do (cd tools/$$tool && $(GO) test ./...) || exit 1; done

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
	for tool in image libraries terraform; do (cd tools/$$tool && $(GO) vet ./...) || exit 1; done

.PHONY: vuln
vuln: $(TOOLS)/govulncheck ## Look for known vulnerabilities in what is called
	@scripts/vuln $(TOOLS)/govulncheck

.PHONY: postgres
postgres: # install Postgres' server where it is missing and this is root on Debian
	@scripts/postgres

.PHONY: man
man: build ## Write the manual pages to build/man/man1
	$(BUILD)/ingestd man $(BUILD)/man/man1

.PHONY: docs
docs: ## Write docs/cli.md and the golden files of the commands anew
	$(GO) test ./cmd/ingestd -update

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
