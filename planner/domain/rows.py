"""The lines of an items file, read one by one: `{"key": …, "group": …, "payload": {…}}`.

The reader goes through the whole file and remembers the first offenders with their lines, so that a user mends a file
once. What it lets through is one canonical line a row; a source's id is a hash over these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

__all__ = [
    "MAX_DEPTH",
    "MAX_KEY_CHARACTERS",
    "MAX_LINE_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MOST_OFFENDERS",
    "TOO_DEEP",
    "ItemLines",
    "Row",
    "encode_row",
    "too_deep",
]

MAX_KEY_CHARACTERS = 1_000
MAX_PAYLOAD_BYTES = 1 << 20
MAX_LINE_BYTES = 8 << 20  # a payload of MAX_PAYLOAD_BYTES may be written with escapes
MAX_DEPTH = 100
"""Objects and lists within each other in a line: far below where some reader of JSON behind us gives up."""
MOST_OFFENDERS = 10
_PART_LINES = 256
TOO_DEEP = f"nested more than {MAX_DEPTH} deep"

_FIELDS = frozenset({"key", "group", "payload"})
# orjson, which everybody behind us reads with, makes floats of whole numbers past 64 bits: lines that may hold one
# are looked through.
_DIGITS = bytes(ord("d") if chr(byte).isdecimal() and byte < 128 else ord(" ") for byte in range(256))
_CONTROL = re.compile("[\x00-\x1f\x7f]")


Row = tuple[int, str, str, bytes]
"""The line that it came from (no part of it), key, group, payload as the text of a JSON object."""


def encode_row(row: Row) -> bytes:
    """The canonical line of a row, with its line feed. The payload goes as text: so no reader rounds its numbers."""
    _, key, group, payload = row
    return orjson.dumps({"key": key, "group": group, "payload": payload.decode()}, option=orjson.OPT_APPEND_NEWLINE)


class _Refused(Exception):
    """What is wrong with a line."""


@dataclass
class ItemLines:
    """Splits chunks into lines and lines into rows. `offenders` are (line number, what is wrong)."""

    offenders: list[tuple[int, str]] = field(default_factory=list)
    line_number: int = 0
    hopeless: bool = False
    """Enough is wrong: nothing more need be read."""
    _rest: bytes = b""

    def feed(self, chunk: bytes) -> Iterator[list[Row]]:
        """The rows that this chunk completes, a few at a time."""
        if self.hopeless:
            return
        data = self._rest + chunk
        *lines, self._rest = data.split(b"\n")
        long_numbers = _has_long_number(data)
        # In small parts: many tuples alive at once are what Python's garbage collector runs for.
        for start in range(0, len(lines), _PART_LINES):
            yield self._rows(lines[start : start + _PART_LINES], long_numbers=long_numbers)
            if len(self.offenders) >= MOST_OFFENDERS:
                return
        if len(self._rest) > MAX_LINE_BYTES:
            self.offenders.append((self.line_number + 1, f"longer than {MAX_LINE_BYTES >> 20} MiB"))
            self.hopeless = True
            self._rest = b""

    def end(self) -> list[Row]:
        rest, self._rest = self._rest, b""
        return self._rows([rest] if rest else [], long_numbers=True)

    def _rows(self, lines: Iterable[bytes], *, long_numbers: bool) -> list[Row]:
        rows: list[Row] = []
        number = self.line_number
        for line in lines:
            number += 1
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line or line.isspace():
                continue
            try:
                rows.append(_row(number, line, long_numbers=long_numbers))
            except _Refused as refused:
                self.offenders.append((number, str(refused)))
                if len(self.offenders) == MOST_OFFENDERS:
                    self.hopeless = True
                    break
        self.line_number = number
        return rows


def _has_long_number(data: bytes) -> bool:
    # Several times as fast as a regular expression that counts digits.
    return b"d" * 18 in data.translate(_DIGITS)


def _row(number: int, line: bytes, *, long_numbers: bool) -> Row:
    try:
        value = orjson.loads(line)
    except ValueError as error:
        raise _Refused(_why(line, error)) from None
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH and type(value) is dict and too_deep(value):
        raise _Refused(TOO_DEEP)
    if long_numbers and _has_long_number(line):
        json.loads(line, parse_int=_check_whole)
    if type(value) is not dict:
        raise _Refused('not a JSON object: {"key": …, "group": …, "payload": {…}} is expected')
    key = value.get("key")
    group = value.get("group") or ""
    payload = value.get("payload")
    if payload is None:
        payload = {}
    if not value.keys() <= _FIELDS:
        unknown = ", ".join(sorted(value.keys() - _FIELDS)[:3])
        raise _Refused(f"unknown field {unknown}: key, group and payload are read; put the rest into payload")
    if type(key) is not str or not key.strip():
        blank = key is None or type(key) is str
        raise _Refused("no key: a text that is not empty" if blank else f"key {_short(key)} is not a text")
    if type(group) is not str:
        raise _Refused(f"group {_short(group)} of key {_short(key)} is not a text")
    if not key.isprintable() or len(key) > MAX_KEY_CHARACTERS:
        _check_text("key", key)
    if not group.isprintable() or len(group) > MAX_KEY_CHARACTERS:
        _check_text("group", group)
    if type(payload) is not dict:
        raise _Refused(f"payload of key {_short(key)} is not an object")
    packed = orjson.dumps(payload)
    if len(packed) > MAX_PAYLOAD_BYTES:
        raise _Refused(
            f"payload of key {_short(key)} has {len(packed):,} bytes, at most {MAX_PAYLOAD_BYTES:,} are taken"
        )
    return number, key, group, packed


def _check_text(name: str, text: str) -> None:
    if len(text) > MAX_KEY_CHARACTERS:
        raise _Refused(f"{name} has {len(text):,} characters, at most {MAX_KEY_CHARACTERS:,} are taken")
    if _CONTROL.search(text):
        raise _Refused(f"{name} {_short(text)} has control characters")


def too_deep(value: Any) -> bool:
    """Whether more than MAX_DEPTH objects and lists stand within each other."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) in (dict, list)
        ]
        if not level:
            return False
    return True


def _check_whole(digits: str) -> None:
    if len(digits) > 20 or not -(1 << 63) <= int(digits) < 1 << 64:
        raise _Refused(f"the number {_short(digits)} has more than 64 bits; send it as a text")


def _why(line: bytes, error: ValueError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as broken:
        return f"not UTF-8 at byte {broken.start + 1}"
    if "depth limit" in str(error):
        return TOO_DEEP
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON at character {error.pos + 1}: {error.msg}"
    return f"not JSON: {error}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
