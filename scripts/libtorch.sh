#!/usr/bin/env bash
# Puts LibTorch (CPU) where the build looks for it: ./libtorch, a link into a cache outside the tree.
#
# tch wants one exact LibTorch version. The Python package index has it as a wheel; this script
# downloads that wheel by hash, keeps the C++ headers and the CPU libraries of it, and drops the rest.
# The cache is ${SEGUE_CACHE:-${XDG_CACHE_HOME:-~/.cache}/segue}; about 550 MB, shared by all checkouts.
#
# A LibTorch of your own (a GPU build, say) is used instead when LIBTORCH is set: see CONTRIBUTING.md.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -n "${LIBTORCH:-}" ]; then
    echo "libtorch: using LIBTORCH=$LIBTORCH"
    exit 0
fi

wheels=scripts/libtorch-wheels.txt
machine=$(uname -m)
case "$machine" in
    x86_64 | aarch64) ;;
    *) echo "libtorch: no pinned wheel for $machine; set LIBTORCH to a LibTorch 2.13 of your own" >&2; exit 1 ;;
esac

# The cache entry is named after what it is made from, so a changed pin or script makes a new one.
key=$(cat "$wheels" scripts/libtorch.sh | sha256sum | cut -c1-12)
cache=${SEGUE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/segue}
target=$cache/libtorch-$machine-$key

if [ ! -e "$target/lib/libtorch.so" ]; then
    echo "libtorch: downloading (about 530 MB, once)"
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/libtorch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    # --python-version pins one wheel whichever Python runs pip; nothing of Python itself is used.
    # platform_machine in the requirements is the running machine's, as it should be.
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
        --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 --abi none \
        --platform "manylinux_2_28_$machine" --platform "manylinux_2_25_$machine" \
        --platform "manylinux2014_$machine" \
        --requirement "$wheels" --dest "$work/wheels"
    python3 - "$work" <<'PY'
import pathlib, sys, zipfile

work = pathlib.Path(sys.argv[1])
out = work / "libtorch"
(out / "lib").mkdir(parents=True)
# Everything CUDA, Python and NVSHMEM stays out; libtorch.so is replaced by a stub below.
unwanted = ("cuda", "python", "nvshmem", "nvrtc", "libshm", "libtorch.so", "global_deps")
for wheel in sorted((work / "wheels").glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            base = name.rsplit("/", 1)[-1]
            if not base:
                continue
            if name.startswith("torch/include/"):
                target = out / name.removeprefix("torch/")
            elif wheel.name.startswith("torch-") and ".so" in base and (
                (name.startswith("torch/lib/") and not any(word in base for word in unwanted))
                or name.startswith("torch.libs/")
            ):
                target = out / "lib" / base
            elif base.startswith(("libcudart.so.", "libcupti.so.")):
                target = out / "lib" / base
            else:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, open(target, "wb") as sink:
                while chunk := source.read(1 << 20):
                    sink.write(chunk)
PY
    # The wheel's own libtorch.so pulls in libtorch_cuda.so. This one pulls in the CPU library alone.
    lib=$work/libtorch/lib
    echo 'void segue_libtorch_stub(void) {}' | cc -shared -fPIC -x c - -o "$lib/libtorch.so" \
        -Wl,--no-as-needed -L"$lib" -ltorch_cpu -lc10 -Wl,-rpath,'$ORIGIN' -Wl,--allow-shlib-undefined
    echo "2.13.0+cpu" > "$work/libtorch/build-version"
    # Two set-ups at once: the first rename wins, and the loser's copy goes with its work folder.
    mv -T "$work/libtorch" "$target" 2>/dev/null || [ -e "$target/lib/libtorch.so" ]
    rm -rf "$work"
    trap - EXIT
fi

# .cargo/config.toml points LIBTORCH at this link, so that no variable has to be exported.
ln -sfn "$target" libtorch
echo "libtorch: $target"
