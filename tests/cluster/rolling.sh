#!/usr/bin/env bash
# Restarts every node of a real cluster that is in use, upgrades it from an older build and replaces it, one node after the
# other, and checks that no client noticed that asks once more at another node. No root, no tools.
#
#   tests/cluster/rolling.sh                        from the oldest build that speaks the present protocol between nodes
#   tests/cluster/rolling.sh v0.3.0 --rounds 5      from that revision; options: rolling --help
#   tests/cluster/rolling.sh none                   no upgrade
#   OLD_BINARY=./entangle tests/cluster/rolling.sh  from a build that is there
#   OLD_TARGET_DIR=/big/target tests/cluster/rolling.sh     where it is built; the default is a folder in the target folder
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# The oldest build whose protocols and logic the present one still speaks; to be raised only when that is given up on purpose.
OLDEST=59e42b8

revision=""
if [[ $# -gt 0 && "$1" != -* ]]; then revision="$1"; shift; fi
target="$(realpath -m "${CARGO_TARGET_DIR:-target}")"
cargo build --release -p entangle -p bench --bin entangle --bin rolling >&2

old=()
if [[ -n "${OLD_BINARY:-}" ]]; then
  old=(--old "$OLD_BINARY")
elif [[ "$revision" != none ]]; then
  revision="${revision:-$OLDEST}"
  revision="$(git rev-parse --short=12 "$revision^{commit}")"
  build="${OLD_TARGET_DIR:-$target/old}"
  program="$build/entangle-$revision"
  if [[ ! -x "$program" ]]; then
    echo "building $revision" >&2
    source="$(mktemp -d)"
    trap 'rm -rf "$source"' EXIT
    git archive "$revision" | tar -x -C "$source"
    (cd "$source" && CARGO_TARGET_DIR="$build" cargo build --release -p entangle >&2)
    cp "$build/release/entangle" "$program"
  fi
  echo "from $revision ($(git log -1 --format=%cs "$revision")) to $(git describe --always --dirty)"
  old=(--old "$program")
fi
"$target/release/rolling" "${old[@]}" "$@"
