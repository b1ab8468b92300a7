"""URLs in settings: what each may look like. A wrong one is refused with what is right, and never shown: it may have a
password."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

__all__ = ["BlobsUrl", "DatabaseUrl", "HttpUrl", "RedisUrl"]


def _database_url(value: str) -> str:
    if value and not value.startswith(("sqlite:///", "postgresql://", "postgresql+psycopg://")):
        raise ValueError("begins with sqlite:/// or postgresql://")
    return value


def _blobs_url(value: str) -> str:
    if value and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()-]+)*/?", value):
        raise ValueError("is s3://BUCKET or s3://BUCKET/PREFIX")
    return value


def _http_url(value: str) -> str:
    try:
        url = urlsplit(value)
        right = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and not url.username
    except ValueError:  # the port is no port
        right = False
    if value and not right:
        raise ValueError("is http://host:port or https://host:port, without a user")
    return value


def _redis_url(value: str) -> str:
    url = urlsplit(value)
    try:
        right = bool(url.path) if url.scheme == "unix" else url.scheme in ("redis", "rediss") and url.port != 0
    except ValueError:  # the port is no port
        right = False
    if value and not right:
        raise ValueError("is redis://host:port/0 or unix:///path")
    return value


BlobsUrl = Annotated[str, AfterValidator(_blobs_url)]
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
