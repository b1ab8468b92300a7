"""Natural order: texts compare as people read them, numbers within them by their size.

`natural_key` makes a text whose order by code point is that order, so that it can be stored and sorted anywhere. Runs
of ASCII digits compare as numbers, leading zeros left out; ASCII letters have no case; all else compares by code point,
whatever the machine's language is. Texts that are equal so are put in order by something else. Past its first
MOST_CHARACTERS a text is prose: its numbers have no size there, and thousands of them cost nothing.

`planner.natural_sql` says the same to DuckDB; a property test holds both together.
"""

from __future__ import annotations

import re

__all__ = ["MOST_CHARACTERS", "natural_key"]

MOST_CHARACTERS = 256

_RUN = re.compile("[0-9]+")
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def natural_key(text: str) -> str:
    """`mouse 9` before `mouse 10`, as texts.

    A number becomes the length of its length, its length and its digits: of two numbers the longer one is larger.
    """
    lower = text.translate(_LOWER)
    return _RUN.sub(_number, lower[:MOST_CHARACTERS]) + lower[MOST_CHARACTERS:]


def _number(run: re.Match[str]) -> str:
    digits = run.group().lstrip("0") or "0"
    length = str(len(digits))
    return f"{len(length)}{length}{digits}"
