#!/usr/bin/env bash
# s3cmd against a node.
source "$(dirname "${BASH_SOURCE[0]}")/assertions.sh"

host=${S3_ENDPOINT#*://}
cat >config <<END
[default]
access_key = $AWS_ACCESS_KEY_ID
secret_key = $AWS_SECRET_ACCESS_KEY
host_base = $host
host_bucket = $host
bucket_location = us-east-1
signurl_use_https = $([[ $S3_ENDPOINT == https:* ]] && echo True || echo False)
use_https = $([[ $S3_ENDPOINT == https:* ]] && echo True || echo False)
ca_certs_file = $S3_CA
signature_v2 = False
multipart_chunk_size_mb = 15
progress_meter = False
max_retries = 2
END
s3() { s3cmd --config config "$@"; }
bucket=s3cmd

s3 mb "s3://$bucket" >/dev/null
[[ $(s3 ls) == *"s3://$bucket"* ]] || fail "the bucket is not listed"
passed "make a bucket"

for size in 0 1000 200000 5000000; do
    body "put/$size" "$size"
    s3 put --quiet "put/$size" "s3://$bucket/put/$size" --add-header=x-amz-meta-colour:blue
    s3 get --quiet --force "s3://$bucket/put/$size" "got-$size"
    same "put/$size" "got-$size" "put and get"
done
info=$(s3 info "s3://$bucket/put/1000")
[[ $info == *"File size: 1000"* && $info == *"MD5 sum:   $(md5 put/1000)"* && $info == *"x-amz-meta-colour: blue"* ]] || fail "info: $info"
passed "put, get, info"

head -c 123456 put/200000 >resumed
s3 get --quiet --continue "s3://$bucket/put/200000" resumed
same put/200000 resumed "a get that goes on in the middle"
passed "ranges"

many_files many
s3 sync --quiet many/ "s3://$bucket/many/"
equal "$(s3 ls --recursive "s3://$bucket/many/" | wc -l)" 1500 "keys under a prefix"
equal "$(s3 ls "s3://$bucket/many/" | awk '{print $2}' | tr '\n' ' ')" \
    "s3://$bucket/many/a/ s3://$bucket/many/b/ s3://$bucket/many/c/ " "a delimiter"
equal "$(s3 ls --limit 7 "s3://$bucket/many/a/" 2>/dev/null | wc -l)" 7 "a limit"
mkdir many-back
s3 sync --quiet "s3://$bucket/many/" many-back/
same_folders many many-back
passed "1,500 keys: sync, list, prefixes, delimiters, pages"

s3 cp "s3://$bucket/put/200000" "s3://$bucket/copied" >/dev/null
s3 mv "s3://$bucket/copied" "s3://$bucket/moved" >/dev/null
s3 get --quiet --force "s3://$bucket/moved" moved
same put/200000 moved "copied and moved"
refused 404 s3 info "s3://$bucket/copied"
passed "copy, move"

body large $((100 * 1024 * 1024))
s3 put --quiet large "s3://$bucket/large"
s3 get --quiet --force "s3://$bucket/large" large-back
same large large-back "100 MiB in parts"
equal "$(s3 multipart "s3://$bucket" | grep -c "s3://$bucket/large" || true)" 0 "uploads under way"
passed "multipart, 100 MiB"

# s3cmd signs URLs with SigV2 only, which is refused: presigning is tested with the other clients.
url=$(s3 signurl "s3://$bucket/put/200000" +60)
[[ $url != *X-Amz-Signature=* ]] || fail "s3cmd has learnt SigV4 for URLs: test them"
status=$(curl_checked -o refused -w '%{http_code}' "$url")
[[ $status == 400 || $status == 403 ]] || fail "a URL signed with SigV2: got $status, wanted 400 or 403"
passed "a URL signed with SigV2 is refused"

s3 put --quiet put/1000 "s3://$bucket/condition" --add-header='If-None-Match: *'
refused 412 s3 put put/200000 "s3://$bucket/condition" --add-header='If-None-Match: *'
s3 put --quiet put/200000 "s3://$bucket/condition" --add-header="If-Match: $(md5 put/1000)"
refused 412 s3 put put/1000 "s3://$bucket/condition" --add-header="If-Match: $(md5 put/1000)"
s3 get --quiet --force "s3://$bucket/condition" condition
same put/200000 condition "the last success"
passed "conditional puts"

s3 del --quiet "s3://$bucket/condition"
refused 404 s3 info "s3://$bucket/condition"
refused BucketNotEmpty s3 rb "s3://$bucket"
s3 del --quiet --recursive --force "s3://$bucket/many/"
equal "$(s3 ls --recursive "s3://$bucket/many/" | wc -l)" 0 "keys after a multi-delete"
s3 del --quiet --recursive --force "s3://$bucket/"
s3 rb "s3://$bucket" >/dev/null
refused NoSuchBucket s3 ls "s3://$bucket"
passed "delete, multi-delete, remove the bucket"
