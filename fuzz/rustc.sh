#!/usr/bin/env bash
# The compiler of fuzz targets, called by Cargo: adds coverage to Segue and to the crates that read what anyone may have
# made. All others are built without it: quicker to build, quicker to run, and none of their branches are worth a search.
#
# The flags are those of `cargo fuzz build --sanitizer none`, and work on stable Rust. Programs that run while others are
# built (build scripts, macros) have no libFuzzer to report to; Cargo names a target for all but them.
set -euo pipefail

covered=" segue segue_fuzz slices lines tables kkbox numpy yes_radio sources bundles configuration requests \
serde_json csv_core encoding_rs toml toml_parser toml_datetime base64 serde_urlencoded form_urlencoded percent_encoding \
serde_path_to_error axum axum_core "
name=
has_target=
previous=
for argument in "$@"; do
    [ "$previous" = --crate-name ] && name=$argument
    [ "$argument" = --target ] && has_target=1
    previous=$argument
done
if [ -n "$has_target" ] && [[ $covered == *" $name "* ]]; then
    set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
fi
exec "$@"
