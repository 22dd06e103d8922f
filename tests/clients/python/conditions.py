"""Conditional writes: who is first, compare and swap, and retries that must not turn success into refusal."""

from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import ClientError

from world import IS_ENTANGLE, MIB, body, client, equal, holds, read, refused

STALE = '"00000000000000000000000000000000"'


def check_create_only(s3, bucket):
    for size in [10, 300_000]:
        key = f"new/{size}"
        s3.put_object(Bucket=bucket, Key=key, Body=body(size), IfNoneMatch="*")
        with refused("PreconditionFailed", 412):
            s3.put_object(Bucket=bucket, Key=key, Body=b"second", IfNoneMatch="*")
        holds(s3, bucket, key, body(size))
        s3.delete_object(Bucket=bucket, Key=key)
        s3.put_object(Bucket=bucket, Key=key, Body=b"third", IfNoneMatch="*")
        holds(s3, bucket, key, b"third")


def check_replace_only(s3, bucket):
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=first)["ETag"]
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"3", IfMatch=first)
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=body(300_000), IfMatch=STALE)
    holds(s3, bucket, "k", b"2", IfMatch=second)
    with refused("NoSuchKey", 404):
        s3.put_object(Bucket=bucket, Key="missing", Body=b"1", IfMatch=first)


def check_conditional_delete(s3, bucket):
    if not IS_ENTANGLE:
        return
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    with refused("PreconditionFailed", 412):
        s3.delete_object(Bucket=bucket, Key="k", IfMatch=STALE)
    holds(s3, bucket, "k", b"1")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k", "ETag": STALE}]})
    equal([error["Code"] for error in answer["Errors"]], ["PreconditionFailed"], "a condition per key")
    s3.delete_object(Bucket=bucket, Key="k", IfMatch=etag)
    with refused("NoSuchKey", 404):
        read(s3, bucket, "k")


def check_conditional_completion(s3, bucket):
    if not IS_ENTANGLE:
        return
    s3.put_object(Bucket=bucket, Key="k", Body=b"first")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=body(5 * MIB))
    request = {
        "Bucket": bucket,
        "Key": "k",
        "UploadId": upload,
        "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    }
    with refused("PreconditionFailed", 412):
        s3.complete_multipart_upload(**request, IfNoneMatch="*")
    holds(s3, bucket, "k", b"first")
    s3.delete_object(Bucket=bucket, Key="k")
    s3.complete_multipart_upload(**request, IfNoneMatch="*")
    holds(s3, bucket, "k", body(5 * MIB))


def check_conditional_copy(s3, bucket):
    if not IS_ENTANGLE:
        return
    s3.put_object(Bucket=bucket, Key="from", Body=b"x")
    s3.put_object(Bucket=bucket, Key="to", Body=b"y")
    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket=bucket, Key="to", CopySource=f"{bucket}/from", IfNoneMatch="*")
    holds(s3, bucket, "to", b"y")


def check_one_of_many_is_first(s3, bucket):
    for round_number in range(10):
        key = f"race/{round_number}"

        def attempt(number):
            try:
                s3.put_object(Bucket=bucket, Key=key, Body=str(number).encode(), IfNoneMatch="*")
                return number
            except ClientError as error:
                equal(error.response["Error"]["Code"], "PreconditionFailed", "why it was refused")
                return None

        with ThreadPoolExecutor(16) as pool:
            winners = [number for number in pool.map(attempt, range(16)) if number is not None]
        equal(len(winners), 1, "winners")
        holds(s3, bucket, key, str(winners[0]).encode())


def check_counter(s3, bucket):
    """Eight threads count to 200 by compare and swap: no step is lost, none is counted twice."""
    s3.put_object(Bucket=bucket, Key="counter", Body=b"0")

    def count(_):
        done = 0
        while done < 25:
            seen = s3.get_object(Bucket=bucket, Key="counter")
            following = str(int(seen["Body"].read()) + 1).encode()
            try:
                s3.put_object(Bucket=bucket, Key="counter", Body=following, IfMatch=seen["ETag"])
                done += 1
            except ClientError as error:
                equal(error.response["Error"]["Code"], "PreconditionFailed", "why it was refused")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    holds(s3, bucket, "counter", b"200")


def check_retry_of_a_success(s3, bucket):
    """The same call again, with the same signed id, gets its first answer and not a refusal."""
    if not IS_ENTANGLE:
        return
    sender = client()
    sender.meta.events.register(
        "before-sign.s3.PutObject",
        lambda request, **_: request.headers.__setitem__("x-entangle-request-id", "one-call"),
    )
    first = sender.put_object(Bucket=bucket, Key="once", Body=b"x", IfNoneMatch="*")
    second = sender.put_object(Bucket=bucket, Key="once", Body=b"x", IfNoneMatch="*")
    equal(second["ETag"], first["ETag"], "the first answer again")
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="once", Body=b"x", IfNoneMatch="*")
    try:
        sender.put_object(Bucket=bucket, Key="once", Body=b"another", IfNoneMatch="*")
    except ClientError as error:
        equal(error.response["ResponseMetadata"]["HTTPStatusCode"], 400, "an id used again for something else")
    else:
        raise AssertionError("an id used again for something else was accepted")
    holds(s3, bucket, "once", b"x")
