"""Objects: put, get, ranges, metadata, checksums, copies, deletions, presigned URLs."""

import base64
import hashlib
import time

from botocore.exceptions import ClientError

from world import ENDPOINT, IS_ENTANGLE, MIB, body, client, equal, fetch, holds, md5, read, refused

# Around the limit up to which bodies travel inline, and around the chunks of longer ones.
SIZES = [0, 1, 1024, 128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 4 * MIB, 4 * MIB + 1, 9 * MIB + 17]


def check_put_and_get(s3, bucket):
    for size in SIZES:
        wanted = body(size)
        answer = s3.put_object(Bucket=bucket, Key=f"size/{size}", Body=wanted)
        equal(answer["ETag"], f'"{md5(wanted)}"', f"ETag of {size} bytes")
    for size in SIZES:
        wanted = body(size)
        answer = s3.get_object(Bucket=bucket, Key=f"size/{size}")
        equal(answer["ContentLength"], size, "ContentLength")
        equal(answer["ETag"], f'"{md5(wanted)}"', "ETag")
        equal(answer["Body"].read(), wanted, f"{size} bytes")
        equal(s3.head_object(Bucket=bucket, Key=f"size/{size}")["ContentLength"], size, "HEAD")


def check_overwrite(s3, bucket):
    for size in [10, 300_000, 20, 0]:
        s3.put_object(Bucket=bucket, Key="same", Body=body(size))
        holds(s3, bucket, "same", body(size))


def check_ranges(s3, bucket):
    size = 9 * MIB + 17
    wanted = body(size, seed="ranges")
    s3.put_object(Bucket=bucket, Key="ranges", Body=wanted)
    cases = [(0, 0), (0, 99), (100, 131_171), (4 * MIB - 1, 4 * MIB), (4 * MIB, 8 * MIB - 1), (1, size - 1), (size - 1, size - 1)]
    for first, last in cases:
        answer = s3.get_object(Bucket=bucket, Key="ranges", Range=f"bytes={first}-{last}")
        equal(answer["ResponseMetadata"]["HTTPStatusCode"], 206, "status of a range")
        equal(answer["ContentRange"], f"bytes {first}-{last}/{size}", "ContentRange")
        equal(answer["Body"].read(), wanted[first : last + 1], f"bytes {first} to {last}")
    holds(s3, bucket, "ranges", wanted[-5:], Range="bytes=-5")
    holds(s3, bucket, "ranges", wanted[size - 3 :], Range=f"bytes={size - 3}-")
    holds(s3, bucket, "ranges", wanted[size - 3 :], Range=f"bytes={size - 3}-{size + 1000}")
    holds(s3, bucket, "ranges", wanted, Range=f"bytes=-{size * 2}")
    with refused("InvalidRange", 416):
        s3.get_object(Bucket=bucket, Key="ranges", Range=f"bytes={size}-")
    # Inline bodies as well.
    s3.put_object(Bucket=bucket, Key="short", Body=b"0123456789")
    holds(s3, bucket, "short", b"234", Range="bytes=2-4")


def check_metadata(s3, bucket):
    s3.put_object(
        Bucket=bucket,
        Key="meta",
        Body=b"x",
        ContentType="text/x-test; charset=utf-8",
        ContentLanguage="de",
        ContentDisposition='attachment; filename="a b.txt"',
        CacheControl="max-age=60",
        ContentEncoding="gzip",
        Metadata={"colour": "blue", "Owner": "someone"},
    )
    head = s3.head_object(Bucket=bucket, Key="meta")
    equal(head["ContentType"], "text/x-test; charset=utf-8", "ContentType")
    equal(head["ContentLanguage"], "de", "ContentLanguage")
    equal(head["ContentDisposition"], 'attachment; filename="a b.txt"', "ContentDisposition")
    equal(head["CacheControl"], "max-age=60", "CacheControl")
    equal(head["ContentEncoding"], "gzip", "ContentEncoding")
    equal(head["Metadata"], {"colour": "blue", "owner": "someone"}, "user metadata")
    answer = s3.get_object(Bucket=bucket, Key="meta", ResponseContentType="text/plain", ResponseCacheControl="no-cache")
    equal((answer["ContentType"], answer["CacheControl"]), ("text/plain", "no-cache"), "response overrides")


