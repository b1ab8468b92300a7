"""What a column of a table holds: one rule for every format, over cells as texts.

Every format is read into cells that are a text or null; a text is what the value would be in a CSV. So a column of
`5` and `7` is of whole numbers whether a CSV, a JSON string, a JSON number or a Parquet column says so, and the same
rows make the same version. The rules, for the cells of a column that are not null:

- An empty text is null. Whatever else is no value but NaN among numbers stays a text.
- boolean: all are `true` or `false`, `True`, `False`, `TRUE`, `FALSE`.
- whole: all are whole numbers as a program writes them (`-7`, no plus, no leading zero) of at most 64 bits.
- number: all are whole or decimal numbers (`0.5`, `1e-07`, `1.5e10`; an exponent has a sign or stands after a
  fraction, so that the codes `12e3` and `45e6` stay texts), finite, and nothing is lost: where one has zeros at its
  end that a program would not write (`19.90`), all that have a fraction have as many decimals. So prices are numbers,
  and the versions `1.9` and `1.10` are texts. A whole number of more than 64 bits makes the column text.
- In a column of numbers NaN is null, and told.
- time: all are ISO 8601 dates or dates with a time, of the years 1000 to 9999; what names no zone is taken as UTC.
  Kept to the millisecond, what is below it is cut off.
- json: all are JSON objects or lists. They are kept compact, their fields in the order in which they came.
- text: everything else; also a column without any value.

`planner.tables.profile` says the same to DuckDB; property tests hold both together. Pure.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite

from planner.domain.schema import ColumnKind

__all__ = [
    "BOOLEAN",
    "NAN",
    "NO_JSON_NUMBER",
    "NUMBER",
    "TIME",
    "Counts",
    "candidates",
    "class_of",
    "count",
    "instant",
    "kind_of",
]

BOOLEAN = "true|false|True|False|TRUE|FALSE"
NAN = "NaN|nan|NAN"

NUMBER = r"-?(0|[1-9][0-9]*)(\.[0-9]+([eE][-+]?[0-9]{1,3})?|[eE][-+][0-9]{1,3})"
"""A number that is not whole. The patterns mean the same to Python and to DuckDB; all but the last match all of it."""

TIME = (
    "[1-9][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?( ?(Z|[-+](0[0-9]|1[0-4])(:?[0-5][0-9])?))?)?"
)
NO_JSON_NUMBER = r"[\[:,]\s*-?(?i:nan|inf)"
"""What lenient readers of JSON take within an object or a list, and strict ones behind us do not."""

_WATCHED = 0.9
"""A kind that nearly all cells have is counted, so that the few others can be told."""

_WHOLE = re.compile("-?(0|[1-9][0-9]{0,18})")
_NUMBER, _TIME, _NO_JSON = re.compile(NUMBER), re.compile(TIME), re.compile(NO_JSON_NUMBER)
_BOOLEAN, _NAN = re.compile(BOOLEAN), re.compile(NAN)
_EXPONENT = re.compile("[eE]")


@dataclass(frozen=True)
class Counts:
    """A column's cells that are not null, counted by what they are. A class that was not looked for is 0.

    numbers: those that are not whole. padded: numbers with zeros at their end; decimals: the least and the most of
    numbers with a fraction. midnights, seconds: times that are whole days, whole seconds.
    """

    cells: int = 0
    nans: int = 0
    booleans: int = 0
    wholes: int = 0
    numbers: int = 0
    times: int = 0
    jsons: int = 0
    padded: int = 0
    least_decimals: int = 0
    most_decimals: int = 0
    midnights: int = 0
    seconds: int = 0


def kind_of(counts: Counts) -> ColumnKind:
    """The kind of a column."""
    numeric = counts.wholes + counts.numbers
    if counts.cells == 0:
        return ColumnKind.TEXT
    if counts.booleans == counts.cells:
        return ColumnKind.BOOLEAN
    if numeric and numeric + counts.nans == counts.cells:
        if not counts.numbers:
            return ColumnKind.WHOLE
        even = counts.least_decimals == counts.most_decimals
        return ColumnKind.NUMBER if even or not counts.padded else ColumnKind.TEXT
    if counts.times == counts.cells:
        return ColumnKind.TIME
    if counts.jsons == counts.cells:
        return ColumnKind.JSON
    return ColumnKind.TEXT


def class_of(text: str) -> ColumnKind:
    """What one cell is by itself; TEXT also for NaN."""
    if _BOOLEAN.fullmatch(text):
        return ColumnKind.BOOLEAN
    if _WHOLE.fullmatch(text) and text != "-0" and -(1 << 63) <= int(text) < 1 << 63:
        return ColumnKind.WHOLE
    if _NUMBER.fullmatch(text) and isfinite(float(text)):
        return ColumnKind.NUMBER
    if _TIME.fullmatch(text) and _is_time(text):
        return ColumnKind.TIME
    if text[0] in "{[" and _is_json(text):
        return ColumnKind.JSON
    return ColumnKind.TEXT


def count(cells: Iterable[str]) -> Counts:
    """The counts of some cells."""
    classes = Counter[ColumnKind]()
    total = nans = padded = midnights = seconds = 0
    decimals = set[int]()
    for text in cells:
        total += 1
        kind = class_of(text)
        classes[kind] += 1
        if kind is ColumnKind.NUMBER and not _EXPONENT.search(text):
            digits = len(text) - text.index(".") - 1
            decimals.add(digits)
            padded += digits > 1 and text.endswith("0")
        elif kind is ColumnKind.TIME:
            at = instant(text)
            midnights += at == at.replace(hour=0, minute=0, second=0, microsecond=0)
            seconds += not at.microsecond
        elif _NAN.fullmatch(text):
            nans += 1
    return Counts(
        cells=total,
        nans=nans,
        booleans=classes[ColumnKind.BOOLEAN],
        wholes=classes[ColumnKind.WHOLE],
        numbers=classes[ColumnKind.NUMBER],
        times=classes[ColumnKind.TIME],
        jsons=classes[ColumnKind.JSON],
        padded=padded,
        least_decimals=min(decimals, default=0),
        most_decimals=max(decimals, default=0),
        midnights=midnights,
        seconds=seconds,
    )


def candidates(sample: Counts) -> frozenset[ColumnKind]:
    """The kinds that need counting in a column of which `sample` are some cells: the others can't be the column's.

    WHOLE and NUMBER are told together, since one may become the other.
    """
    by_kind = {
        ColumnKind.BOOLEAN: sample.booleans,
        ColumnKind.NUMBER: sample.wholes + sample.numbers + sample.nans,
        ColumnKind.TIME: sample.times,
        ColumnKind.JSON: sample.jsons,
    }
    found = {kind for kind, counted in by_kind.items() if counted >= _WATCHED * sample.cells}
    return frozenset(found | ({ColumnKind.WHOLE} if ColumnKind.NUMBER in found else set()))


def instant(text: str) -> datetime:
    """The UTC of a text of class TIME, to the millisecond, without a zone. Raises ValueError, OverflowError."""
    at = datetime.fromisoformat(text.replace(" ", "T", 1).replace(" ", "") if len(text) > 10 else text)
    if at.tzinfo is not None:
        at = at.astimezone(UTC).replace(tzinfo=None)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _is_time(text: str) -> bool:
    try:
        instant(text)
    except (ValueError, OverflowError):
        return False
    return True


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return not _NO_JSON.search(text)
