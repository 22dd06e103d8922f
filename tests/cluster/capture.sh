#!/usr/bin/env bash
# Captures what passes between three nodes, and shows that nothing can be read there and which key exchange every link has.
# Needs root (for a network namespace of its own and a raw socket) and Python 3.11 with the package `cryptography`.
#
#   tests/cluster/capture.sh
#   CAPTURE_SECONDS=60 tests/cluster/capture.sh      more traffic
#   CAPTURE_PYTHON=~/venv/bin/python tests/cluster/capture.sh
#   ENTANGLE_BINARY=./entangle tests/cluster/capture.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

skip() {
  echo "SKIPPED, nothing was shown: $1" >&2
  # Where it must not be skipped, such as in a release.
  if [[ "${CAPTURE_REQUIRED:-}" == 1 ]]; then exit 1; fi
  exit 0
}

if [[ $(id -u) != 0 ]]; then skip "a packet capture needs root"; fi
unshare --net true 2>/dev/null || skip "no network namespace can be made here"
command -v ip >/dev/null || skip "the program ip (iproute2) is not there"

target="${CARGO_TARGET_DIR:-target}"
python="${CAPTURE_PYTHON:-$target/capture-venv/bin/python}"
if ! "$python" -c 'import cryptography' 2>/dev/null; then
  [[ -z "${CAPTURE_PYTHON:-}" ]] || skip "$python has no package cryptography"
  python3 -m venv "$target/capture-venv"
  "$python" -m pip install --quiet cryptography >&2 || skip "the package cryptography cannot be had"
fi
binary="${ENTANGLE_BINARY:-}"
if [[ -z "$binary" ]]; then
  cargo build --release -p entangle >&2
  binary="$target/release/entangle"
fi
# The namespace ends with its last process: nothing is left behind.
exec unshare --net -- bash -c 'ip link set lo up && exec "$@"' - "$python" -B tests/cluster/capture.py "$binary"
