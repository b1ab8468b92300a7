"""Money as people write it: dollars in text, millionths of a dollar in whole numbers everywhere else. Never a float."""

from __future__ import annotations

import re

from penstock.runtime.errors import InvalidInput
from penstock.words import MICROS

__all__ = ["NO_CAP", "micros"]

NO_CAP = -1
"""What takes a cap away, where a call changes one."""

_DOLLARS = re.compile(r"\$?(\d{1,12})(?:\.(\d{1,6}))?", re.ASCII)


def micros(text: str) -> int:
    """`5`, `$5.25` or `0.000001` in micro-dollars. Raises InvalidInput (code `bad_money`)."""
    found = _DOLLARS.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(
            f"{text[:80]!r} is no amount: dollars are needed, with at most six decimals, as 5 or 0.25", code="bad_money"
        )
    whole, part = found.groups()
    return int(whole) * MICROS + int((part or "").ljust(6, "0"))
