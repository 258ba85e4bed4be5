#!/usr/bin/env bash
# Installs what Segue needs on a fresh Debian or Ubuntu machine, and nothing that is there already:
# a C++ compiler, pip, PostgreSQL 15 or newer (Debian's packages) and LibTorch (scripts/libtorch.sh).
# Elsewhere it says what is missing. Rust and Python 3 are expected to be there.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v cargo >/dev/null || missing+=("Rust 1.94 or newer with cargo (https://rustup.rs)")
command -v python3 >/dev/null || missing+=("Python 3")
if [ ${#missing[@]} -gt 0 ]; then
    printf 'setup: needed and not found: %s\n' "${missing[@]}" >&2
    exit 1
fi

# Debian keeps one folder a version, outside PATH.
initdb() {
    for program in $(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -Vr) "$(type -P initdb || true)"; do
        [ -x "$program" ] && { echo "$program"; return; }
    done
}

packages=()
command -v c++ >/dev/null || packages+=(g++)
command -v make >/dev/null || packages+=(make)
# A Python that was built by hand may come without pip; Debian's own may too.
python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
[ -n "$(initdb)" ] && command -v psql >/dev/null || packages+=(postgresql postgresql-client)

if [ ${#packages[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "setup: not Debian or Ubuntu; install what these packages hold, then run this again: ${packages[*]}" >&2
        exit 1
    fi
    sudo=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "setup: run as root, or install: ${packages[*]}" >&2; exit 1; }
        sudo=(sudo)
    fi
    echo "setup: installing ${packages[*]}"
    if [[ " ${packages[*]} " == *" postgresql "* ]]; then
        # Segue starts servers of its own; Debian's would start one more, on port 5432, that nobody asked for.
        "${sudo[@]}" mkdir -p /etc/postgresql-common
        [ -e /etc/postgresql-common/createcluster.conf ] \
            || echo 'create_main_cluster = false' | "${sudo[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
    fi
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

version=$("$(initdb)" --version)
if [ "$(grep -oE '[0-9]+' <<<"$version" | head -n 1)" -lt 15 ]; then
    echo "setup: $version found, PostgreSQL 15 or newer is needed (https://www.postgresql.org/download)" >&2
    exit 1
fi

scripts/libtorch.sh
