#!/usr/bin/env bash
# Runs a command with DATABASE_URL set to a throw-away PostgreSQL server, and stops the server afterwards in any case.
#
#   scripts/with-postgres.sh cargo test
#
# The programs are those in SEGUE_POSTGRES_BIN if it is set, or else those of the newest version that is installed. The
# server lives in a temporary folder, listens on a Unix socket there and on no port, and never waits for the disk.
set -euo pipefail

bin=
for candidate in ${SEGUE_POSTGRES_BIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -Vr) $(dirname "$(command -v initdb || true)" 2>/dev/null)}; do
    if [ -x "$candidate/initdb" ]; then bin=$candidate; break; fi
done
if [ -z "$bin" ]; then
    echo "with-postgres: no PostgreSQL found${SEGUE_POSTGRES_BIN:+ in $SEGUE_POSTGRES_BIN}: run \`make setup\`" >&2
    exit 1
fi

folder=$(mktemp -d /tmp/segue-postgres.XXXXXX)
as=()
if [ "$(id -u)" = 0 ]; then
    # PostgreSQL refuses to run as root.
    chown postgres "$folder"
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
stop() {
    (cd / && "${as[@]}" "$bin/pg_ctl" stop -D "$folder/data" -m immediate -s) >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT TERM
(
    cd /
    "${as[@]}" "$bin/initdb" -D "$folder/data" -U segue -A trust -E UTF8 --locale=C --lc-ctype=C.UTF-8 --no-instructions >"$folder.log" 2>&1 \
        || { cat "$folder.log" >&2; exit 1; }
    rm -f "$folder.log"
    "${as[@]}" "$bin/pg_ctl" start -D "$folder/data" -l "$folder/data/server.log" -w -s -o \
        "-k $folder -h '' -c fsync=off -c full_page_writes=off -c synchronous_commit=off -c max_connections=300 -c shared_buffers=128MB" \
        || { cat "$folder/data/server.log" >&2; exit 1; }
)
"$bin/psql" -h "$folder" -U segue -d postgres -Xqc 'CREATE DATABASE segue'
export DATABASE_URL="postgres://segue@localhost/segue?host=$folder"
"$@"
