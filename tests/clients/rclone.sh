#!/usr/bin/env bash
# rclone against a node.
source "$(dirname "${BASH_SOURCE[0]}")/assertions.sh"

cat >config <<END
[node]
type = s3
provider = Other
access_key_id = $AWS_ACCESS_KEY_ID
secret_access_key = $AWS_SECRET_ACCESS_KEY
region = us-east-1
endpoint = $S3_ENDPOINT
force_path_style = true
chunk_size = 8Mi
upload_cutoff = 16Mi
END
options=(--config config --retries 1 --low-level-retries 2 --transfers 8 --checkers 8)
if [[ -n "$S3_CA" ]]; then options+=(--ca-cert "$S3_CA"); fi
rc() { rclone "${options[@]}" "$@"; }
bucket=rclone

rc mkdir "node:$bucket"
[[ $(rc lsf node:) == *"$bucket/"* ]] || fail "the bucket is not listed"
passed "make a bucket"

for size in 0 1000 200000 5000000; do
    body "put/$size" "$size"
    rc copyto "put/$size" "node:$bucket/put/$size"
    rc copyto "node:$bucket/put/$size" "got/$size"
    same "put/$size" "got/$size" "put and get"
done
equal "$(rc md5sum "node:$bucket/put/200000")" "$(md5 put/200000)  200000" "MD5"
passed "put, get, MD5"

same <(rc cat --offset 4194000 --count 1001 "node:$bucket/put/5000000") <(part put/5000000 4194000 1001) "a range"
same <(rc cat --tail 7 "node:$bucket/put/200000") <(tail -c 7 put/200000) "a range from the end"
passed "ranges"

many_files many
rc sync many "node:$bucket/many"
equal "$(rc lsf -R --files-only "node:$bucket/many" | wc -l)" 1500 "keys under a prefix"
equal "$(rc lsf "node:$bucket/many" | tr '\n' ' ')" "a/ b/ c/ " "a delimiter"
equal "$(rc lsf -R --files-only --fast-list --s3-list-chunk 99 "node:$bucket/many" | wc -l)" 1500 "pages of 99"
equal "$(rc lsf -R --files-only --s3-list-version 1 "node:$bucket/many" | wc -l)" 1500 "the older listing"
rc sync "node:$bucket/many" many-back
same_folders many many-back
rc check --download many "node:$bucket/many" 2>check || fail "check: $(tail -3 check)"
passed "1,500 keys: sync, list, prefixes, delimiters, pages"

rc copyto "node:$bucket/put/200000" "node:$bucket/copied"
rc moveto "node:$bucket/copied" "node:$bucket/moved"
rc copyto "node:$bucket/moved" moved
same put/200000 moved "copied and moved"
equal "$(rc lsf --files-only "node:$bucket/" --include copied)" "" "what was moved away"
passed "copy, move"

body large $((100 * 1024 * 1024))
rc copyto large "node:$bucket/large"
rc copyto "node:$bucket/large" large-back
same large large-back "100 MiB in parts"
rc copyto --s3-copy-cutoff 20Mi "node:$bucket/large" "node:$bucket/large-copy"
rc copyto "node:$bucket/large-copy" large-back
same large large-back "a copy of 100 MiB in parts"
same <(rc rcat "node:$bucket/streamed" <large 2>/dev/null && rc cat "node:$bucket/streamed") large "a stream of unknown length"
passed "multipart, 100 MiB"

url=$(rc link --expire 60s "node:$bucket/put/200000")
curl_checked --fail -o presigned "$url"
same put/200000 presigned "presigned"
equal "$(curl_checked -o /dev/null -w '%{http_code}' "${url/put/pot}")" 403 "a presigned URL for another key"
passed "presign"

# A header goes with every request, so nothing else may be asked of the node.
condition() { rc rcat --streaming-upload-cutoff 1Mi --s3-no-head --s3-no-check-bucket --header "$1" "node:$bucket/condition" <"$2"; }
condition 'If-None-Match: *' put/1000
refused 412 condition 'If-None-Match: *' put/200000
condition "If-Match: $(md5 put/1000)" put/200000
refused 412 condition "If-Match: $(md5 put/1000)" put/1000
rc copyto "node:$bucket/condition" condition
same put/200000 condition "the last success"
passed "conditional puts"

rc deletefile "node:$bucket/condition"
equal "$(rc lsf --files-only "node:$bucket/" --include condition)" "" "what was deleted"
rc delete "node:$bucket/many"
equal "$(rc lsf -R --files-only "node:$bucket/many" 2>/dev/null | wc -l)" 0 "keys after a deletion"
rc purge "node:$bucket"
[[ $(rc lsf node:) != *"$bucket/"* ]] || fail "the bucket is still there"
passed "delete, remove the bucket"
