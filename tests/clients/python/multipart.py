"""Multipart uploads: 100 MiB in parts, what must be refused, copies of parts, transfers as the SDK makes them."""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor

from boto3.s3.transfer import TransferConfig

from world import MIB, body, equal, holds, md5, read, refused

SIZE = 100 * MIB
PART = 8 * MIB


def etag_of(parts):
    """The ETag of a multipart object: MD5 of the parts' MD5s, and how many there are."""
    joined = b"".join(hashlib.md5(part).digest() for part in parts)
    return f'"{md5(joined)}-{len(parts)}"'


def check_hundred_mebibytes(s3, bucket):
    data = body(SIZE)
    parts = [data[at : at + PART] for at in range(0, SIZE, PART)]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="large", ContentType="video/x-test", Metadata={"m": "1"})["UploadId"]

    def send(number):
        answer = s3.upload_part(Bucket=bucket, Key="large", UploadId=upload, PartNumber=number, Body=parts[number - 1])
        equal(answer["ETag"], f'"{md5(parts[number - 1])}"', f"ETag of part {number}")
        return {"PartNumber": number, "ETag": answer["ETag"]}

    numbers = list(range(len(parts), 0, -1))
    with ThreadPoolExecutor(4) as pool:
        sent = sorted(pool.map(send, numbers), key=lambda part: part["PartNumber"])

    listed = s3.list_parts(Bucket=bucket, Key="large", UploadId=upload, MaxParts=5)
    equal([part["Size"] for part in listed["Parts"]], [PART] * 5, "listed parts")
    equal(listed["IsTruncated"], True, "more parts")
    rest = s3.list_parts(Bucket=bucket, Key="large", UploadId=upload, PartNumberMarker=listed["NextPartNumberMarker"])
    equal([part["PartNumber"] for part in rest["Parts"]], list(range(6, len(parts) + 1)), "the other parts")
    uploads = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    equal([(entry["Key"], entry["UploadId"]) for entry in uploads], [("large", upload)], "uploads under way")
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="large")

    complete = {"Bucket": bucket, "Key": "large", "UploadId": upload, "MultipartUpload": {"Parts": sent}}
    equal(s3.complete_multipart_upload(**complete)["ETag"], etag_of(parts), "ETag of the whole")
    head = s3.head_object(Bucket=bucket, Key="large")
    equal((head["ContentLength"], head["ContentType"], head["Metadata"]), (SIZE, "video/x-test", {"m": "1"}), "HEAD")
    equal(hashlib.sha256(read(s3, bucket, "large")).hexdigest(), hashlib.sha256(data).hexdigest(), "SHA-256 of the whole")
    for first, last in [(0, 9), (PART - 5, PART + 5), (3 * PART - 1, 5 * PART), (SIZE - 7, SIZE - 1)]:
        holds(s3, bucket, "large", data[first : last + 1], Range=f"bytes={first}-{last}")
    second = s3.get_object(Bucket=bucket, Key="large", PartNumber=2)
    equal(second["PartsCount"], len(parts), "number of parts")
    equal(second["Body"].read(), parts[1], "the second part")
    equal(s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []), [], "uploads under way afterwards")
    # A client that lost the answer asks again.
    equal(s3.complete_multipart_upload(**complete)["ETag"], etag_of(parts), "a second completion")


def start(s3, bucket, key, parts, **options):
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key, **options)["UploadId"]
    sent = []
    for number, part in enumerate(parts, 1):
        answer = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=part)
        sent.append({"PartNumber": number, "ETag": answer["ETag"]})
    return upload, sent


def check_what_is_refused(s3, bucket):
    big, small = body(5 * MIB), body(1000)
    upload, sent = start(s3, bucket, "k", [big, small, small])
    request = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    with refused("EntityTooSmall", 400):
        s3.complete_multipart_upload(**request, MultipartUpload={"Parts": sent})
    with refused("InvalidPartOrder", 400):
        s3.complete_multipart_upload(**request, MultipartUpload={"Parts": [sent[1], sent[0]]})
    with refused("InvalidPart", 400):
        s3.complete_multipart_upload(**request, MultipartUpload={"Parts": [{**sent[0], "ETag": sent[1]["ETag"]}]})
    with refused("InvalidPart", 400):
        s3.complete_multipart_upload(**request, MultipartUpload={"Parts": [sent[0], {**sent[1], "PartNumber": 9}]})
    with refused("InvalidArgument", 400):
        s3.upload_part(**request, PartNumber=10_001, Body=b"x")
    # A part may be sent again, and a completion may leave parts out.
    again = s3.upload_part(**request, PartNumber=1, Body=body(6 * MIB))
    parts = [{"PartNumber": 1, "ETag": again["ETag"]}, sent[2]]
    s3.complete_multipart_upload(**request, MultipartUpload={"Parts": parts})
    holds(s3, bucket, "k", body(6 * MIB) + small)


