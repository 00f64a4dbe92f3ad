# Everything here is one call of cargo, or of what cargo built.
#
# `up` uses the dev profile: it is built in half the time of the release profile
# on a fresh machine, and a command through the facade takes about as long (most
# of it passes in the kernel and in the pod, not in Hutch).
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
TRIPLE := $(shell uname -m)-unknown-linux-gnu
STATIC := -C target-feature=+crt-static
# Tests have a cluster of their own beside that of `up`, with no Hutch on it.
RUN := $(TARGET)/debug/testcluster --state $(TARGET)/testcluster-for-tests run --

.DEFAULT_GOAL := help
.PHONY: help up down test bench lint generate agent build

help: ## Show this help
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

up: agent build ## Start a cluster and Hutch, and run a first command (HUTCH_KUBECONFIG: on your cluster)
	@$(TARGET)/debug/testcluster quickstart

down: build ## Stop both; nothing is left of them
	@$(TARGET)/debug/testcluster quickstart --down

test: agent ## Run every test, the ones on a real cluster included
	cargo test --workspace --no-run && $(RUN) cargo test --workspace

bench: agent build ## Measure on a real cluster
	cargo bench --bench cluster --no-run && $(RUN) cargo bench --bench cluster

lint: ## Check formatting and lints
	cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings

generate: build ## Write crds/ from the Rust types
	$(TARGET)/debug/hutch crds --write crds

agent:
	@RUSTFLAGS="$(STATIC)" cargo build -p hutch-agent --profile agent --target $(TRIPLE)

build:
	@cargo build --workspace --exclude hutch-agent --bins