def check_conditional_reads(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="read", Body=b"x")["ETag"]
    modified = s3.head_object(Bucket=bucket, Key="read")["LastModified"]
    holds(s3, bucket, "read", b"x", IfMatch=etag)
    with refused("304", 304):
        s3.get_object(Bucket=bucket, Key="read", IfNoneMatch=etag)
    with refused("PreconditionFailed", 412):
        s3.get_object(Bucket=bucket, Key="read", IfMatch='"00000000000000000000000000000000"')
    with refused("304", 304):
        s3.get_object(Bucket=bucket, Key="read", IfModifiedSince=modified)
    holds(s3, bucket, "read", b"x", IfUnmodifiedSince=modified)


def check_missing(s3, bucket):
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="missing")
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="missing")
    with refused("NoSuchBucket", 404):
        s3.get_object(Bucket=bucket + "-missing", Key="missing")
    with refused("NoSuchBucket", 404):
        s3.put_object(Bucket=bucket + "-missing", Key="missing", Body=b"x")
    s3.delete_object(Bucket=bucket, Key="missing")


def check_odd_keys(s3, bucket):
    keys = ["a b", "a+b", "a%20b", "ünïcödé/日本", "a//b", "/leading", "trailing/", "a?b=c&d", "a'b\"c", "a*b(c)", "~", "x" * 1024, "a&<b>", "."]
    if not IS_ENTANGLE:
        keys = [key for key in keys if key not in (".", "/leading")]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in keys:
        holds(s3, bucket, key, key.encode())
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    equal(listed, sorted(keys, key=str.encode), "keys in UTF-8 order")
    with refused("KeyTooLongError", 400):
        s3.put_object(Bucket=bucket, Key="x" * 1025, Body=b"")


def check_checksums(s3, bucket):
    data = body(200_000)
    for algorithm in ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]:
        name = f"Checksum{algorithm}"
        put = s3.put_object(Bucket=bucket, Key=algorithm, Body=data, ChecksumAlgorithm=algorithm)
        assert put.get(name), f"PUT did not echo {name}"
        got = s3.get_object(Bucket=bucket, Key=algorithm, ChecksumMode="ENABLED")
        equal(got.get(name), put[name], f"{name} of GET")
        equal(got["Body"].read(), data, "the body")
        head = s3.head_object(Bucket=bucket, Key=algorithm, ChecksumMode="ENABLED")
        equal(head.get(name), put[name], f"{name} of HEAD")
    equal(
        s3.head_object(Bucket=bucket, Key="SHA256", ChecksumMode="ENABLED")["ChecksumSHA256"],
        base64.b64encode(hashlib.sha256(data).digest()).decode(),
        "SHA-256 of the body",
    )
    attributes = s3.get_object_attributes(Bucket=bucket, Key="SHA256", ObjectAttributes=["ETag", "Checksum", "ObjectSize"])
    equal((attributes["ETag"], attributes["ObjectSize"]), (md5(data), len(data)), "attributes")


def check_bad_digests_store_nothing(s3, bucket):
    wrong = base64.b64encode(hashlib.md5(b"something else").digest()).decode()
    with refused("BadDigest", 400):
        s3.put_object(Bucket=bucket, Key="bad", Body=b"x", ContentMD5=wrong)
    with refused("InvalidDigest", 400):
        s3.put_object(Bucket=bucket, Key="bad", Body=b"x", ContentMD5="nonsense")
    wrong = base64.b64encode(hashlib.sha256(b"something else").digest()).decode()
    for size in [1, 300_000]:
        with refused(("BadDigest", "XAmzContentChecksumMismatch"), 400):
            s3.put_object(Bucket=bucket, Key="bad", Body=body(size), ChecksumSHA256=wrong)
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="bad")


