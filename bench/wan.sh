#!/usr/bin/env bash
# Measures a cluster with a node in each region over an emulated wide-area network: latency of writes and reads in every
# region, all regions at once, beside the physical limit. Needs root, TUN and the emulator `wan` (ENTANGLE_WAN or --wan).
#
#   ENTANGLE_WAN=path/to/wan bench/wan.sh              three networks, about a minute and a half each
#   bench/wan.sh --wan path/to/wan gcp3 aws5           some: gcp3, aws5, sample
#   bench/wan.sh --faults 1 aws5                       one of the five may fail: a smaller fast quorum
#   bench/wan.sh --leases everyone --out results     with read leases; tables, JSON and every latency are kept
#   bench/wan.sh --flush-ms 5                          every flush takes 5 ms longer
#
# Ends with 3 when a median is over its bound (limit + 5 % + 5 ms), with 1 when something is missing or fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --release -p entangle -p bench --bin entangle --bin bench >&2
exec python3 -B bench/wan.py "${CARGO_TARGET_DIR:-target}/release" "$@"
