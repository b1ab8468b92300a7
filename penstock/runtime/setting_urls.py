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


_SENTINEL = re.compile(
    r"rediss?[+]sentinel://([^@/?#]*@)?[A-Za-z0-9.-]+(:[1-9]\d{0,4})?(,[A-Za-z0-9.-]+(:[1-9]\d{0,4})?)*"
    r"/[A-Za-z0-9._-]+(/\d{1,4})?([?]sentinel_(username|password)=[^&]+(&sentinel_(username|password)=[^&]+)?)?"
)


def _redis_url(value: str) -> str:
    try:
        url = urlsplit(value)
        if url.scheme == "unix":
            right = bool(url.path)
        elif url.scheme.endswith("+sentinel"):
            right = _SENTINEL.fullmatch(value) is not None
        else:
            right = url.scheme in ("redis", "rediss") and url.port != 0
    except ValueError:  # the port is no port
        right = False
    if value and not right:
        raise ValueError(
            "is redis://host:port/0, rediss://host:port/0, unix:///path or redis+sentinel://host:port,host:port/service/0;"
            " in a password @ is written %40, / %2F, : %3A, # %23, % %25"
        )
    return value


BlobsUrl = Annotated[str, AfterValidator(_blobs_url)]
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