def check_copy(s3, bucket):
    for size in [100, 5 * MIB]:
        data = body(size)
        put = s3.put_object(Bucket=bucket, Key="from", Body=data, ContentType="text/from", Metadata={"a": "1"})
        copied = s3.copy_object(Bucket=bucket, Key=f"to/{size}", CopySource={"Bucket": bucket, "Key": "from"})
        equal(copied["CopyObjectResult"]["ETag"], put["ETag"], "ETag of the copy")
        s3.delete_object(Bucket=bucket, Key="from")
        holds(s3, bucket, f"to/{size}", data)
        head = s3.head_object(Bucket=bucket, Key=f"to/{size}")
        equal((head["ContentType"], head["Metadata"]), ("text/from", {"a": "1"}), "copied metadata")
    s3.copy_object(
        Bucket=bucket,
        Key="to/100",
        CopySource=f"{bucket}/to/100",
        MetadataDirective="REPLACE",
        ContentType="text/new",
        Metadata={"b": "2"},
    )
    head = s3.head_object(Bucket=bucket, Key="to/100")
    equal((head["ContentType"], head["Metadata"]), ("text/new", {"b": "2"}), "replaced metadata")
    with refused("InvalidRequest", 400):
        s3.copy_object(Bucket=bucket, Key="to/100", CopySource=f"{bucket}/to/100")
    with refused("NoSuchKey", 404):
        s3.copy_object(Bucket=bucket, Key="x", CopySource=f"{bucket}/missing")
    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket=bucket, Key="x", CopySource=f"{bucket}/to/100", CopySourceIfNoneMatch="*")
    odd = "ö d+d/ké?y"
    s3.put_object(Bucket=bucket, Key=odd, Body=b"odd")
    s3.copy_object(Bucket=bucket, Key="even", CopySource={"Bucket": bucket, "Key": odd})
    holds(s3, bucket, "even", b"odd")


def check_multi_delete(s3, bucket):
    keys = [f"many/{number:04}" for number in range(1000)]
    for key in keys[::100]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    s3.put_object(Bucket=bucket, Key="kept", Body=b"x")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    equal(sorted(entry["Key"] for entry in answer["Deleted"]), keys, "deleted keys")
    equal(answer.get("Errors", []), [], "errors")
    equal([entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]], ["kept"], "what is left")
    quiet = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "kept"}], "Quiet": True})
    equal(quiet.get("Deleted", []), [], "a quiet answer")
    equal(s3.list_objects_v2(Bucket=bucket)["KeyCount"], 0, "nothing is left")
    with refused("MalformedXML", 400):
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": str(number)} for number in range(1001)]})


def check_presign(s3, bucket):
    data = body(150_000)
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "signed url"}, ExpiresIn=60)
    equal(fetch(url, "PUT", data)[0], 200, "presigned PUT")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "signed url"}, ExpiresIn=60)
    status, headers, got = fetch(url)
    equal((status, got, headers["ETag"]), (200, data, f'"{md5(data)}"'), "presigned GET")
    equal(fetch(url, headers={"Range": "bytes=5-9"})[2], data[5:10], "presigned GET of a range")
    equal(fetch(url, "PUT", b"x")[0], 403, "another method than the signed one")
    tampered = url.replace("signed%20url", "signed%20urk")
    assert tampered != url, "the URL did not hold the key as expected"
    status, _, answer = fetch(tampered)
    assert status == 403 and b"<Code>SignatureDoesNotMatch</Code>" in answer, f"another key: {status} {answer!r}"
    brief = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "signed url"}, ExpiresIn=1)
    deadline = time.monotonic() + 20
    while (status := fetch(brief)[0]) == 200 and time.monotonic() < deadline:
        time.sleep(0.2)
    equal(status, 403, "an expired URL")
    endless = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "signed url"}, ExpiresIn=604_801)
    assert fetch(endless)[0] in (400, 403), "a URL for more than seven days was taken"


