"""What makes failures equal: their kind, and their error without what differs from item to item."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

__all__ = ["LENGTH", "fingerprint"]

LENGTH = 12
"""Hex digits."""

READ_CHARACTERS = 1_000

_VARIES = re.compile(
    r"""
      "[^"\n]*" | '[^'\n]*' | `[^`\n]*`        # quoted
    | [a-zA-Z][a-zA-Z0-9+.-]*://[^\s,;)\]}]+   # addresses
    | (?:[A-Za-z]:)?(?:[\w.~-]*[/\\])+[\w.~-]* # paths
    | 0[xX][0-9a-fA-F]+
    | \b(?=[0-9a-fA-F-]*\d)[0-9a-fA-F]{6,}(?:-[0-9a-fA-F]+)*\b
    | \d+(?:[.,:]\d+)*
    """,
    re.VERBOSE,
)
_SPACE = re.compile(r"\s+")


@lru_cache(maxsize=4_096)
def fingerprint(kind: str, error: str) -> str:
    """Twelve hex digits, the same for failures of one kind whose errors differ in numbers, names and paths only."""
    plain = _SPACE.sub(" ", _VARIES.sub("_", error[:READ_CHARACTERS])).strip().lower()
    return hashlib.blake2b(f"{kind}\0{plain}".encode(errors="replace"), digest_size=LENGTH // 2).hexdigest()
