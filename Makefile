# Everything here is one call of cargo, or of what cargo built.
#
# PROFILE: `up` and `test` share one build of the dev profile, which is there in
# half the time of a release build. Hutch spends about 3 ms of CPU on a command
# then; `make up PROFILE=release` is for those who want to see its own speed, which
# `make bench` measures.
PROFILE := dev
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
BIN := $(TARGET)/$(shell uname -m)-unknown-linux-gnu/$(patsubst dev,debug,$(PROFILE))
# Tests have a cluster of their own beside that of `up`, with no Hutch on it.
RUN := $(BIN)/testcluster --state $(TARGET)/testcluster-for-tests run --

.DEFAULT_GOAL := help
.PHONY: help up down test bench lint generate image agent build

help: ## Show this help
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

up: agent build ## Start a cluster and Hutch, and run a first command (HUTCH_KUBECONFIG: on your cluster)
	@$(BIN)/testcluster quickstart

down: build ## Stop both; nothing is left of them
	@$(BIN)/testcluster quickstart --down

test: agent ## Run every test, the ones on a real cluster included
	cargo test --workspace --profile $(PROFILE) --no-run && $(RUN) cargo test --workspace --profile $(PROFILE) --no-fail-fast

bench: agent build ## Measure on a real cluster, and print the README's table
	cargo bench --bench cluster --no-run && $(RUN) cargo bench --bench cluster

lint: ## Check formatting and lints
	cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings

generate: build ## Write the custom resource definitions and their reference from the Rust types, and config/rbac from the chart (needs Helm)
	for folder in crds charts/hutch/files/crds; do $(BIN)/hutch crds --write $$folder || exit; done
	$(BIN)/hutch crds --reference > docs/reference.md
	config/rbac/generate.sh config/rbac

image: agent build ## Make both images (PROFILE=release: as they are shipped), and load them into the test cluster
	@$(BIN)/testcluster image build $(TARGET)/images

agent:
	@cargo build -p hutch-agent --profile agent

build:
	@cargo build --workspace --exclude hutch-agent --bins --profile $(PROFILE)
