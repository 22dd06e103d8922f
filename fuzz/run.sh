#!/usr/bin/env bash
# Runs one fuzz target for a while: fuzz/run.sh TARGET [SECONDS]
#
# cargo-fuzz wants nightly for its sanitizers. Our code has no `unsafe`, so it is fuzzed without them, and then the stable compiler
# will do: RUSTC_BOOTSTRAP=1 lets it take the flags that cargo-fuzz passes. Inputs that failed are left in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${1:?a target: journal_reader, ledger_parsers, command_codec, mesh_frames}
seconds=${2:-60}
build=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
unset CARGO_TARGET_DIR

# What fuzzing found worth keeping stays outside the checkout, for the next run on this machine.
corpus=${FUZZ_CORPUS_DIR:-$HOME/.cache/entangle-corpus}/$target
mkdir -p "$corpus"

RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none --target-dir "$build" "$target" "$corpus" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 -max_len=65536 -print_final_stats=1 </dev/null
