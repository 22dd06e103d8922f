"""What every check needs: a client, a bucket of its own, bodies that are the same in every run, and assertions that explain."""

import contextlib
import hashlib
import os
import random
import ssl
import urllib.error
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT = os.environ["S3_ENDPOINT"]
CA = os.environ.get("S3_CA") or None
# Checks of what only Entangle does are left out where another server is behind the endpoint.
IS_ENTANGLE = os.environ.get("OTHER_SERVER") is None
MIB = 1024 * 1024


def client(access_key=None, secret_key=None, retries=2, **config):
    """An S3 client as a user would make it; keyword arguments go into its Config."""
    return boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        region_name="us-east-1",
        aws_access_key_id=access_key or os.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=secret_key or os.environ["AWS_SECRET_ACCESS_KEY"],
        verify=CA if CA else None,
        config=Config(
            # Without this, botocore signs URLs with SigV2 in us-east-1.
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"max_attempts": retries, "mode": "standard"},
            max_pool_connections=32,
            **config,
        ),
    )


def body(length, seed=0):
    """`length` bytes that look random and are the same in every run."""
    return random.Random(f"{seed}/{length}").randbytes(length)


def md5(data):
    return hashlib.md5(data).hexdigest()


def equal(got, wanted, what):
    if got == wanted:
        return
    if isinstance(got, bytes) and isinstance(wanted, bytes):
        first = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
        raise AssertionError(f"{what}: {len(got)} bytes, wanted {len(wanted)}; they differ from byte {first}")
    raise AssertionError(f"{what}: got {got!r}, wanted {wanted!r}")


@contextlib.contextmanager
def refused(code, status=None):
    """The call inside must fail with this S3 code (one of these, if several are given)."""
    codes = (code,) if isinstance(code, str) else code
    try:
        yield
    except ClientError as error:
        equal_one = error.response["Error"]["Code"]
        assert equal_one in codes, f"refused with {equal_one}, wanted {codes}: {error}"
        got = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status is not None:
            equal(got, status, f"status of {equal_one}")
    else:
        raise AssertionError(f"was accepted, wanted {codes}")


def read(s3, bucket, key, **options):
    return s3.get_object(Bucket=bucket, Key=key, **options)["Body"].read()


def holds(s3, bucket, key, wanted, **options):
    equal(read(s3, bucket, key, **options), wanted, f"the body of {key}")


def fetch(url, method="GET", data=None, headers=None):
    """A plain HTTP request, without any SDK: status, headers, body."""
    context = ssl.create_default_context(cafile=CA) if url.startswith("https") else None
    request = urllib.request.Request(url, method=method, data=data, headers={"Content-Type": "application/octet-stream", **(headers or {})})
    try:
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()
