"""Money as people write it: dollars in text, millionths of a dollar in whole numbers everywhere else. Never a float."""

from __future__ import annotations

import re

from penstock.runtime.errors import InvalidInput

__all__ = ["NO_CAP", "dollars", "micros"]

NO_CAP = -1
"""What takes a cap away, where a call changes one."""

MICROS = 1_000_000
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


def dollars(amount: int) -> str:
    """`$5.25`; at least two decimals, and as many more as there are."""
    sign = "-" if amount < 0 else ""
    whole, part = divmod(abs(amount), MICROS)
    decimals = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole:,}.{decimals}"
