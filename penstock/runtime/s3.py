"""A bucket of an S3-compatible service, under one prefix: bytes and files in and out, many at a time.

s3fs does the talking and is loaded on first use (the extra `s3`). What it raises becomes one sentence and a cause in a
few words; keys are read where AWS's own programs read them, and are never shown. Calls are tried again by s3fs alone,
three times in all, and at most PARALLEL are under way at once. An object is visible when all of it is there: an upload
in parts that dies leaves parts that nobody sees, which `end_uploads` removes.

This module is synchronous, and safe to call from several threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from penstock.runtime.disk import disk_full
from penstock.runtime.errors import InvalidInput, NotFound, Unavailable

__all__ = ["Bucket", "S3Place"]

PARALLEL = 16
"""Calls under way at once, of one process."""
TRIES = 3
CONNECT_SECONDS, READ_SECONDS = 3.0, 20.0
PART_BYTES = 8 << 20
"""A file of twice as much goes in parts of so many bytes, PARTS of them at a time; a smaller one at once."""
PARTS = 4
_AT_ONCE = 1_000
CHECK = ".check"

T = TypeVar("T")

_NO_BUCKET = frozenset({"NoSuchBucket"})
_NO_OBJECT = frozenset({"NoSuchKey", "404", "NotFound"})
_REFUSED = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "XAdminUserNotFound"}
)
"""Of answers with any status; 401 and 403 say as much themselves. The last is what versitygw says of a foreign key."""
_SLOW = frozenset({"503", "SlowDown", "ServiceUnavailable", "RequestLimitExceeded"})
_FULL = frozenset({"507", "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "EntityTooLarge"})


@dataclass(frozen=True)
class S3Place:
    """prefix: without slashes at its ends; endpoint and region: "" for AWS's own."""

    bucket: str
    prefix: str
    endpoint: str
    region: str

    @classmethod
    def of(cls, url: str, *, endpoint: str = "", region: str = "") -> S3Place:
        """`url` is s3://BUCKET or s3://BUCKET/PREFIX, as the settings have checked."""
        parts = urlsplit(url)
        return cls(parts.netloc, parts.path.strip("/"), endpoint, region)

    def __str__(self) -> str:
        url = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        return f"{url} at {self.endpoint}" if self.endpoint else url


