"""The lines of an items file, read one by one: `{"key": …, "group": …, "payload": {…}}`.

The reader goes through the whole file and remembers the first offenders with their lines, so that a user mends a file
once. What it lets through is one canonical line a row; a source's id is a hash over these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import orjson

__all__ = [
    "MAX_KEY_CHARACTERS",
    "MAX_LINE_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MOST_OFFENDERS",
    "ItemLines",
    "Row",
    "encode_row",
]

MAX_KEY_CHARACTERS = 1_000
MAX_PAYLOAD_BYTES = 1 << 20
MAX_LINE_BYTES = 8 << 20  # a payload of MAX_PAYLOAD_BYTES may be written with escapes
MOST_OFFENDERS = 10

_FIELDS = frozenset({"key", "group", "payload"})
# orjson reads whole numbers past 64 bits as floats: lines that may hold one go through the exact reader.
_LONG_NUMBER = re.compile(rb"[0-9]{18}")
_CONTROL = re.compile("[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Row:
    """One item: `payload` is the text of its JSON object."""

    key: str
    group: str
    payload: bytes


def encode_row(row: Row) -> bytes:
    """The canonical line of a row, with its line feed.

    The payload goes as text, so that no reader can round its numbers.
    """
    return orjson.dumps({"key": row.key, "group": row.group, "payload": row.payload.decode()}) + b"\n"


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

    def feed(self, chunk: bytes) -> Iterator[Row]:
        """The rows that this chunk completes."""
        if self.hopeless:
            return
        data = self._rest + chunk
        *lines, self._rest = data.split(b"\n")
        yield from self._rows(lines, exact=_LONG_NUMBER.search(data) is not None)
        if len(self._rest) > MAX_LINE_BYTES:
            self.offenders.append((self.line_number + 1, f"longer than {MAX_LINE_BYTES >> 20} MiB"))
            self.hopeless = True
            self._rest = b""

    def end(self) -> Iterator[Row]:
        rest, self._rest = self._rest, b""
        yield from self._rows([rest] if rest else [], exact=True)

    def _rows(self, lines: Iterable[bytes], *, exact: bool) -> Iterator[Row]:
        for line in lines:
            self.line_number += 1
            if self.line_number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line or line.isspace():
                continue
            try:
                yield _row(line, exact=exact)
            except _Refused as refused:
                self.offenders.append((self.line_number, str(refused)))
                if len(self.offenders) == MOST_OFFENDERS:
                    self.hopeless = True
                    return


def _row(line: bytes, *, exact: bool) -> Row:
    exact = exact and _LONG_NUMBER.search(line) is not None
    try:
        value = json.loads(line, parse_constant=_constant) if exact else orjson.loads(line)
    except ValueError as error:
        raise _Refused(_why(line, error)) from None
    except RecursionError:
        raise _Refused("nested too deeply") from None
    if type(value) is not dict:
        raise _Refused('not a JSON object: {"key": …, "group": …, "payload": {…}} is expected')
    key, group, payload = value.get("key"), value.get("group", ""), value.get("payload")
    if type(key) is not str or not key.strip():
        raise _Refused(
            "no key: a text that is not empty"
            if key in (None, "")
            else f"key {_short(key)} is no text with something in it"
        )
    if group is None:
        group = ""
    if type(group) is not str:
        raise _Refused(f"group {_short(group)} of key {_short(key)} is not a text")
    if payload is None:
        payload = {}
    if type(payload) is not dict:
        raise _Refused(f"payload of key {_short(key)} is not an object")
    if not value.keys() <= _FIELDS:
        unknown = ", ".join(sorted(value.keys() - _FIELDS)[:3])
        raise _Refused(f"unknown field {unknown}: key, group and payload are read; put the rest into payload")
    for name, text in (("key", key), ("group", group)):
        if len(text) > MAX_KEY_CHARACTERS:
            raise _Refused(f"{name} has {len(text):,} characters, at most {MAX_KEY_CHARACTERS:,} are taken")
        if _CONTROL.search(text):
            raise _Refused(f"{name} {_short(text)} has control characters")
    try:
        packed = (
            json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode() if exact else orjson.dumps(payload)
        )
        if exact:
            (key + group).encode()
    except ValueError:
        raise _Refused("a text in it has half a surrogate pair, which is no Unicode") from None
    if len(packed) > MAX_PAYLOAD_BYTES:
        raise _Refused(
            f"payload of key {_short(key)} has {len(packed):,} bytes, at most {MAX_PAYLOAD_BYTES:,} are taken"
        )
    return Row(key, group, packed)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _why(line: bytes, error: ValueError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as broken:
        return f"not UTF-8 at byte {broken.start + 1}"
    return f"not JSON: {error}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
