# make demo    a backup and a restore of a real Redis, start to end, in under a minute
# make test    everything that must pass before a change lands
# make bench   speed and memory beside the peers, as a table
# make bench-redis   the same for each way out of Redis and in; writes target/bench/redis.json
# make bench-storage   the same for the storage engine alone, beside restic
# make bench-control   the orchestrator with 10,000 BackupConfigurations
# make fuzz    hostile input for the readers of foreign formats, a minute for each

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo build test fmt bench bench-redis bench-storage bench-control fuzz

TEST_RUNNER := $(shell cargo nextest --version >/dev/null 2>&1 && echo "nextest run" || echo "test")

help: ## Lists the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-14s %s\n", $$1, $$2 }'

demo: ## Backs a real Redis up and restores it, and compares every key.
	@tests/tools/need redis-server=redis-server restic=restic cc=build-essential
	@cargo build --release --package coffer-cli --package coffer-tests --bin coffer --bin demo
	@target/release/demo

build: ## Builds `coffer` for release.
	cargo build --release --package coffer-cli

test: ## Runs format, lints, generated files, every test and doc test.
	@tests/tools/need cc=build-essential redis-server=redis-server restic=restic openssl=openssl python3=python3 \
	  kubectl=kubernetes-client prometheus-pushgateway=prometheus-pushgateway promtool=prometheus \
	  redis-cli=redis-tools pip3=python3-pip rclone=rclone node=nodejs npm=npm
	@tests/tools/servers
	@tests/tools/stores
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings
	cargo clippy --manifest-path tests/fuzz/Cargo.toml --target-dir target -- --deny warnings
	RUSTDOCFLAGS="--deny warnings --allow rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items --quiet
	cargo $(TEST_RUNNER) --workspace
	cargo test --workspace --doc --quiet
	@tests/tools/kubectls target/kubectl | while read -r folder; do \
	  echo "once more with $$folder/kubectl"; \
	  PATH=$$folder:$$PATH cargo $(TEST_RUNNER) --workspace --test kubectl --test manifests </dev/null || exit 1; \
	done

fmt: ## Formats the code and writes the generated files.
	cargo fmt --all
	cargo crds

bench: ## Measures backup and restore beside redis-cli and restic.
	@tests/tools/need redis-server=redis-server redis-cli=redis-tools restic=restic cc=build-essential
	@cargo build --release --package coffer-cli --package coffer-tests --bin coffer --bin bench
	@target/release/bench

bench-redis: ## Measures each way out of Redis and in, beside what people use.
	@tests/tools/need redis-server=redis-server redis-cli=redis-tools restic=restic cc=build-essential
	@cargo build --release --package coffer-cli --package coffer-tests --bin coffer --bin bench-redis
	@target/release/bench-redis

bench-storage: ## Measures the storage engine beside restic, and beside what the processor allows.
	@tests/tools/need restic=restic cc=build-essential
	@cargo build --release --package coffer-restic --example bench-storage
	@target/release/examples/bench-storage

bench-control: ## Measures the orchestrator with 10,000 BackupConfigurations.
	@tests/tools/need cc=build-essential
	@cargo build --release --package coffer-standalone --example bench-control
	@target/release/examples/bench-control

FUZZ_SECONDS ?= 60
fuzz: ## Feeds hostile input to each reader of foreign formats for FUZZ_SECONDS (60).
	@tests/tools/need c++=g++
	@tests/tools/fuzz $(FUZZ_SECONDS)
