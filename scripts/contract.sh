#!/usr/bin/env bash
# Tries the contract on a live server: Schemathesis (from the Python index, in an environment of its own) reads
# openapi.yaml as the server gives it and sends what it allows and what it does not, in CASES cases at least.
#
#   scripts/contract.sh 5000
#
# The server runs over a private PostgreSQL with synthetic playlists, all in a temporary folder.
set -euo pipefail
cd "$(dirname "$0")/.."
cases=${1:-5000}
cache=${SEGUE_CACHE:-$HOME/.cache/segue}/schemathesis
if [ ! -x "$cache/bin/schemathesis" ]; then
    python3 -m venv "$cache"
    "$cache/bin/pip" install --quiet "schemathesis>=4,<5"
fi
cargo build --locked
home=$(mktemp -d)
segue() { env -u DATABASE_URL SEGUE_HOME="$home" "${CARGO_TARGET_DIR:-target}/debug/segue" "$@"; }
server=
stop() {
    [ -z "$server" ] || { kill -TERM "$server" && wait "$server" || true; }
    rm -rf "$home"
}
trap stop EXIT
segue generate --playlists 300 --tracks 2000 --out "$home/slices" >/dev/null
segue import mpd "$home/slices" >/dev/null
segue train similarity --epochs 1 >/dev/null
segue train completion --folds 2 --maskings 1 --ranking-playlists 100 --negatives 20 --trees 20 --without-neumf >/dev/null
env -u DATABASE_URL SEGUE_HOME="$home" "${CARGO_TARGET_DIR:-target}/debug/segue" serve --listen 127.0.0.1:0 2>"$home/log" &
server=$!
until url=$(grep -oE 'http://127[0-9.:]+' "$home/log" | head -n 1) && [ -n "$url" ]; do sleep 0.2; done
operations=$(grep -cE '^    (get|put|post|patch|delete):' openapi.yaml)
"$cache/bin/schemathesis" run "$url/openapi.json" --checks all --mode all \
    --max-examples $(((cases + operations - 1) / operations)) --continue-on-failure --workers 2 \
    --request-timeout 20 --generation-database none "${@:2}"
if grep -q ERROR "$home/log"; then grep ERROR "$home/log" | head; exit 1; fi
