#!/usr/bin/env bash
# Faults at a real cluster of processes on this machine, and a check of all that its clients were told. No root, no tools.
#
#   tests/cluster/run.sh                          three nodes, two minutes
#   tests/cluster/run.sh --nodes 5 --seconds 600  more of it; every option: cluster --help
#   tests/cluster/run.sh --seed 7                 the faults of that seed again
#   CLUSTER_SECONDS=30 tests/cluster/run.sh       how long, where no option says it
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# The nodes are of a build with test hooks (docs/testing.md), which is kept apart: nobody takes it for the usual one.
release=${CARGO_TARGET_DIR:-target}/release
cargo build --release -p bench --bin cluster >&2
cargo build --release -p entangle --features faults >&2
mv "$release/entangle" "$release/entangle-with-faults"
given=" $* "
if [[ "$given" != *" --binary"[\ =]* ]]; then set -- --binary "$release/entangle-with-faults" "$@"; fi
if [[ "$given" != *" --seconds"[\ =]* ]]; then set -- --seconds "${CLUSTER_SECONDS:-120}" "$@"; fi
exec "$release/cluster" "$@"