def check_abort(s3, bucket):
    upload, sent = start(s3, bucket, "k", [body(5 * MIB)])
    request = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    s3.abort_multipart_upload(**request)
    with refused("NoSuchUpload", 404):
        s3.complete_multipart_upload(**request, MultipartUpload={"Parts": sent})
    with refused("NoSuchUpload", 404):
        s3.upload_part(**request, PartNumber=2, Body=b"x")
    with refused("NoSuchUpload", 404):
        s3.list_parts(**request)
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")


def check_part_copy(s3, bucket):
    data = body(12 * MIB)
    s3.put_object(Bucket=bucket, Key="source", Body=data)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    request = {"Bucket": bucket, "Key": "k", "UploadId": upload, "CopySource": f"{bucket}/source"}
    parts = []
    for number, (first, last) in enumerate([(0, 6 * MIB - 1), (6 * MIB, 12 * MIB - 1)], 1):
        answer = s3.upload_part_copy(**request, PartNumber=number, CopySourceRange=f"bytes={first}-{last}")
        equal(answer["CopyPartResult"]["ETag"], f'"{md5(data[first : last + 1])}"', "ETag of a copied part")
        parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
    whole = s3.upload_part_copy(**request, PartNumber=3)
    parts.append({"PartNumber": 3, "ETag": whole["CopyPartResult"]["ETag"]})
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    holds(s3, bucket, "k", data + data)


def check_checksums_of_parts(s3, bucket):
    parts = [body(5 * MIB), body(77)]
    for algorithm, kind in [("CRC32", "COMPOSITE"), ("SHA256", "COMPOSITE"), ("CRC64NVME", "FULL_OBJECT")]:
        name = f"Checksum{algorithm}"
        upload = s3.create_multipart_upload(Bucket=bucket, Key=algorithm, ChecksumAlgorithm=algorithm, ChecksumType=kind)["UploadId"]
        sent = []
        for number, part in enumerate(parts, 1):
            answer = s3.upload_part(
                Bucket=bucket, Key=algorithm, UploadId=upload, PartNumber=number, Body=part, ChecksumAlgorithm=algorithm
            )
            sent.append({"PartNumber": number, "ETag": answer["ETag"], name: answer[name]})
        done = s3.complete_multipart_upload(Bucket=bucket, Key=algorithm, UploadId=upload, MultipartUpload={"Parts": sent})
        equal(done[name].endswith("-2"), kind == "COMPOSITE", f"{kind} {algorithm} is {done[name]}: the ending")
        head = s3.head_object(Bucket=bucket, Key=algorithm, ChecksumMode="ENABLED")
        equal((head[name], head["ChecksumType"]), (done[name], kind), f"{algorithm} of HEAD")
        if kind == "FULL_OBJECT":
            put = s3.put_object(Bucket=bucket, Key="whole", Body=b"".join(parts), ChecksumAlgorithm=algorithm)
            equal(done[name], put[name], "a full-object checksum is that of the whole")


def check_transfers(s3, bucket):
    data = body(20 * MIB + 3)
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB, max_concurrency=4)
    s3.upload_fileobj(io.BytesIO(data), bucket, "transfer", Config=config)
    assert s3.head_object(Bucket=bucket, Key="transfer")["ETag"].endswith('-3"'), "it was not sent in three parts"
    received = io.BytesIO()
    s3.download_fileobj(bucket, "transfer", received, Config=config)
    equal(received.getvalue(), data, "downloaded in ranges")
    s3.copy({"Bucket": bucket, "Key": "transfer"}, bucket, "copied", Config=config)
    holds(s3, bucket, "copied", data)
