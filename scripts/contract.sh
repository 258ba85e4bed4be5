#!/usr/bin/env bash
# Tests a live server against its contract: Schemathesis (from the Python index, in an environment of its own) reads the
# server's OpenAPI document and sends valid and invalid requests, at least as many as the argument says.
#
#   scripts/contract.sh 5000
#
# The server uses a private PostgreSQL with synthetic playlists, ratings and listens, and a model of every kind trained on
# them, all in a temporary folder.
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
# Sixty users rate and play the first three hundred tracks.
awk 'BEGIN { print "user_id,track_id,rating"
    for (u = 1; u <= 60; u++) for (n = 1; n <= 25; n++)
        printf "user-%d,synthetic:track:%d,%d\n", u, (u * 7 + n * 13) % 300, (u + n) % 5 + 1 }' >"$home/ratings.csv"
mkdir "$home/listens"
awk 'BEGIN { print "msno,song_id,source_system_tab,source_screen_name,source_type,target"
    for (n = 0; n < 3000; n++)
        printf "user-%d,synthetic:track:%d,my library,Local playlist more,local-library,%d\n",
            n % 60, (n * n * 7 + n) % 300, ((n % 60 + n * 7) % 3 > 0) }' >"$home/listens/train.csv"
segue import ratings "$home/ratings.csv" >/dev/null
segue import kkbox "$home/listens" >/dev/null
segue train similarity --epochs 1 >/dev/null
segue train completion --folds 2 --maskings 1 --ranking-playlists 100 --negatives 20 --trees 20 --neumf-epochs 1 >/dev/null
segue train ratings >/dev/null
segue train clicks --epochs 1 >/dev/null
env -u DATABASE_URL SEGUE_HOME="$home" "${CARGO_TARGET_DIR:-target}/debug/segue" serve --listen 127.0.0.1:0 2>"$home/log" &
server=$!
until url=$(grep -oE 'http://127[0-9.:]+' "$home/log" | head -n 1) && [ -n "$url" ]; do sleep 0.2; done
operations=$(grep -cE '^    (get|put|post|patch|delete):' openapi.yaml)
"$cache/bin/schemathesis" --config-file scripts/schemathesis.toml run "$url/openapi.json" --checks all --mode all \
    --max-examples $(((cases + operations - 1) / operations)) --continue-on-failure --workers 1 \
    --request-timeout 20 --generation-database none "${@:2}"
if grep -q ERROR "$home/log"; then grep ERROR "$home/log" | head; exit 1; fi
