# What the scripts for the command line clients share: bodies, assertions that explain, a place to work. To be sourced.
#
# run.sh sets: S3_ENDPOINT (with scheme), S3_CA (a file, or empty), S3_WORK (an empty folder), AWS_ACCESS_KEY_ID,
# AWS_SECRET_ACCESS_KEY, and PATH with the clients in front.
set -Eeuo pipefail
cd "$S3_WORK"
client=$(basename "$0" .sh)

fail() {
    echo "  FAILED  $client: $*" >&2
    exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

passed() {
    echo "  ok      $client: $*"
}

# body FILE BYTES: the same bytes in every run, different for every name.
body() {
    mkdir -p "$(dirname "$1")"
    openssl enc -aes-128-ctr -pass "pass:$1" -nosalt -pbkdf2 -iter 1 -in /dev/zero 2>/dev/null | head -c "$2" >"$1" || true
    [[ $(stat -c %s "$1") == "$2" ]] || fail "could not make $1"
}

# part FILE FIRST LENGTH
part() {
    tail -c "+$(($2 + 1))" "$1" | head -c "$3" || true
}

same() {
    cmp "$1" "$2" >&2 || fail "$1 and $2 differ ($3)"
}

# equal GOT WANTED WHAT
equal() {
    [[ "$1" == "$2" ]] || fail "$3: got '${1:0:500}', wanted '${2:0:500}'"
}

# refused TEXT COMMAND...: the command must fail and say so.
refused() {
    local text=$1 said
    shift
    if said=$("$@" 2>&1); then fail "was accepted: $*"; fi
    [[ "$said" == *"$text"* ]] || fail "'$*' failed with '${said:0:500}', wanted '$text'"
}

md5() {
    md5sum "$1" | cut -d' ' -f1
}

# many_files FOLDER: 1,500 small files in three folders.
many_files() {
    mkdir -p "$1"/{a,b,c}
    local number
    for number in $(seq -w 0 499); do
        echo "a $number" >"$1/a/$number"
        echo "b $number" >"$1/b/$number"
        echo "c $number" >"$1/c/$number"
    done
}

# same_folders ONE OTHER
same_folders() {
    diff -r "$1" "$2" >&2 || fail "$1 and $2 differ"
}

curl_checked() {
    curl --silent --show-error --max-time 60 ${S3_CA:+--cacert "$S3_CA"} "$@"
}
