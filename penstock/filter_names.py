"""Names of fields and columns as people write them, in filters and in lists of columns to sort by. Pure.

A plain name stands as it is. Any other stands in backticks, where a backtick is written twice, and a backslash keeps
what follows it: the column ``a`b`` is `` `a``b` ``. Nothing is refused here: a name that is none finds no column.
"""

from __future__ import annotations

import re

__all__ = ["PLAIN_NAME", "listed", "name_read", "name_written"]

PLAIN_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_QUOTED = re.compile(r"`((?:``|\\.|[^`\\])*)`", re.DOTALL)
_ESCAPED = re.compile(r"``|\\(.)", re.DOTALL)


def name_written(name: str) -> str:
    """A name of anything, so that it is read again as that."""
    if PLAIN_NAME.fullmatch(name):
        return name
    return "`" + name.replace("\\", "\\\\").replace("`", "``") + "`"


def name_read(text: str) -> str:
    """A name that stands alone: what is in the backticks, else the text itself."""
    found = _QUOTED.fullmatch(text)
    return _ESCAPED.sub(lambda escaped: escaped[1] or "`", found[1]) if found else text


def listed(text: str) -> list[str]:
    """The parts between commas; a comma in backticks parts nothing."""
    parts, start, place = [], 0, 0
    while place < len(text):
        if text[place] == "`" and (quoted := _QUOTED.match(text, place)):
            place = quoted.end()
            continue
        if text[place] == ",":
            parts.append(text[start:place])
            start = place + 1
        place += 1
    return [*parts, text[start:]]
