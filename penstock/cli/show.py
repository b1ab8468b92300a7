"""How things look on a terminal: aligned tables on standard output, progress on standard error.

Text that came from outside (file names, errors) loses its control characters first, so that no document moves the
cursor or paints the terminal.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import textwrap
import time
import unicodedata
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

__all__ = [
    "Progress",
    "number",
    "percent",
    "print_facts",
    "print_json",
    "print_table",
    "say",
    "shortened",
    "text",
]

WIDEST_CELL = 60
LONGEST_LAST_CELL = 600
NARROWEST_LAST_COLUMN = 30
_NUMBER = re.compile(r"—|-?\$?\d[\d,]*(\.\d+)?%?")
PLAIN_PAUSE_SECONDS = 5.0


def text(value: object) -> str:
    """The value as one line without control characters; an em dash for nothing."""
    if value is None or value == "":
        return "—"
    return "".join(" " if unicodedata.category(sign) in ("Cc", "Cf", "Zl", "Zp") else sign for sign in str(value))


def percent(share: float) -> int:
    """Whole percents, 100 only when all is done."""
    return math.floor(share * 100 + 1e-9)


def number(value: float | None) -> str:
    return "—" if value is None else f"{value:.3f}"


def shortened(value: object, width: int = WIDEST_CELL) -> str:
    """At most `width` signs; what is cut is cut from the middle, since names differ at both ends."""
    line = text(value)
    if len(line) <= width:
        return line
    half = (width - 1) // 2
    return f"{line[: width - 1 - half]}…{line[-half:]}"


def _width(line: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as what is in them; a column of numbers stands right. Written once all rows are known.

    The last column, where reasons stand, is wrapped to the terminal instead of cut.
    """
    last = len(columns) - 1
    cells = [
        [shortened(value, LONGEST_LAST_CELL if at == last else WIDEST_CELL) for at, value in enumerate(row)]
        for row in rows
    ]
    widths = [max([_width(name), *(_width(row[i]) for row in cells)]) for i, name in enumerate(columns)]
    right = [
        any(row[i] != "—" for row in cells) and all(_NUMBER.fullmatch(row[i]) is not None for row in cells)
        for i in range(len(columns))
    ]

    def line(values: Sequence[str]) -> str:
        padded = []
        for value, width, to_the_right in zip(values, widths, right, strict=True):
            space = " " * (width - _width(value))
            padded.append(space + value if to_the_right else value + space)
        return "  ".join(padded).rstrip()

    say(line([name.upper() for name in columns]))
    indent = sum(widths[:-1]) + 2 * last
    room = max(shutil.get_terminal_size().columns - indent, NARROWEST_LAST_COLUMN) if sys.stdout.isatty() else None
    for row in cells:
        whole = row[-1]
        parts = textwrap.wrap(whole, room) if room and _width(whole) > room else [whole]
        say(line([*row[:-1], parts[0]]))
        for part in parts[1:]:
            say(" " * indent + part)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Lines of a name and what it is, under one another; what is empty is left out."""
    told = [(name, value) for name, value in facts if value]
    width = max(8, *(len(name) for name, _ in told)) if told else 0
    for name, value in told:
        say(f"  {name:<{width}} {text(value)}")


def say(line: str = "") -> None:
    print(line)


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


class Progress:
    """One moving line on a terminal; elsewhere a plain line now and then. Silent when `quiet`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._told = 0.0
        self._last = ""

    def show(self, share: float, words: str) -> None:
        """`share` from 0 to 1."""
        if self._quiet:
            return
        if self._terminal:
            filled = round(min(max(share, 0.0), 1.0) * 30)
            line = f"{'━' * filled}{'╌' * (30 - filled)} {percent(share):3}%  {words}"
            sys.stderr.write(f"\r\x1b[2K{line}")
            sys.stderr.flush()
            self._last = line
        elif share > 0 and (line := f"{percent(share):3}%  {words}") != self._last:
            now = time.monotonic()
            if now - self._told >= PLAIN_PAUSE_SECONDS or share >= 1:
                print(line, file=sys.stderr, flush=True)
                self._told, self._last = now, line

    def note(self, words: str) -> None:
        """A line that stays, above the moving one."""
        if self._quiet:
            return
        if self._terminal:
            sys.stderr.write(f"\r\x1b[2K{words}\n{self._last}")
            sys.stderr.flush()
        else:
            print(words, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._terminal and not self._quiet and self._last:
            sys.stderr.write("\n")
