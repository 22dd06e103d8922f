#!/usr/bin/env bash
# Runs real S3 clients against a real node, over HTTP and over HTTPS. First: tests/clients/install.sh, and a built binary.
#
#   run.sh [CLIENT...]            boto3, aws-cli, s3cmd, rclone; all of them without arguments
#   NODE_BINARY               the binary; default: target/release/entangle
#   CLIENT_SCHEMES              default: "http https"
#   OTHER_SERVER=URL     runs the clients against another S3 server instead (credentials from AWS_*): tests the tests
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
binary=${NODE_BINARY:-$target/release/entangle}
venv=${CLIENTS_DIR:-$HOME/.cache/entangle-clients}
export PATH="$venv/bin:$PATH"
clients=("$@")
if ((!$#)); then clients=(boto3 aws-cli s3cmd rclone); fi

# What the machine says of other stores and proxies is not meant here.
unset AWS_CA_BUNDLE AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3 AWS_PROFILE AWS_SESSION_TOKEN REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy

work=$(mktemp -d)
node=
stop_node() {
    if [[ -n "$node" ]]; then
        kill -TERM "$node" 2>/dev/null || true
        wait "$node" 2>/dev/null || true
        node=
    fi
}
trap 'stop_node; rm -rf "$work"' EXIT

free_ports() {
    python3 - <<'END'
import socket
held = [socket.socket() for _ in range(2)]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))
END
}

make_certificates() {
    local at=$work/tls
    mkdir -p "$at"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=Test CA" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
        -keyout "$at/ca.key" -out "$at/ca.pem" 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=127.0.0.1" \
        -keyout "$at/node.key" -out "$at/node.csr" 2>/dev/null
    openssl x509 -req -in "$at/node.csr" -CA "$at/ca.pem" -CAkey "$at/ca.key" -CAcreateserial -days 2 -out "$at/node.pem" -extfile \
        <(printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n') 2>/dev/null
}

start_node() {
    local scheme=$1 s3_port admin_port options=()
    read -r s3_port admin_port < <(free_ports)
    export S3_CA=
    if [[ $scheme == https ]]; then
        make_certificates
        export S3_CA=$work/tls/ca.pem
        options+=(--s3-tls-cert "$work/tls/node.pem" --s3-tls-key "$work/tls/node.key")
    fi
    log=$work/$scheme.log
    ENTANGLE_ACCESS_KEY=$AWS_ACCESS_KEY_ID ENTANGLE_SECRET_KEY=$AWS_SECRET_ACCESS_KEY "$binary" serve \
        --data "$work/$scheme-data" --s3 "127.0.0.1:$s3_port" --admin "127.0.0.1:$admin_port" "${options[@]}" \
        >"$log" 2>&1 </dev/null &
    node=$!
    for _ in $(seq 300); do
        if curl --silent --fail --output /dev/null --max-time 2 "http://127.0.0.1:$admin_port/readyz"; then
            export S3_ENDPOINT=$scheme://127.0.0.1:$s3_port
            return
        fi
        kill -0 "$node" 2>/dev/null || break
        sleep 0.1
    done
    echo "the node did not become ready:" >&2
    tail -n 30 "$log" >&2
    return 1
}

failed=()
run_client() {
    local client=$1 scheme=$2 started=$SECONDS
    export S3_WORK=$work/$scheme-$client
    mkdir -p "$S3_WORK"
    echo "-- $client over $scheme"
    if [[ $client == boto3 ]]; then
        python -B "$here/python/main.py" </dev/null || failed+=("$client over $scheme")
    else
        bash "$here/$client.sh" </dev/null || failed+=("$client over $scheme")
    fi
    echo "   $((SECONDS - started)) s"
    rm -rf "$S3_WORK"
}

if [[ -n "${OTHER_SERVER:-}" ]]; then
    export S3_ENDPOINT=$OTHER_SERVER S3_CA=
    for client in "${clients[@]}"; do run_client "$client" other; done
else
    export AWS_ACCESS_KEY_ID=CLIENTTESTKEY AWS_SECRET_ACCESS_KEY=client-test-secret-0123456789
    for scheme in ${CLIENT_SCHEMES:-http https}; do
        start_node "$scheme"
        for client in "${clients[@]}"; do run_client "$client" "$scheme"; done
        kill -0 "$node" 2>/dev/null || { echo "the node died:" >&2; tail -n 30 "$log" >&2; failed+=("node"); }
        # On SIGTERM a node drains and exits with 0.
        kill -TERM "$node" 2>/dev/null || true
        wait "$node" || { echo "the node ended with $?:" >&2; tail -n 30 "$log" >&2; failed+=("shutdown over $scheme"); }
        node=
    done
fi

if ((${#failed[@]})); then
    printf 'failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "all clients passed"
