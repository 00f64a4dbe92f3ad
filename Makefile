# Each target is one call of cargo, or of a program that cargo built.
#
# PROFILE: `up` and `test` share one build of the dev profile, because it takes half the
# time of a release build. Hutch then spends about 3 ms of CPU per command.
# `make up PROFILE=release` shows Hutch's own speed, and `make bench` measures it.
PROFILE := dev
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
BIN := $(TARGET)/$(shell uname -m)-unknown-linux-gnu/$(patsubst dev,debug,$(PROFILE))
# The tests have their own cluster. The cluster of `up` keeps running beside it.
RUN := $(BIN)/testcluster --state $(TARGET)/testcluster-for-tests run --

.DEFAULT_GOAL := help
.PHONY: help up down test unit bench lint deny generate image packages agent build

help: ## Show this help
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

up: agent build ## Start a cluster and Hutch, and run a first command (HUTCH_KUBECONFIG: on your cluster)
	@$(BIN)/testcluster quickstart

down: build ## Stop Hutch and the cluster of `up`, and remove their files
	@$(BIN)/testcluster quickstart --down

test: packages agent ## Run every test, also those on a real cluster; needs root, installs Debian packages
	cargo test --workspace --profile $(PROFILE) --no-run && $(RUN) cargo test --workspace --profile $(PROFILE) --no-fail-fast

unit: ## Run the unit tests only: no root, no cluster, no database
	cargo test --workspace --lib --bins --profile $(PROFILE)

bench: agent build ## Measure on a real cluster, and rewrite the table in docs/benchmarks.md
	cargo build --release -p hutch-node && cargo bench --bench cluster --no-run && $(RUN) cargo bench --bench cluster

lint: ## Check formatting and lints
	cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings

deny: ## Check licenses and sources of the dependencies (deny.toml; builds cargo-deny first)
	.ci/deny

generate: build ## Write the CRDs and their reference from the Rust types, and config/rbac from the chart (needs Helm)
	for directory in crds charts/hutch/files/crds; do $(BIN)/hutch crds --write $$directory || exit; done
	$(BIN)/hutch crds --reference > docs/reference.md
	$(BIN)/hutch crds --reasons | sed -i -e '/^<!-- reasons -->/,/^<!-- .reasons -->/{//!d}' -e '/^<!-- reasons -->/r /dev/stdin' docs/crds.md
	config/rbac/generate.sh config/rbac

image: agent build ## Build both images (PROFILE=release: as shipped), and load them into the test cluster
	@$(BIN)/testcluster image build $(TARGET)/images

packages:
	@.ci/packages

agent:
	@cargo build -p hutch-agent --profile agent

build:
	@cargo build --workspace --exclude hutch-agent --bins --profile $(PROFILE)
