"""The slow pass over JSON lines: every line that holds a row, and what is wrong with it, to the column.

Also JSON files (one object, or a list of objects each) as JSON lines: a folder of them becomes one file.
What DuckDB takes kindly (NaN where a number stands) is taken here, too; what it takes too kindly (a comma before a
closing bracket) is found by `Suspicions`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from penstock.runtime.errors import InvalidInput
from penstock.strict_json import repeated
from planner.domain.rows import MAX_LINE_BYTES, TOO_DEEP, too_deep
from planner.tables.csv_rows import not_utf8
from planner.tables.refusals import short

__all__ = ["JsonLine", "has_trailing_comma", "json_lines", "rows_of_file"]

_BOM = b"\xef\xbb\xbf"
_COMMA = re.compile(rb",[ \t\r\n]*[}\]]")
_SEEMING = (re.compile(rb"\}(?<=[, \t\r\n]\})"), re.compile(rb"\](?<=[, \t\r\n]\])"))
"""What stands before a bracket where a comma may be: brackets are few, commas are many."""
_DIGITS = re.compile(rb"[0-9]{18}")
_CHUNK = 4 << 20
_LOOK = 1 << 20
_BRACKETS = 100


class _Repeated(Exception):
    """A name that stands twice in an object."""


@dataclass(frozen=True)
class JsonLine:
    """line: from 1. row: None where there is a problem."""

    line: int
    raw: bytes
    row: Mapping[str, Any] | None
    problem: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing: such rows are passed over in every format."""
        return self.row is not None and all(value is None or value == "" for value in self.row.values())


def json_lines(path: Path) -> Iterator[JsonLine]:
    """Every line that is not blank."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if number == 1:
                line = line.removeprefix(_BOM)
            if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                _skip_line(file)
                yield JsonLine(number, b"", None, f"line {number}: longer than {MAX_LINE_BYTES >> 20} MiB")
            elif line.strip():
                yield _line(number, line.rstrip(b"\r\n"))


def _line(number: int, raw: bytes) -> JsonLine:
    try:
        value = _loads(raw)
    except UnicodeDecodeError as error:
        column = len(raw[: error.start].decode("utf-8", "replace")) + 1
        return JsonLine(number, raw, None, f"line {number}, column {column}: {not_utf8(raw, error)}")
    except json.JSONDecodeError as error:
        return JsonLine(number, raw, None, f"line {number}, column {error.pos + 1}: not JSON: {_said(error)}")
    except _Repeated as error:
        return JsonLine(number, raw, None, f"line {number}: {error}")
    if value is None:
        value = {}
    if type(value) is not dict:
        return JsonLine(number, raw, None, f"line {number}: {_what(value)}, not an object")
    if raw.count(b"{") + raw.count(b"[") > _BRACKETS and too_deep(value):
        return JsonLine(number, raw, None, f"line {number}: {TOO_DEEP}")
    return JsonLine(number, raw, value)


def rows_of_file(name: str, data: bytes) -> Iterator[bytes]:
    """A JSON file's rows as lines: of one object, or of a list of them. Raises InvalidInput, before the first row."""
    data = data.removeprefix(_BOM)
    try:
        value = _loads(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{name}, line {line}: {not_utf8(data, error)}", code="bad_encoding") from None
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"{name}, line {error.lineno}, column {error.colno}: not JSON: {_said(error)}", code="bad_rows"
        ) from None
    except _Repeated as error:
        raise InvalidInput(f"{name}: {error}", code="bad_rows") from None
    rows = value if type(value) is list else [value]
    for number, row in enumerate(rows, 1):
        if type(row) is not dict:
            where = f"element {number} is " if type(value) is list else ""
            raise InvalidInput(
                f"{name}: {where}{_what(row)}, not an object; a JSON file of a table is an object or a list of them",
                code="bad_rows",
            )
    if data.count(b"{") + data.count(b"[") > _BRACKETS:
        deep = next((number for number, row in enumerate(rows, 1) if too_deep(row)), 0)
        if deep:
            raise InvalidInput(f"{name}: element {deep} is {TOO_DEEP}", code="bad_rows")
    # orjson makes a float of a whole number past 64 bits, and null of NaN: json keeps both.
    exact = _DIGITS.search(data) is not None or b"NaN" in data or b"Infinity" in data
    return ((json.dumps(row, ensure_ascii=False).encode() if exact else orjson.dumps(row)) + b"\n" for row in rows)


def has_trailing_comma(path: Path) -> bool:
    """Whether some line has a comma before a closing bracket, outside texts.

    DuckDB takes such lines; strict readers don't, so they are told. Most hits are within texts, and the line itself is
    read to tell.
    """
    # One buffer for all: fresh ones cost more than looking at them.
    buffer, rest = bytearray(MAX_LINE_BYTES + _LOOK), 0
    with path.open("rb", buffering=0) as file, memoryview(buffer) as view:
        while count := file.readinto(view[rest : rest + _LOOK]):
            end = rest + count
            whole = buffer.rfind(b"\n", 0, end) + 1
            if _has_comma(buffer, whole):
                return True
            rest = end - whole
            if rest > MAX_LINE_BYTES:
                return True
            view[:rest] = bytes(view[whole:end])
        return _has_comma(buffer, rest)


def _has_comma(data: bytearray, size: int) -> bool:
    """Of the first `size` bytes, which are whole lines."""
    if not any(seeming.search(data, 0, size) for seeming in _SEEMING):
        return False
    at = 0
    while found := _COMMA.search(data, at, size):
        start = data.rfind(b"\n", 0, found.start()) + 1
        end = data.find(b"\n", found.end(), size)
        end = size if end < 0 else end
        try:
            json.loads(data[start:end].removeprefix(_BOM))
        except (ValueError, RecursionError):
            return True  # the slow pass says which
        at = max(end, found.end())
    return False


def _loads(data: bytes) -> Any:
    """What DuckDB and strict readers agree on. Raises JSONDecodeError, UnicodeDecodeError, _Repeated."""
    text = data.decode()
    try:
        orjson.loads(data)
    except ValueError as error:
        # NaN is taken; what json alone takes beside it is not.
        value = _parsed(text)
        try:
            text.encode()
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise json.JSONDecodeError("half of a surrogate pair", text, 0) from None
        if "NaN" not in text and "Infinity" not in text:
            raise json.JSONDecodeError(str(error).partition(":")[0], text, 0) from None
        return value
    return _parsed(text)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise json.JSONDecodeError(TOO_DEEP, text, 0) from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # a whole number of thousands of digits
        raise json.JSONDecodeError(str(error).partition(":")[0], text, 0) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Repeated(f"the name {short(repeated(pairs))} stands twice in an object")
    return found


def _skip_line(file: BinaryIO) -> None:
    while part := file.readline(_CHUNK):
        if part.endswith(b"\n"):
            return


def _said(error: json.JSONDecodeError) -> str:
    return f"{error.msg[:1].lower()}{error.msg[1:]}"


def _what(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    return "a text" if isinstance(value, str) else "a list"