def check_credentials(s3, bucket):
    with refused("SignatureDoesNotMatch", 403):
        client(secret_key="not-the-secret").list_objects_v2(Bucket=bucket)
    with refused("InvalidAccessKeyId", 403):
        client(access_key="NOSUCHACCESSKEY").list_objects_v2(Bucket=bucket)
    status, _, answer = fetch(f"{ENDPOINT}/{bucket}")
    assert status == 403 and b"<Code>AccessDenied</Code>" in answer, f"anonymous: {status} {answer!r}"


def check_buckets(s3, bucket):
    assert bucket in [entry["Name"] for entry in s3.list_buckets()["Buckets"]], "the bucket is not listed"
    s3.head_bucket(Bucket=bucket)
    with refused("404", 404):
        s3.head_bucket(Bucket=bucket + "-missing")
    s3.get_bucket_location(Bucket=bucket)
    for name in ["ab", "Upper-Case", "192.168.0.1"]:
        with refused("InvalidBucketName", 400):
            plain_create(name)
    s3.put_object(Bucket=bucket, Key="in the way", Body=b"x")
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="in the way")
    s3.delete_bucket(Bucket=bucket)
    with refused("NoSuchBucket", 404):
        s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket)


def plain_create(name):
    """Creates a bucket without the SDK's own check of its name."""
    unchecked = client()
    unchecked.meta.events.unregister("before-parameter-build.s3", __import__("botocore.handlers").handlers.validate_bucket_name)
    unchecked.create_bucket(Bucket=name)


def check_versions(s3, bucket):
    s3.put_object(Bucket=bucket, Key="v", Body=b"null")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    equal(s3.get_bucket_versioning(Bucket=bucket)["Status"], "Enabled", "versioning")
    one = s3.put_object(Bucket=bucket, Key="v", Body=b"one")["VersionId"]
    two = s3.put_object(Bucket=bucket, Key="v", Body=body(200_000))["VersionId"]
    assert one != two, "two versions with one id"
    holds(s3, bucket, "v", body(200_000))
    holds(s3, bucket, "v", b"one", VersionId=one)
    holds(s3, bucket, "v", b"null", VersionId="null")
    marker = s3.delete_object(Bucket=bucket, Key="v")
    assert marker["DeleteMarker"], "no delete marker"
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="v")
    listed = s3.list_object_versions(Bucket=bucket)
    equal([entry["VersionId"] for entry in listed["Versions"]], [two, one, "null"], "versions, newest first")
    equal([entry["VersionId"] for entry in listed["DeleteMarkers"]], [marker["VersionId"]], "delete markers")
    s3.delete_object(Bucket=bucket, Key="v", VersionId=marker["VersionId"])
    holds(s3, bucket, "v", body(200_000))
    s3.delete_object(Bucket=bucket, Key="v", VersionId=two)
    holds(s3, bucket, "v", b"one")
    with refused(("NoSuchVersion", "InvalidArgument")):
        s3.get_object(Bucket=bucket, Key="v", VersionId="0" * 56)


def check_what_is_missing_says_so(s3, bucket):
    if not IS_ENTANGLE:
        return
    with refused("NotImplemented", 501):
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    with refused("NoSuchCORSConfiguration", 404):
        s3.get_bucket_cors(Bucket=bucket)
    with refused("NoSuchBucketPolicy", 404):
        s3.get_bucket_policy(Bucket=bucket)
    with refused("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)
    try:
        s3.put_object(Bucket=bucket, Key="kms", Body=b"x", ServerSideEncryption="aws:kms")
    except ClientError:
        with refused("NoSuchKey", 404):
            read(s3, bucket, "kms")
    else:
        raise AssertionError("a demand for encryption was ignored")


def check_receipts(s3, bucket):
    if not IS_ENTANGLE:
        return
    put = s3.put_object(Bucket=bucket, Key="receipt", Body=b"x")
    deleted = s3.delete_object(Bucket=bucket, Key="receipt")
    for answer in (put, deleted):
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        receipt = base64.b64decode(headers["x-entangle-receipt"], validate=True)
        assert 200 < len(receipt) < 4096, f"a receipt of {len(receipt)} bytes"
        assert headers["x-amz-request-id"], "no request id"
