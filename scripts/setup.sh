#!/usr/bin/env bash
# Installs what is missing on a fresh Debian or Ubuntu machine; on others, names it.
#
#   scripts/setup.sh                     # everything that building, training, testing and the demo need
#   scripts/setup.sh compiler            # what the server alone needs to be built: no LibTorch, no Python
#   scripts/setup.sh compiler postgres   # several parts
#
# compiler: a C++ compiler and make. python: pip, for downloads from the Python index. postgres: PostgreSQL 15 or newer.
# libtorch: scripts/libtorch.sh. Rust and Python 3 itself are expected to be installed.
set -euo pipefail
cd "$(dirname "$0")/.."

for part in "$@"; do
    case "$part" in
        compiler | python | postgres | libtorch) ;;
        *) echo "setup: unknown part: $part (compiler, python, postgres and libtorch exist)" >&2; exit 2 ;;
    esac
done
parts=" ${*:-compiler python postgres libtorch} "
[[ $parts == *" libtorch "* ]] && parts+="compiler python "
wanted() { [[ $parts == *" $1 "* ]]; }

missing=()
command -v cargo >/dev/null || missing+=("Rust 1.94 or newer with cargo (https://rustup.rs)")
! wanted python || command -v python3 >/dev/null || missing+=("Python 3")
if [ ${#missing[@]} -gt 0 ]; then
    printf 'setup: please install: %s\n' "${missing[@]}" >&2
    exit 1
fi

# Debian keeps one folder for each version, outside PATH.
initdb() {
    [ -z "${SEGUE_POSTGRES_BIN:-}" ] || { echo "$SEGUE_POSTGRES_BIN/initdb"; return; }
    for program in $(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -Vr) "$(type -P initdb || true)"; do
        [ -x "$program" ] && { echo "$program"; return; }
    done
}

packages=()
if wanted compiler; then
    command -v c++ >/dev/null || packages+=(g++)
    command -v make >/dev/null || packages+=(make)
fi
if wanted python; then
    # A Python that was built by hand may come without pip; Debian's own may too.
    python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
fi
if wanted postgres; then
    [ -n "$(initdb)" ] && command -v psql >/dev/null || packages+=(postgresql postgresql-client)
fi

if [ ${#packages[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "setup: this isn't Debian or Ubuntu: install what these packages contain, then run this again: ${packages[*]}" >&2
        exit 1
    fi
    sudo=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "setup: run this as root, or install ${packages[*]}" >&2; exit 1; }
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

if wanted postgres; then
    version=$("$(initdb)" --version)
    if [ "$(grep -oE '[0-9]+' <<<"$version" | head -n 1)" -lt 15 ]; then
        echo "setup: found $version, but Segue needs PostgreSQL 15 or newer (https://www.postgresql.org/download)" >&2
        exit 1
    fi
fi

! wanted libtorch || scripts/libtorch.sh
