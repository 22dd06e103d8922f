#!/usr/bin/env bash
# Measures a node on this machine and prints the tables of figures as Markdown. Progress goes to standard error.
#
#   bench/run.sh                        everything: about 10 minutes
#   bench/run.sh small large            some tables: small, large, flush, ledger, memory
#   BENCH_SECONDS=3 MEMORY_OBJECTS=100000 bench/run.sh    a quick look
#   BENCH_FOLDER=/mnt/disk/tmp bench/run.sh               measures the disk that this folder is on
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --release -p entangle -p bench >&2
exec python3 -B bench/measure.py "${CARGO_TARGET_DIR:-target}/release" "$@"
