#!/usr/bin/env bash
# Builds the fuzz targets with coverage on stable Rust, and runs them: scripts/fuzz.sh SECONDS [TARGET...]
#
# Two run at a time, or JOBS. SEED=1 goes the same way again, as far as the time reaches; without it each run goes its
# own. An input that makes a target fail is kept in fuzz/artifacts/<target>/; to run it again:
# scripts/fuzz.sh 0 TARGET FILE
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

seconds=${1:?seconds for each target}
shift
triple=$(rustc -vV | sed -n 's/^host: //p')
RUSTC_WRAPPER=$PWD/rustc.sh SQLX_OFFLINE=true cargo build --locked --release --quiet --target "$triple" --bins
programs=target/$triple/release
if [ "$seconds" = 0 ]; then
    exec "$programs/$1" "${@:2}"
fi
targets=("$@")
[ $# -gt 0 ] || targets=(slices lines tables kkbox numpy yes_radio sources bundles configuration requests)

run() {
    local target=$1 seconds=$2 folders
    mkdir -p "corpus/$target" "artifacts/$target" logs
    folders=("corpus/$target" "seeds/$target")
    case $target in slices | lines | numpy) folders+=(../tests/fixtures/import) ;; esac
    local dictionary=()
    [ ! -f "dictionaries/$target" ] || dictionary=(-dict="dictionaries/$target")
    # The limits: a minute of reading, 1 GiB in all, and 512 MiB at once are a fault, whatever the input is.
    if "$programs/$target" "${folders[@]}" "${dictionary[@]}" -artifact_prefix="artifacts/$target/" -max_len=16384 \
        -max_total_time="$seconds" -seed="${SEED:-0}" -timeout=60 -rss_limit_mb=1024 -malloc_limit_mb=512 \
        -print_final_stats=1 >"logs/$target" 2>&1; then
        local runs edges
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "logs/$target")
        edges=$(grep -o 'cov: [0-9]*' "logs/$target" | tail -n 1)
        echo "$target: $runs inputs, ${edges#cov: } edges, no failure"
    else
        tail -n 60 "logs/$target"
        echo "$target failed: fuzz/artifacts/$target/" >&2
        return 1
    fi
}
export -f run
export programs
printf '%s\n' "${targets[@]}" | xargs -P "${JOBS:-2}" -I{} bash -c "run {} $seconds"