class Bucket:
    """Raises InvalidInput where s3fs is not installed, and else nothing: nobody is called before `check`."""

    def __init__(self, place: S3Place) -> None:
        try:
            import s3fs
            from fsspec.asyn import sync
        except ImportError as error:
            raise InvalidInput(
                f"blobs_url is {place}, and this installation has no s3fs: install penstock[s3]", code="settings"
            ) from error
        self.place = place
        self._sync: Callable[..., Any] = sync
        self._files: Any = s3fs.S3FileSystem(
            endpoint_url=place.endpoint or None,
            client_kwargs={"region_name": place.region} if place.region else {},
            config_kwargs={
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": READ_SECONDS,
                "max_pool_connections": PARALLEL * PARTS,
                "retries": {"total_max_attempts": 1},
                # What is read is compared with its name, a SHA-256; services that are not AWS often know no other.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
                **({"s3": {"addressing_style": "path"}} if place.endpoint else {}),
            },
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        self._files.retries = TRIES
        self._turns = asyncio.Semaphore(PARALLEL)

    def get(self, key: str) -> bytes:
        """Raises NotFound, Unavailable."""
        with self._said():
            found: bytes = self._run(self._files._cat_file, self._path(key))
            return found

    def get_each(self, keys: Sequence[str]) -> list[bytes | Exception]:
        """As many answers, NotFound or Unavailable in the place of what can't be had."""
        answers = self._each([self._call(self._files._cat_file, self._path(key)) for key in keys])
        return [one if isinstance(one, bytes) else self._error(one) for one in answers]

    def download(self, key: str, file: Path) -> None:
        """Raises NotFound, Unavailable; the file may then be half there."""
        with self._said():
            self._run(self._files._get_file, self._path(key), str(file), chunksize=PART_BYTES, max_concurrency=PARTS)

    def put(self, blobs: Mapping[str, bytes]) -> None:
        """Raises Unavailable; some of them may then be there, each whole."""
        self._all([self._call(self._files._pipe_file, self._path(key), data) for key, data in blobs.items()])

    def upload(self, files: Sequence[tuple[Path, str]]) -> None:
        """(file, key). Raises Unavailable; some of them may then be there, each whole."""
        for first in range(0, len(files), _AT_ONCE):
            self._all(
                [
                    self._call(
                        self._files._put_file,
                        str(file),
                        self._path(key),
                        chunksize=PART_BYTES,
                        max_concurrency=PARTS,
                        ContentType="application/octet-stream",
                    )
                    for file, key in files[first : first + _AT_ONCE]
                ]
            )

    def written(self, key: str) -> datetime | None:
        """When it was, to the service's own precision (AWS: a second); None: it is not there. Raises Unavailable."""
        try:
            with self._said():
                head = self._run(self._files._call_s3, "head_object", Bucket=self.place.bucket, Key=self._key(key))
        except NotFound:
            self.check()  # the answer to HEAD is the same where there is no bucket
            return None
        at: datetime = head["LastModified"]
        return at

    def remove(self, key: str) -> None:
        """Nothing where it is not there. Raises Unavailable."""
        with self._said():
            self._run(self._files._call_s3, "delete_object", Bucket=self.place.bucket, Key=self._key(key))

    def check(self) -> None:
        """Raises Unavailable when the bucket can't be reached with these keys. Not by HEAD, whose answer does not say
        why, and which needs the right to list."""
        with suppress(NotFound):
            self.get(CHECK)

    def check_writing(self) -> None:
        """Raises Unavailable when these keys may not write here; leaves a small object."""
        self.put({CHECK: b"penstock"})

    def end_uploads(self, before: datetime) -> int:
        """Ends uploads in parts that were begun before then; answers how many. Raises Unavailable."""
        count, marks = 0, dict[str, str]()
        prefix = f"{self.place.prefix}/" if self.place.prefix else ""
        with self._said():
            while True:
                page = self._run(
                    self._files._call_s3,
                    "list_multipart_uploads",
                    Bucket=self.place.bucket,
                    **({"Prefix": prefix} if prefix else {}),
                    **marks,
                )
                for one in page.get("Uploads", ()):
                    if one["Initiated"] < before:
                        names = {"Bucket": self.place.bucket, "Key": one["Key"], "UploadId": one["UploadId"]}
                        self._run(self._files._call_s3, "abort_multipart_upload", **names)
                        count += 1
                if not page.get("IsTruncated"):
                    return count
                marks = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def _key(self, key: str) -> str:
        return f"{self.place.prefix}/{key}" if self.place.prefix else key

    def _path(self, key: str) -> str:
        return f"{self.place.bucket}/{self._key(key)}"

    def _call(
        self, function: Callable[..., Awaitable[T]], *values: object, **named: object
    ) -> Callable[[], Awaitable[T]]:
        return lambda: function(*values, **named)

    def _run(self, function: Callable[..., Awaitable[Any]], *values: object, **named: object) -> Any:
        (answer,) = self._each([self._call(function, *values, **named)])
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _all(self, calls: Sequence[Callable[[], Awaitable[object]]]) -> None:
        with self._said():
            for answer in self._each(calls):
                if isinstance(answer, BaseException):
                    raise answer

    def _each(self, calls: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
        """Answers or errors, in order."""

        async def one(call: Callable[[], Awaitable[Any]]) -> Any:
            async with self._turns:
                return await call()

        async def every() -> list[Any]:
            return await asyncio.gather(*(one(call) for call in calls), return_exceptions=True)

        answers: list[Any] = self._sync(self._files.loop, every)
        return answers

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except (NotFound, Unavailable):
            raise
        except Exception as error:
            raise self._error(error) from error

    def _error(self, error: BaseException) -> Exception:
        """As our own, in one sentence."""
        from botocore import exceptions as boto

        if isinstance(error, NotFound | Unavailable):
            return error
        cause = error if isinstance(error, boto.ClientError | boto.BotoCoreError) else error.__cause__
        told = cause.response if isinstance(cause, boto.ClientError) else {}
        code = str(told.get("Error", {}).get("Code", ""))
        if code in _NO_BUCKET:
            return self._unavailable("there is no such bucket", "its bucket does not exist")
        if code in _NO_OBJECT or (isinstance(error, FileNotFoundError) and not code):
            return NotFound("no such object", code="blob_not_found")
        if code in _REFUSED or told.get("ResponseMetadata", {}).get("HTTPStatusCode") in (401, 403):
            return self._unavailable(f"its keys are refused ({code})", "its keys are refused")
        if code in _FULL:
            return disk_full(f"the blob store {self.place}")
        if code in _SLOW:
            return self._unavailable(f"it takes no more calls now ({code})", "it takes no more calls now")
        if code:
            return self._unavailable(f"it answers {code}", f"it answers {code}")
        both = (error, cause)
        if any(isinstance(one, boto.NoCredentialsError | boto.PartialCredentialsError) for one in both):
            why = "no keys are set (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
            return self._unavailable(why, "no keys are set")
        if any(isinstance(one, boto.SSLError) for one in both):
            return self._unavailable("its certificate is not trusted (AWS_CA_BUNDLE)", "its certificate is not trusted")
        if any(isinstance(one, boto.HTTPClientError | boto.ConnectionError | OSError) for one in both):
            return self._unavailable("it does not answer", "it does not answer")
        return self._unavailable(f"{type(cause or error).__name__}", "its log says why")

    def _unavailable(self, why: str, cause: str) -> Unavailable:
        return Unavailable(
            f"the blob store {self.place} can't be used: {why}", code="blob_store_unavailable", cause=cause
        )
