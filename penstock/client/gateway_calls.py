"""Calls of the gateway over HTTP: for what the gateway itself knows (where the services are, tokens).

Each carries the API token where there is one. A redirect is not followed: the token would go wherever it points. TLS is
checked against the machine's authorities, or those of SSL_CERT_FILE. What was sent is not sent again.
"""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from penstock.runtime.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotFound,
    Overloaded,
    PenstockError,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from penstock.runtime.loopback import is_loopback

__all__ = ["GatewayCalls"]

HTTP_SECONDS = 5.0
REFUSED_SECONDS = 10.0
AGAIN_SECONDS = 0.25
MOST_BYTES = 4 << 20

_CLASSES: dict[int, type[PenstockError]] = {
    400: InvalidInput,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    429: Overloaded,
    503: Unavailable,
}


class _Straight(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        return None


class GatewayCalls:
    def __init__(self, url: str, api_token: str | None = None) -> None:
        """Raises InvalidInput for what is no URL of a gateway, and for a token that no header may hold."""
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(f"PENSTOCK_URL {url!r} is no URL: http://127.0.0.1:8420 is one", code="bad_url")
        if api_token and not (api_token.isascii() and api_token.isprintable() and " " not in api_token):
            raise InvalidInput(
                "the API token is none: it has spaces or other signs that no token has", code="bad_token"
            )
        self._token = api_token
        self._here = is_loopback(parts.hostname)
        self._opener = urllib.request.build_opener(_Straight(), urllib.request.ProxyHandler({}))

    def no_penstock(self) -> Unavailable:
        return Unavailable(
            f"what answers at {self.url} is no Penstock: give the URL that `penstock up` printed", code="not_running"
        )

    def ask(self, method: str, path: str, body: object = None, *, seconds: float = HTTP_SECONDS) -> dict[str, Any]:
        """The answer's object. Raises what the gateway says, or Unavailable (code `not_running`)."""
        request = urllib.request.Request(f"{self.url}{path}", method=method, headers={"Accept": "application/json"})
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with self._opened(request, seconds) as answer:
                told = json.loads(answer.read(MOST_BYTES) or b"{}")
        except urllib.error.HTTPError as error:
            raise self._refused(error) from None
        except ValueError:
            raise self.no_penstock() from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLError):
                raise Unavailable(
                    f"{self.url} can't be trusted ({reason.reason or reason}): name the authority of its certificate "
                    "with SSL_CERT_FILE",
                    code="not_running",
                ) from None
            raise Unavailable(
                f"no Penstock answers at {self.url} ({reason}): start one with `penstock up`", code="not_running"
            ) from None
        if not isinstance(told, dict):
            raise self.no_penstock()
        return told

    def _opened(self, request: urllib.request.Request, seconds: float) -> Any:
        """A service of a cluster refuses while its only gateway is replaced, or has missed its probes; nothing was
        sent then, so it is tried again. On this machine a refusal is an answer."""
        deadline = time.monotonic() + (0 if self._here else REFUSED_SECONDS)
        while True:
            try:
                return self._opener.open(request, timeout=seconds)
            except urllib.error.URLError as error:
                if not isinstance(error.reason, ConnectionRefusedError) or time.monotonic() > deadline:
                    raise
                time.sleep(AGAIN_SECONDS)

    def _refused(self, answer: urllib.error.HTTPError) -> PenstockError:
        """A problem of ours as the class that was raised there."""
        try:
            told = json.loads(answer.read(1 << 16))
            code, detail = str(told["code"]), str(told["detail"])
            about = {str(name): str(value) for name, value in (told.get("about") or {}).items()}
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            return self.no_penstock()
        kind = _CLASSES.get(answer.code, Unavailable)
        if code == "token_exists":
            kind = AlreadyExists
        if code == "token_missing":
            detail = f"{self.url} asks who you are: set PENSTOCK_TOKEN, or name a file with --token-file"
        return kind(detail, code=code, **about)
