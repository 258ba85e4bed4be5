# What a person types. `make demo` and `make test` do all of their set-up themselves.

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint fmt openapi sqlx drift bench load chaos soak contract up clean

help: ## list these targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: ## install what is missing: PostgreSQL, LibTorch, a C++ compiler
	@scripts/setup.sh

demo: setup ## import, train, serve and show two answers; DATA=path/to/slices for real ones
	cargo build --release --locked
	target/release/segue demo $(if $(DATA),--data $(DATA)) $(DEMO_FLAGS)

test: setup ## run all tests, with a PostgreSQL of their own
	scripts/with-postgres.sh cargo test --locked

lint: setup ## formatting and clippy, warnings being errors
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

fmt: ## format the code
	cargo fmt

openapi: setup ## write openapi.yaml anew
	cargo run --locked --quiet -- openapi > openapi.yaml.new
	mv openapi.yaml.new openapi.yaml

sqlx: setup ## write .sqlx/ anew, after a query or a migration changed
	scripts/sqlx-prepare.sh

drift: setup ## fail if openapi.yaml or .sqlx/ is not what the code says
	scripts/sqlx-prepare.sh --check
	cargo run --locked --quiet -- openapi --check openapi.yaml

bench: setup ## measure latency over HTTP; DATA=path/to/slices for a real catalog
	cargo build --release --locked
	cargo bench --locked --bench http_latency -- $(if $(DATA),--data $(abspath $(DATA)))

load: setup ## load on each route over HTTP; DATA=path/to/slices for a real catalog
	cargo build --release --locked
	cargo bench --locked --bench load -- $(if $(DATA),--data $(abspath $(DATA)))

chaos: setup ## overload, swaps of models and loss of PostgreSQL under load, and what was lost
	cargo build --release --locked
	cargo bench --locked --bench load -- --chaos $(if $(DATA),--data $(abspath $(DATA)))

soak: setup ## MINUTES=20 of mixed load with swaps and restarts of PostgreSQL
	cargo build --release --locked
	cargo bench --locked --bench load -- --soak --minutes $(or $(MINUTES),20) $(if $(DATA),--data $(abspath $(DATA)))

contract: setup ## try the contract on a live server with Schemathesis; CASES=5000
	scripts/contract.sh $(or $(CASES),5000)

up: ## start PostgreSQL and the server in containers
	cd docker && SEGUE_GIT_COMMIT=$$(git rev-parse --short=12 HEAD) docker compose up --build --detach

clean: ## remove what was built (not data/, not models/)
	cargo clean
