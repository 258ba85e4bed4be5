# The commands that a person types. Each target installs what it needs first.

.DEFAULT_GOAL := help
.PHONY: help setup demo server test lint fmt deny openapi sqlx drift bench kernels load chaos soak scale contract fuzz up clean

help: ## list these targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: ## install what is missing: PostgreSQL, LibTorch, a C++ compiler
	@scripts/setup.sh

demo: setup ## import, train, serve and show two responses; DATA=path/to/slices uses your own playlists
	cargo build --release --locked
	target/release/segue demo $(if $(DATA),--data $(DATA)) $(DEMO_FLAGS)

server: ## build without LibTorch: target/release/segue has all commands but demo, train, tune and evaluate
	@scripts/setup.sh compiler
	cargo build --release --locked --no-default-features

test: setup ## run all tests on a PostgreSQL of their own
	scripts/with-postgres.sh cargo test --locked

lint: setup ## check formatting and run clippy, with and without training; warnings are errors
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --no-default-features -- -D warnings

fmt: ## format the code
	cargo fmt

deny: ## check licenses, bans and sources of the dependencies, and that the server has no LibTorch
	@scripts/setup.sh python
	scripts/cargo-deny.sh --locked --all-features check licenses bans sources
	scripts/cargo-deny.sh --manifest-path fuzz/Cargo.toml --locked check licenses bans sources
	! cargo tree --locked --no-default-features --edges normal,build --prefix none | grep -E '^(tch|torch-sys) '

openapi: setup ## regenerate openapi.yaml
	cargo run --locked --quiet -- openapi > openapi.yaml.new
	mv openapi.yaml.new openapi.yaml

sqlx: setup ## regenerate .sqlx/ after a query or a migration changed
	scripts/sqlx-prepare.sh

drift: setup ## fail if openapi.yaml or .sqlx/ differs from the code
	scripts/sqlx-prepare.sh --check
	cargo run --locked --quiet -- openapi --check openapi.yaml

bench: setup ## measure latency over HTTP; DATA=path/to/slices for a real catalog
	cargo build --release --locked
	cargo bench --locked --bench http_latency -- $(if $(DATA),--data $(abspath $(DATA)))

kernels: setup ## measure the inner loops; BASELINE=name compares with, SAVE=name records a run
	cargo bench --locked --bench kernels -- $(if $(SAVE),--save-baseline $(SAVE)) $(if $(BASELINE),--baseline $(BASELINE))

load: setup ## load each route over HTTP; DATA=path/to/slices for a real catalog
	cargo build --release --locked
	cargo bench --locked --bench load -- $(if $(DATA),--data $(abspath $(DATA)))

chaos: setup ## overload the server, swap models and stop PostgreSQL under load, count what was lost; MINUTES=1 of mixed writers, KILLS=2 of each training
	cargo build --release --locked
	SEGUE_WRITERS_SECONDS=$$((60 * $(or $(MINUTES),1))) scripts/with-postgres.sh cargo test --locked --test cli writers -- --nocapture
	SEGUE_KILLS=$(or $(KILLS),2) scripts/with-postgres.sh cargo test --locked --test pipeline kills -- --nocapture
	cargo bench --locked --bench load -- --chaos $(if $(DATA),--data $(abspath $(DATA)))

soak: setup ## MINUTES=20 of mixed load with model swaps and restarts of PostgreSQL
	cargo build --release --locked
	cargo bench --locked --bench load -- --soak --minutes $(or $(MINUTES),20) $(if $(DATA),--data $(abspath $(DATA)))

scale: setup ## measure all stages by size; PARTS="1/64 1/16 1/4 1" of 66 million placements, NEUMF=1; goes on where it was stopped
	cargo build --release --locked
	cargo bench --locked --bench scale -- $(if $(PARTS),--parts "$(PARTS)") $(if $(NEUMF),--neumf)

contract: setup ## test a live server against openapi.yaml with Schemathesis; CASES=5000
	scripts/contract.sh $(or $(CASES),5000)

fuzz: ## fuzz the readers of files, bundles and requests; SECONDS=60 for each, TARGET=slices for one
	@scripts/setup.sh compiler
	scripts/fuzz.sh $(or $(SECONDS),60) $(TARGET)

up: ## start PostgreSQL and the server in containers
	cd docker && SEGUE_GIT_COMMIT=$$(git rev-parse --short=12 HEAD) docker compose up --build --detach

clean: ## remove build output, but not data/ or models/
	cargo clean
