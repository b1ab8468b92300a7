"""Where a filter is wrong, and what may have been meant: for the errors of the parser. Pure."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

__all__ = ["caret", "nearest"]

_FEW = 12
"""So many names are told as they are."""
_TOLD = 10
_NEAREST = 3
_COMPARED_NAMES, _COMPARED_CHARACTERS = 5_000, 100
_BEFORE, _AFTER = 50, 30
_LONGEST_NAME = 60


def nearest(name: str, names: Iterable[str]) -> str:
    """What there is instead of a name that there is not; of many names those that are most like it come first."""
    every = list(names)
    if len(every) <= _FEW:
        return f"there are: {', '.join(map(_short, every)) or 'none'}"
    folded: dict[str, str] = {}
    for one in every[:_COMPARED_NAMES]:
        folded.setdefault(one.casefold()[:_COMPARED_CHARACTERS], one)
    wanted = name.casefold()[:_COMPARED_CHARACTERS]
    like = [folded[one] for one in difflib.get_close_matches(wanted, list(folded), n=_NEAREST, cutoff=0.6)]
    told = [*like, *(one for one in every[:_TOLD] if one not in like)][:_TOLD]
    return f"there are: {', '.join(map(_short, told))} and {len(every) - len(told):,} more"


def caret(text: str, at: int) -> tuple[str, str]:
    """The part of a text around a character (from 1), as one line, and a line with a caret under that character."""
    first = max(0, at - 1 - _BEFORE)
    last = at - 1 + _AFTER
    before = "".join(map(_printed, text[first : at - 1]))
    after = "".join(map(_printed, text[at - 1 : last]))
    start, end = "…" if first else "", "…" if last < len(text) else ""
    return f"{start}{before}{after}{end}", " " * (len(start) + sum(map(_width, before))) + "^"


def _short(name: str) -> str:
    plain = "".join(map(_printed, name))
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 1]}…"


def _printed(sign: str) -> str:
    """What stands for it in a line of a terminal."""
    return sign if sign.isprintable() else " "


def _width(sign: str) -> int:
    """Columns that a terminal gives it."""
    if unicodedata.combining(sign):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1
