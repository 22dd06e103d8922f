"""Runs every `check_*` of the modules beside this file, each in a bucket of its own, and says what failed.

Names given as arguments run only the checks whose name contains one of them.
"""

import sys
import time
import traceback

import conditions
import listings
import multipart
import objects
from world import client

MODULES = [objects, listings, multipart, conditions]


def empty(s3, bucket):
    """Removes a bucket with all that a check may have left in it."""
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for upload in page.get("Uploads", []):
            s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        named = [
            {"Key": entry["Key"], "VersionId": entry["VersionId"]}
            for entry in page.get("Versions", []) + page.get("DeleteMarkers", [])
        ]
        if named:
            answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": named, "Quiet": True})
            assert not answer.get("Errors"), answer["Errors"]
    s3.delete_bucket(Bucket=bucket)


def main():
    checks = [
        (f"{module.__name__}.{name}", check)
        for module in MODULES
        for name, check in vars(module).items()
        if name.startswith("check_") and check.__module__ == module.__name__
    ]
    wanted = sys.argv[1:]
    checks = [(name, check) for name, check in checks if not wanted or any(part in name for part in wanted)]
    s3 = client()
    failed = []
    for number, (name, check) in enumerate(checks):
        bucket = f"boto3-{number:02}"
        started = time.monotonic()
        try:
            s3.create_bucket(Bucket=bucket)
            check(s3, bucket)
            empty(s3, bucket)
            print(f"  ok      {name} ({time.monotonic() - started:.1f} s)", flush=True)
        except Exception:
            failed.append(name)
            print(f"  FAILED  {name}\n{traceback.format_exc()}", flush=True)
    print(f"  boto3: {len(checks) - len(failed)} of {len(checks)} checks passed", flush=True)
    sys.exit(1 if failed or not checks else 0)


if __name__ == "__main__":
    main()
