# Targets with a "##" comment are what `make` alone prints.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GOBUILD  = CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
TOOL     = $(GO) tool -modfile=tools/go.mod
# Seconds that each fuzz target runs, and minutes that soak may take.
FUZZTIME ?= 10s
SOAKTIME ?= 10m

.DEFAULT_GOAL := help
.PHONY: help build dist run test test-full soak check unit e2e bench bench-short bench-hitratio bench-store fuzz setup setup-full deploy-test clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/edge and bin/origin
	@mkdir -p bin
	$(GOBUILD) -o bin/edge ./cmd/edge
	$(GOBUILD) -o bin/origin ./cmd/origin

dist: ## write tarballs for linux/amd64 and linux/arm64 to dist/, the same bytes from the same source
	@tools/dist.sh "$(GO)" "$(VERSION)"

run: build ## start the sample origin and an edge in front of it on loopback, and show a miss and a hit
	@tools/run.sh

test: setup check unit e2e ## set up, check the style, run unit and end-to-end tests (under 15 minutes)

test-full: export EDGE_FULL = 1
test-full: setup setup-full check unit deploy-test e2e ## as test, with the slow tests too

soak: export EDGE_SOAK = $(SOAKTIME)
soak: setup build ## long kill, flood and endurance runs, SOAKTIME each (default 10m)
	$(GO) test -count=1 -timeout 120m -run '^TestSoak' -v ./...

bench: build ## measure CPU per request beside nginx and write bench/results and docs/performance.md
	@tools/setup.sh bench
	$(GO) run ./bench -edge bin/edge -origin bin/origin
	$(GO) run ./bench -assemble

bench-short: build ## a quick look at the same, nothing written
	@tools/setup.sh bench
	$(GO) run ./bench -short -edge bin/edge -origin bin/origin

bench-hitratio: ## replay traces through the tiers' policies and their peers, and write table and plot (15 minutes)
	EDGE_HITRATIO=all EDGE_HITRATIO_OUT="$(CURDIR)" $(GO) test -count=1 -timeout 90m -run '^TestHitRatio' -v ./cache/store
	$(GO) run ./bench -assemble

bench-store: ## run the store's Go benchmarks and write their table (5 minutes)
	$(GO) run ./bench -store
	$(GO) run ./bench -assemble

fuzz: ## run each fuzz target for FUZZTIME (default 10s)
	@tools/fuzz.sh "$(GO)" "$(FUZZTIME)"

clean: ## remove what was built, not what was cached in ./data
	rm -rf bin bench/out

# The parts of test, to run one alone.
setup:
	@tools/setup.sh test

setup-full:
	@tools/setup.sh full

check:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not formatted (run gofmt -w):"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(TOOL) staticcheck ./...

# The race detector needs a C compiler; without one the tests still run. Memory is
# measured in a pass without it.
unit:
	@packages=$$($(GO) list ./... | grep -v '/e2e$$') || exit 1; \
	if command -v gcc >/dev/null 2>&1; then set -- -race; export CGO_ENABLED=1; else set --; echo "SKIPPED: race detector (no gcc)"; fi; \
	set -x; $(GO) test "$$@" -timeout 20m $$packages && $(GO) test -count=1 -run 'HoldsItsBudget|AllocatesNothing|IdleMemory' ./cache/... ./server/...

deploy-test:
	cd deploy/test && $(GO) vet ./... && $(GO) test ./...

e2e:
	$(GO) test -count=1 -timeout 60m ./e2e
