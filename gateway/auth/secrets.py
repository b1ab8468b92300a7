"""Secrets of ours: made of 32 random bytes, kept as their SHA-256 alone, compared in constant time.

A secret of 256 random bits needs no slow hash: nobody gets through all of them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

__all__ = ["SESSION", "TOKEN", "digest", "looks_like", "new_secret", "same"]

TOKEN = "pst_"
SESSION = "pss_"
RANDOM_BYTES = 32

_SHAPE = re.compile(r"ps[ts]_[A-Za-z0-9_-]{43}", re.ASCII)


def new_secret(prefix: str) -> str:
    return prefix + secrets.token_urlsafe(RANDOM_BYTES)


def looks_like(secret: str, prefix: str) -> bool:
    """Whether it could be one of ours: anything else is not looked up."""
    return secret.startswith(prefix) and _SHAPE.fullmatch(secret) is not None


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def same(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(one, other)
