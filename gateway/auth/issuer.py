"""The keys of an OIDC issuer: found by its discovery document, kept for an hour, asked for again for an unknown key.

An unknown key id asks the issuer once a minute at most, whoever offers it: a made-up token is no way to make us ask.
While the issuer is away the keys that are known go on; without any, what needs them is refused as unavailable.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import jwt

from penstock.runtime.errors import Unauthenticated, Unavailable
from penstock.runtime.logs import get_logger

__all__ = ["ALGORITHMS", "Issuer"]

ALGORITHMS = {"RS256": "RSA", "ES256": "EC"}
"""What a token may be signed with, and the kind of key that belongs to it."""
LEAST_RSA_BITS = 2048
KEYS_SECONDS = 3_600.0
UNKNOWN_SECONDS = 60.0
AWAY_SECONDS = 5.0
ANSWER_SECONDS = 5.0
MOST_BYTES = 1 << 20

log = get_logger("auth")


class _Straight(urllib.request.HTTPRedirectHandler):
    """Keys come from where the issuer says, not from where that place points to."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def _fetched(url: str) -> dict[str, Any]:
    opener = urllib.request.build_opener(_Straight)
    with opener.open(urllib.request.Request(url, headers={"Accept": "application/json"}), timeout=ANSWER_SECONDS) as it:
        body = it.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        raise ValueError(f"{url} answers more than {MOST_BYTES >> 20} MiB")
    told = json.loads(body)
    if not isinstance(told, dict):
        raise ValueError(f"{url} answers no JSON object")
    return told


class Issuer:
    def __init__(self, url: str, monotonic: Callable[[], float]) -> None:
        """`url` is its name too, exactly as tokens have it in `iss`."""
        self.url = url
        self._monotonic = monotonic
        self._keys: Mapping[tuple[str, str], jwt.PyJWK] = {}  # (key id, algorithm) -> key
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._problem = ""
        self._asking = asyncio.Lock()

    async def key(self, key_id: str, algorithm: str) -> jwt.PyJWK:
        """The key that such a token must be signed with. Raises Unauthenticated where the issuer has none, Unavailable
        while it can't be asked."""
        if not self._keys or self._age() > KEYS_SECONDS:
            await self._ask(wait_seconds=AWAY_SECONDS)
        found = self._known(key_id, algorithm)
        if found is None and self._keys:
            await self._ask(wait_seconds=UNKNOWN_SECONDS)
            found = self._known(key_id, algorithm)
        if found is not None:
            return found
        if not self._keys:
            raise Unavailable(
                f"the issuer {self.url} can't be asked for its keys: {self._problem}", code="issuer_unavailable"
            )
        raise Unauthenticated(f"the token is signed with a key that {self.url} does not have", code="token_unknown")

    def _known(self, key_id: str, algorithm: str) -> jwt.PyJWK | None:
        """Of an issuer that has one key a token need not name it."""
        fitting = [key for (_, one), key in self._keys.items() if one == algorithm]
        return fitting[0] if not key_id and len(fitting) == 1 else self._keys.get((key_id, algorithm))

    def _age(self) -> float:
        return self._monotonic() - self._fetched_at

    async def _ask(self, *, wait_seconds: float) -> None:
        """Unless it was asked within `wait_seconds`. Many callers at once are one question."""
        async with self._asking:
            if self._monotonic() - self._tried_at < wait_seconds:
                return
            self._tried_at = self._monotonic()
            try:
                self._keys = await asyncio.to_thread(self._read)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._problem = str(getattr(error, "reason", error) or type(error).__name__)
                log.warning("the issuer's keys can't be read", issuer=self.url, error=self._problem)
            else:
                self._fetched_at = self._tried_at
                self._problem = ""

    def _read(self) -> dict[tuple[str, str], jwt.PyJWK]:
        about = _fetched(self.url.rstrip("/") + "/.well-known/openid-configuration")
        if about.get("issuer") != self.url:
            raise ValueError(
                f"it calls itself {str(about.get('issuer'))[:200]!r}: gateway.oidc.issuer must say the same"
            )
        place = str(about["jwks_uri"])
        if place.partition("://")[0] != self.url.partition("://")[0] and not place.startswith("https://"):
            raise ValueError("its keys would come without TLS")
        keys: dict[tuple[str, str], jwt.PyJWK] = {}
        for one in _fetched(place)["keys"]:
            keys.update(_usable(one))
        if not keys:
            raise ValueError(f"{place} has no key for {' or '.join(ALGORITHMS)}")
        return keys


def _usable(one: Mapping[str, Any]) -> dict[tuple[str, str], jwt.PyJWK]:
    """The key, where it is one that signs by a way that we take; others stand in a set too."""
    if not isinstance(one, Mapping) or one.get("use", "sig") != "sig":
        return {}
    for algorithm, kind in ALGORITHMS.items():
        if one.get("kty") == kind and one.get("alg", algorithm) == algorithm:
            try:
                key = jwt.PyJWK(dict(one), algorithm=algorithm)
                bits = getattr(key.key, "key_size", 0)
            except (jwt.PyJWTError, ValueError) as error:
                log.warning("a key of the issuer can't be read", key=str(one.get("kid"))[:80], error=str(error))
                return {}
            if (kind == "RSA" and bits < LEAST_RSA_BITS) or (kind == "EC" and one.get("crv") != "P-256"):
                return {}
            return {(str(one.get("kid", "")), algorithm): key}
    return {}
