"""Where in a TOML file a name stands: for problems that are found after it was read.

Follows headers (`[payload.properties]`) and assignments at the start of a line. What stands inside an inline table or a
list is told by the line on which that begins. Reads only; what it does not find is line 0: the file as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["Places"]

_PART = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_DOTTED})\s*\]\]?")
_ASSIGNED = re.compile(rf"\s*({_DOTTED})\s*=")
_EACH = re.compile(_PART)
_LONG = re.compile("\"\"\"|'''")


class Places:
    """The lines of one file's names."""

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        ends_with = ""
        for number, line in enumerate(text.splitlines(), 1):
            inside, ends_with = bool(ends_with), _still_open(line, ends_with)
            if inside:
                continue
            if header := _HEADER.match(line):
                table = _names(header[1])
                self._lines.setdefault(table, number)
            elif assigned := _ASSIGNED.match(line):
                names = (*table, *_names(assigned[1]))
                for length in range(len(table) + 1, len(names) + 1):
                    self._lines.setdefault(names[:length], number)

    def line(self, path: Sequence[str | int]) -> int:
        """Of what stands at this path, or of the nearest that holds it; 0 when nothing does."""
        names = tuple(map(str, path))
        return next((self._lines[names[:n]] for n in range(len(names), 0, -1) if names[:n] in self._lines), 0)


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in _EACH.findall(dotted))


def _still_open(line: str, ends_with: str) -> str:
    """The marks that end the text of several lines in which this line ends; empty when it ends in none."""
    for mark in _LONG.findall(line):
        ends_with = "" if ends_with == mark else ends_with or mark
    return ends_with
