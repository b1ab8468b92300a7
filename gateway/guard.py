"""Around every request: may this page or program ask at all, then trace, log, metric and the headers that every
answer carries.

Where no token is asked for, two things keep foreign web pages out: a Host that is not loopback is refused (a name
that was re-bound to 127.0.0.1), and so is a foreign Origin on anything but GET (a form or script elsewhere that
writes). Where a token is, the door of `gateway.auth` stands here, before the body is read; any Host will do, since a
name that was re-bound has nobody's session, and the Origin is compared as before. Settings may allow origins by name.
What escapes a route is a defect: logged with its trace, answered 500 without its text.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.problems import problem, told
from penstock.client.connection import ACTING
from penstock.runtime import metrics, tracing
from penstock.runtime.errors import PenstockError
from penstock.runtime.logs import get_logger
from penstock.runtime.loopback import is_loopback

if TYPE_CHECKING:
    from gateway.auth.door import Door, Visit

__all__ = ["PLANS", "UPLOADS", "Guard", "names_loopback"]

POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
MAX_BODY_BYTES = 4 << 20
MAX_PLAN_BYTES = 32 << 20
"""A plan may name a million ids."""
ACTOR = "penstock-actor"
"""The header that says for whom a call is made: with every change stands who asked for it."""
UPLOADS = frozenset({"/api/batch/upload", "/api/v1/sources"})  # these are read as streams
PLANS = frozenset({"/api/v1/plans", "/api/v1/indexlab/batch/plan"})
ALLOWED_METHODS = "GET, POST, PUT, PATCH, DELETE"
LOOK_SECONDS = 5.0
"""A stream that goes on is asked again so often whether whoever opened it may still look."""

_HOST = re.compile(r"(\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[^\[\]:]+))(:[0-9]{0,5})?", re.ASCII)

log = get_logger("http")


def names_loopback(host: str) -> bool:
    """Whether a Host header names this machine by loopback: localhost, 127.0.0.0/8 or [::1], with any port."""
    parts = _HOST.fullmatch(host)
    if parts is None:
        return False
    if parts["name"] is not None:
        return is_loopback(parts["name"])
    return ":" in parts["v6"] and is_loopback(parts["v6"])


class Guard:
    """ASGI middleware; plain, since streams of both directions pass through it."""

    def __init__(self, app: ASGIApp, origins: Collection[str], door: Door | None = None) -> None:
        """door: who may ask; None: whoever reaches us by loopback."""
        self._app = app
        self._origins = frozenset(origins)
        self._door = door

    def _refusal(self, method: str, headers: Headers) -> str:
        host = headers.get("host", "")
        if self._door is None and not names_loopback(host):
            return f"Host {host!r} is not this machine's loopback address: ask 127.0.0.1 or localhost"
        origin = headers.get("origin")
        # Where TLS ends at a proxy before us, the browser's scheme is not ours.
        own = (f"http://{host}", f"https://{host}")
        if origin is None or method == "GET" or origin in self._origins or origin in own:
            return ""
        return f"Origin {origin!r} may not call this server: add it to the setting gateway.cors_origins"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        method: str = scope["method"]
        allowed = headers.get("origin", "") in self._origins
        started = time.perf_counter()
        status = 0
        visit: Visit | None = None
        looked = time.monotonic()
        ended = False

        async def sending(message: Message) -> None:
            nonlocal status, looked, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                self._stamp(MutableHeaders(scope=message), headers.get("origin", "") if allowed else "")
            elif visit is not None and message.get("more_body") and time.monotonic() - looked >= LOOK_SECONDS:
                looked = time.monotonic()
                if not await self._may_still(visit):
                    # To whoever makes it, an answer at its end is a disconnect: it is cancelled where it waits.
                    ended = True
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    return
            if ended:
                raise OSError("its credential has ended")
            await send(message)

        ACTING.set(headers.get(ACTOR, ""))
        bounded = scope["path"] not in UPLOADS
        most = MAX_PLAN_BYTES if scope["path"] in PLANS else MAX_BODY_BYTES
        too_large = f"the body is larger than {most >> 20} MiB; only uploads may be"
        taken = 0

        async def receiving() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                if status:
                    return {"type": "http.disconnect"}
                # This class alone passes through the framework's reading of a body as it is.
                raise HTTPException(413, too_large)
            return message

        with tracing.span(f"{method} {scope['path']}", headers):
            try:
                refusal = self._refusal(method, headers)
                if refusal:
                    await problem(headers, 403, refusal, "forbidden")(scope, receive, sending)
                elif bounded and int(headers.get("content-length", "0")) > most:
                    await problem(headers, 413, too_large, "too_large")(scope, receive, sending)
                elif method == "OPTIONS" and allowed and "access-control-request-method" in headers:
                    await self._preflight(sending)
                else:
                    if self._door is not None:
                        visit = await self._door.let_in(scope, headers, actor=headers.get(ACTOR, ""))
                        scope["principal"] = visit.principal if visit else None
                        ACTING.set(visit.principal.actor if visit else "")
                    await self._app(scope, receiving if bounded else receive, sending)
            except PenstockError as error:  # of the door; what a route raises is answered within the application
                await told(error, headers)(scope, receive, sending)
            except ClientDisconnect:
                status = status or 499
            except Exception as error:
                log.error("a request failed", method=method, path=scope["path"], error=str(error), exc_info=error)
                if not status:
                    detail = "an error of Penstock's own; the gateway's log has it"
                    await problem(headers, 500, detail, "internal")(scope, receive, sending)
            finally:
                seconds = time.perf_counter() - started
                route = getattr(scope.get("route"), "path", "other")
                metrics.HTTP_SECONDS.labels(method, route, str(status)).observe(seconds)
                log.debug("a request was answered", method=method, path=scope["path"], status=status, seconds=seconds)

    async def _may_still(self, visit: Visit) -> bool:
        assert self._door is not None
        return await self._door.still_good(visit)

    @staticmethod
    def _stamp(answer: MutableHeaders, origin: str) -> None:
        answer.setdefault("Content-Security-Policy", POLICY)
        answer["X-Content-Type-Options"] = "nosniff"
        answer["Referrer-Policy"] = "no-referrer"
        answer[tracing.HEADER] = tracing.traceparent()
        answer.setdefault("Cache-Control", "no-store")
        answer.add_vary_header("Origin")
        if origin:
            answer["Access-Control-Allow-Origin"] = origin
            answer["Access-Control-Expose-Headers"] = "Content-Disposition, ETag"

    @staticmethod
    async def _preflight(send: Send) -> None:
        headers = [
            (b"access-control-allow-methods", ALLOWED_METHODS.encode()),
            (b"access-control-allow-headers", b"authorization, content-type, if-match, last-event-id, traceparent"),
            (b"access-control-max-age", b"600"),
        ]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
