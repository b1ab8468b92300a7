"""The client of Redis that a URL means: one server, by TCP, TLS or a socket, or the one that Sentinel names.

    redis://[USER:PASSWORD@]HOST:PORT/DB        rediss://… the same with TLS        unix:///PATH
    redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/SERVICE[/DB]            rediss+sentinel://… all of it with TLS

User and password are those of Redis; `?sentinel_password=…` (and `sentinel_username`) those of the Sentinels, where
they ask for one. A connection asks them anew who the master is; one that was made a replica is left. That it is another
server than before `scheduler.ready` sees by itself: it is then rebuilt, as after any loss.

Raises InvalidInput for a URL or a CA file that can't be; nobody is called here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis.asyncio

from penstock.runtime.errors import InvalidInput

__all__ = ["connect"]

CALL_SECONDS = 3.0
SENTINEL_PORT = 26_379


def connect(url: str, ca_file: Path | None, *, connected: Callable[[Any], Awaitable[None]]) -> redis.asyncio.Redis:
    """connected: called with each new connection, which it begins."""
    options: dict[str, Any] = {
        "socket_timeout": CALL_SECONDS,
        "socket_connect_timeout": CALL_SECONDS,
        "retry_on_timeout": False,
        "redis_connect_func": connected,
    }
    scheme = url.partition("://")[0]
    trust = _trust(ca_file) if scheme.startswith("rediss") else {}
    if scheme.endswith("+sentinel"):
        return _by_sentinel(url, options, trust)
    client: redis.asyncio.Redis = redis.asyncio.from_url(url, **options, **trust)
    return client


def _trust(ca_file: Path | None) -> dict[str, Any]:
    trust: dict[str, Any] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    if ca_file is not None:
        try:
            ca_file.read_bytes()
        except OSError as error:
            raise InvalidInput(f"redis_ca_file {ca_file}: {error.strerror}", code="settings") from error
        trust["ssl_ca_certs"] = str(ca_file)
    return trust


def _by_sentinel(url: str, options: dict[str, Any], trust: dict[str, Any]) -> redis.asyncio.Redis:
    parts = urlsplit(url)
    user, _, hosts = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    service, _, number = parts.path.strip("/").partition("/")
    asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
    tls: dict[str, Any] = {"ssl": True, **trust} if trust else {}
    sentinel = redis.asyncio.Sentinel(  # type: ignore[no-untyped-call]
        [_place(host) for host in hosts.split(",")],
        sentinel_kwargs={
            "socket_timeout": CALL_SECONDS,
            "socket_connect_timeout": CALL_SECONDS,
            "username": asked.get("sentinel_username"),
            "password": asked.get("sentinel_password"),
            **tls,
        },
        db=int(number or 0),
        username=unquote(name) or None,
        password=unquote(password) or None,
        **options,
        **tls,
    )
    client: redis.asyncio.Redis = sentinel.master_for(service)
    return client


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if ":" in text else (text, "", "")
    return host, int(port or SENTINEL_PORT)
