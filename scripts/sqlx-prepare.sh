#!/usr/bin/env bash
# Writes .sqlx/: PostgreSQL's description of every query in the code, so that builds check SQL without a database.
# With --check, writes nothing and fails if .sqlx/ is out of date.
#
# Does what `cargo sqlx prepare` does, without building that tool. Runs under scripts/with-postgres.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" != --inside ]; then
    exec scripts/with-postgres.sh "$0" --inside "$@"
fi
shift

for migration in migrations/*.sql; do
    psql "$DATABASE_URL" -Xq -v ON_ERROR_STOP=1 -1 -f "$migration"
done
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
# The macros run when the crate is compiled, and write the descriptions into SQLX_OFFLINE_DIR.
touch src/lib.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$fresh cargo check --quiet --lib
if [ "${1:-}" = --check ]; then
    diff -r .sqlx "$fresh" || { echo "sqlx-prepare: .sqlx is out of date: run \`make sqlx\`" >&2; exit 1; }
else
    mkdir -p .sqlx
    rm -f .sqlx/*.json
    cp "$fresh"/*.json .sqlx/
fi
