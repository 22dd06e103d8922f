"""Listings: 1,500 keys, paging, prefixes, delimiters, both versions of the operation."""

from concurrent.futures import ThreadPoolExecutor

from world import equal, refused

KEYS = sorted(
    [f"a/{number:04}" for number in range(700)]
    + [f"b/{number // 100}/{number:04}" for number in range(600)]
    + [f"c{number:04}" for number in range(200)]
)


def check_listings(s3, bucket):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=key.encode()), KEYS))
    first_page(s3, bucket)
    paging(s3, bucket)
    prefixes_and_delimiters(s3, bucket)
    older_version(s3, bucket)
    odd_requests(s3, bucket)


def first_page(s3, bucket):
    page = s3.list_objects_v2(Bucket=bucket)
    equal([entry["Key"] for entry in page["Contents"]], KEYS[:1000], "the first page")
    equal((page["IsTruncated"], page["KeyCount"], page["MaxKeys"]), (True, 1000, 1000), "the first page says")
    entry = page["Contents"][0]
    equal(entry["Size"], len(entry["Key"]), "a listed size")
    equal(entry["ETag"], s3.head_object(Bucket=bucket, Key=entry["Key"])["ETag"], "a listed ETag")


def walk(s3, bucket, operation="list_objects_v2", **options):
    """All keys and all common prefixes over all pages, and how many pages there were."""
    keys, prefixes, pages = [], [], 0
    for page in s3.get_paginator(operation).paginate(Bucket=bucket, **options):
        keys += [entry["Key"] for entry in page.get("Contents", [])]
        prefixes += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        pages += 1
    return keys, prefixes, pages


def paging(s3, bucket):
    for size, pages in [(1000, 2), (500, 3), (99, 16)]:
        equal(walk(s3, bucket, PaginationConfig={"PageSize": size}), (KEYS, [], pages), f"pages of {size}")
    equal(walk(s3, bucket, StartAfter="b/3/0350")[0], [key for key in KEYS if key > "b/3/0350"], "start after")


def prefixes_and_delimiters(s3, bucket):
    equal(walk(s3, bucket, Prefix="b/")[0], [key for key in KEYS if key.startswith("b/")], "a prefix")
    equal(walk(s3, bucket, Prefix="nothing"), ([], [], 1), "a prefix of nothing")
    top = ([key for key in KEYS if key.startswith("c")], ["a/", "b/"])
    equal(walk(s3, bucket, Delimiter="/")[:2], top, "a delimiter")
    equal(walk(s3, bucket, Delimiter="/", PaginationConfig={"PageSize": 1})[:2], top, "a delimiter, one entry a page")
    equal(walk(s3, bucket, Prefix="b/", Delimiter="/")[:2], ([], [f"b/{number}/" for number in range(6)]), "both")
    page = s3.list_objects_v2(Bucket=bucket, Delimiter="/", MaxKeys=2)
    equal((page["KeyCount"], page["IsTruncated"]), (2, True), "common prefixes count")
    equal(walk(s3, bucket, Delimiter="00")[:2], split_by("00"), "a delimiter of two characters")


def split_by(delimiter):
    """What a listing with this delimiter gives, worked out from the keys."""
    keys = [key for key in KEYS if delimiter not in key]
    return keys, sorted({key.split(delimiter)[0] + delimiter for key in KEYS if delimiter in key})


def older_version(s3, bucket):
    equal(walk(s3, bucket, "list_objects", PaginationConfig={"PageSize": 400}), (KEYS, [], 4), "V1")
    top = ([key for key in KEYS if key.startswith("c")], ["a/", "b/"])
    equal(walk(s3, bucket, "list_objects", Delimiter="/", PaginationConfig={"PageSize": 3})[:2], top, "V1, a delimiter")
    marked = s3.list_objects(Bucket=bucket, Marker="c0197")
    equal([entry["Key"] for entry in marked["Contents"]], ["c0198", "c0199"], "V1, a marker")


def odd_requests(s3, bucket):
    page = s3.list_objects_v2(Bucket=bucket, MaxKeys=0)
    equal((page["KeyCount"], page["IsTruncated"]), (0, False), "no keys asked for")
    with refused("InvalidArgument", 400):
        s3.list_objects_v2(Bucket=bucket, ContinuationToken="nonsense")
    with refused("NoSuchBucket", 404):
        s3.list_objects_v2(Bucket=bucket + "-missing")
