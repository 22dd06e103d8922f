#!/usr/bin/env bash
# Installs the S3 clients that tests/clients/run.sh drives: boto3, the AWS CLI and s3cmd at the versions of requirements.txt into a
# virtual environment outside the checkout, rclone from the system's packages.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${CLIENTS_DIR:-$HOME/.cache/entangle-clients}

# The stamp is what was installed: the same requirements and the same Python need no second installation.
wanted="$(python3 --version) $(sha256sum "$here/requirements.txt" | cut -d' ' -f1)"
if [[ ! -x "$venv/bin/aws" || "$(cat "$venv/stamp" 2>/dev/null)" != "$wanted" ]]; then
    rm -rf "$venv"
    mkdir -p "$(dirname "$venv")"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    echo "$wanted" >"$venv/stamp"
fi

install_package() {
    local run=()
    [[ $(id -u) == 0 ]] || run=(sudo -n)
    command -v apt-get >/dev/null || return 1
    "${run[@]}" apt-get update -qq </dev/null >/dev/null
    DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null
}
command -v openssl >/dev/null || install_package openssl
command -v rclone >/dev/null || install_package rclone || {
    echo "rclone is missing and could not be installed; install it with your system's package manager" >&2
    exit 1
}

echo "boto3, AWS CLI, s3cmd: $("$venv/bin/python" -m pip list --disable-pip-version-check 2>/dev/null |
    awk '/^(awscli|boto3|s3cmd) /{printf "%s%s %s", sep, $1, $2; sep=", "}')"
echo "$(rclone version | head -1)"
