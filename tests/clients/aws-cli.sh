#!/usr/bin/env bash
# The AWS CLI against a node.
source "$(dirname "${BASH_SOURCE[0]}")/assertions.sh"

export AWS_ENDPOINT_URL=$S3_ENDPOINT AWS_DEFAULT_REGION=us-east-1 AWS_CONFIG_FILE=$PWD/config AWS_PAGER=
export AWS_SHARED_CREDENTIALS_FILE=/dev/null
if [[ -n "$S3_CA" ]]; then export AWS_CA_BUNDLE=$S3_CA; fi
# Without the signature version, this CLI signs URLs with SigV2 in us-east-1.
printf '[default]\ns3 =\n    addressing_style = path\n    signature_version = s3v4\n    max_concurrent_requests = 8\n' >config
api() { aws s3api "$@"; }
bucket=aws-cli

aws s3 mb "s3://$bucket" >/dev/null
[[ $(aws s3 ls) == *" $bucket"* ]] || fail "the bucket is not listed"
passed "make a bucket"

for size in 0 1000 200000 5000000; do
    body "put/$size" "$size"
    aws s3 cp --quiet "put/$size" "s3://$bucket/put/$size" --metadata colour=blue
    aws s3 cp --quiet "s3://$bucket/put/$size" "got/$size"
    same "put/$size" "got/$size" "put and get"
done
equal "$(api head-object --bucket $bucket --key put/1000 --query '[ContentLength, ETag, Metadata.colour]' --output text)" \
    "1000	\"$(md5 put/1000)\"	blue" "HEAD"
passed "put, get, head"

api get-object --bucket $bucket --key put/5000000 --range bytes=4194000-4195000 range >/dev/null
same range <(part put/5000000 4194000 1001) "a range"
api get-object --bucket $bucket --key put/200000 --range bytes=-7 range >/dev/null
same range <(tail -c 7 put/200000) "a range from the end"
refused InvalidRange aws s3api get-object --bucket $bucket --key put/1000 --range bytes=1000-2000 range
passed "ranges"

many_files many
aws s3 sync --quiet many "s3://$bucket/many"
equal "$(aws s3 ls --recursive "s3://$bucket/many/" | wc -l)" 1500 "keys under a prefix"
equal "$(aws s3 ls "s3://$bucket/many/" | tr -s ' ' | tr '\n' ' ')" " PRE a/  PRE b/  PRE c/ " "a delimiter"
equal "$(api list-objects-v2 --bucket $bucket --prefix many/ --page-size 99 --query 'length(Contents)')" 1500 "pages of 99"
page() { api list-objects-v2 --bucket $bucket --prefix many/ --page-size 10 --max-items 10 --output json "$@" | tr -d '"'; }
token=$(page --query NextToken)
equal "$(page --query 'Contents[0].Key' --starting-token "$token")" many/a/010 "the eleventh key"
aws s3 sync --quiet "s3://$bucket/many" many-back
same_folders many many-back
equal "$(aws s3 sync many "s3://$bucket/many")" "" "a second sync has nothing to do"
passed "1,500 keys: sync, list, prefixes, delimiters, pages"

aws s3 cp --quiet "s3://$bucket/put/200000" "s3://$bucket/copied"
aws s3 mv --quiet "s3://$bucket/copied" "s3://$bucket/moved"
aws s3 cp --quiet "s3://$bucket/moved" moved
same put/200000 moved "copied and moved"
refused 404 aws s3api head-object --bucket $bucket --key copied
passed "copy, move"

body large $((100 * 1024 * 1024))
aws s3 cp --quiet large "s3://$bucket/large"
[[ $(api head-object --bucket $bucket --key large --query ETag --output text) == *-13\" ]] || fail "not sent in 13 parts"
aws s3 cp --quiet "s3://$bucket/large" large-back
same large large-back "100 MiB in parts"
aws s3 cp --quiet "s3://$bucket/large" "s3://$bucket/large-copy"
aws s3 cp --quiet "s3://$bucket/large-copy" large-back
same large large-back "a copy of 100 MiB"
passed "multipart, 100 MiB"

url=$(aws s3 presign "s3://$bucket/put/200000" --expires-in 60)
curl_checked --fail -o presigned "$url"
same put/200000 presigned "presigned"
equal "$(curl_checked -o /dev/null -w '%{http_code}' "${url/put/pot}")" 403 "a presigned URL for another key"
passed "presign"

condition() { api put-object --bucket $bucket --key condition --body "$@" --query ETag --output text; }
etag=$(condition put/1000 --if-none-match '*')
equal "$etag" "\"$(md5 put/1000)\"" "ETag"
refused PreconditionFailed condition put/200000 --if-none-match '*'
next=$(condition put/200000 --if-match "$etag")
refused PreconditionFailed condition put/1000 --if-match "$etag"
refused NoSuchKey aws s3api put-object --bucket $bucket --key missing --body put/1000 --if-match "$etag"
equal "$(api head-object --bucket $bucket --key condition --query ETag --output text)" "$next" "the last success"
passed "conditional puts"

aws s3 rm --quiet "s3://$bucket/condition"
refused 404 aws s3api head-object --bucket $bucket --key condition
printf '{"Objects": [%s{"Key": "moved"}]}' "$(printf '{"Key": "many/a/%03d"}, ' $(seq 0 499))" >delete.json
equal "$(api delete-objects --bucket $bucket --delete file://delete.json --query 'length(Deleted)')" 501 "deleted at once"
equal "$(aws s3 ls --recursive "s3://$bucket/many/" | wc -l)" 1000 "keys that are left"
refused BucketNotEmpty aws s3 rb "s3://$bucket"
aws s3 rm --quiet --recursive "s3://$bucket"
aws s3 rb "s3://$bucket" >/dev/null
refused NoSuchBucket aws s3 ls "s3://$bucket"
passed "delete, multi-delete, remove the bucket"

AWS_SECRET_ACCESS_KEY=wrong refused SignatureDoesNotMatch aws s3api list-buckets
passed "a wrong secret"
