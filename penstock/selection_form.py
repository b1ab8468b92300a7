"""The one form that a selection has as JSON: its fields, what each holds, and how much of it.

HTTP makes its model of this table, and Python and the command line check by it, so that what one takes the others take.
Shapes alone are known here: what a filter or a processor means, the planner says. Nothing raises; what is wrong with a
value comes back as words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "FILTER",
    "FORM",
    "KEYS",
    "NAME",
    "WAYS",
    "Amount",
    "Flag",
    "Part",
    "Reprocess",
    "Text",
    "Texts",
    "problems_of",
]

PROBLEMS_TOLD = 10
SHOWN_CHARACTERS = 80


class Part(Protocol):
    """What a field holds."""

    def problem(self, name: str, value: object) -> str:
        """What is wrong with the value of the field of this name; empty: nothing."""


@dataclass(frozen=True)
class Text:
    """So many characters, of those that UTF-8 has."""

    most: int
    least: int = 0

    def problem(self, name: str, value: object) -> str:
        if isinstance(value, str) and self.least <= len(value) <= self.most and _is_unicode(value):
            return ""
        return _refused(name, value, f"a text of {self.least}-{self.most:,} characters")


@dataclass(frozen=True)
class Texts:
    """A list of so many."""

    most: int
    each: Text

    def problem(self, name: str, value: object) -> str:
        if not isinstance(value, list) or len(value) > self.most:
            return _refused(name, value, f"a list of at most {self.most:,} texts")
        # A million wrong ids would be a million sentences: the first one is told.
        return next((wrong for at, one in enumerate(value) if (wrong := self.each.problem(f"{name}.{at}", one))), "")


@dataclass(frozen=True)
class Flag:
    """always: true is all that it may be."""

    always: bool = False

    def problem(self, name: str, value: object) -> str:
        if value is True or (value is False and not self.always):
            return ""
        return _refused(name, value, "true" if self.always else "true or false")


@dataclass(frozen=True)
class Amount:
    """A whole number from 0."""

    most: int

    def problem(self, name: str, value: object) -> str:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= self.most:
            return ""
        return _refused(name, value, f"a whole number of 0-{self.most:,}")


@dataclass(frozen=True)
class Reprocess:
    """A processor, and the `confidence` below which its results are done again."""

    processor: Text

    def problem(self, name: str, value: object) -> str:
        if not isinstance(value, dict) or set(value) != {"processor", "threshold"}:
            return _refused(name, value, 'an object as {"processor": "scan", "threshold": 0.7}')
        if wrong := self.processor.problem(f"{name}.processor", value["processor"]):
            return wrong
        if _is_number(threshold := value["threshold"]):
            return ""
        return _refused(f"{name}.threshold", threshold, "a number as 0.7")


NAME = Text(200, least=1)
FILTER = Text(10_000)
_COLUMN = Text(200)
KEYS = Texts(1_000_000, each=Text(10_000))
WAYS: Mapping[str, Part] = {
    "all": Flag(always=True),
    "keys": KEYS,
    "missing": NAME,
    "reprocess": Reprocess(NAME),
    "failed_of_run": NAME,
    "changed_since_plan": NAME,
    "sql": Text(100_000, least=1),
    "filter": FILTER,
}
"""Of these a selection has one. None may be null: a variable that was never set is not to select all rows."""
FORM: Mapping[str, Part] = {
    **WAYS,
    "exclude_keys": KEYS,
    "exclude_filter": FILTER,
    "org": _COLUMN,
    "repo": _COLUMN,
    "state": _COLUMN,
    "limit": Amount(2**62),
    "again": Flag(),
}
"""The fields of `Selection` in `sources.proto`, but for keys, which is a list."""


def problems_of(told: Mapping[str, object]) -> list[str]:
    """A sentence for each of the first values that don't fit."""
    found: list[str] = []
    for name, value in told.items():
        part = FORM.get(name)
        if part is None:
            found.append(f"{_shown(name)} is no field of a selection; it has {', '.join(FORM)}")
        elif wrong := part.problem(name, value):
            found.append(wrong)
        if len(found) == PROBLEMS_TOLD:
            break
    return found


def _is_unicode(text: str) -> bool:
    """Half of a character, which JSON can write, is none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_number(value: object) -> bool:
    """Whether it is one that a float holds."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number past all floats
        return False


def _refused(name: str, value: object, needed: str) -> str:
    return f"{name} is {_shown(value)}: {needed} is needed"


def _shown(value: object) -> str:
    """A few characters, at no cost: what is nested deep or has very many digits can't be written out."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        more = len(value) - SHOWN_CHARACTERS
        return repr(value[:SHOWN_CHARACTERS]) + (f" and {more:,} more" if more > 0 else "")
    if isinstance(value, float) or (isinstance(value, int) and value.bit_length() <= 256):
        return str(value)
    if isinstance(value, int):
        return "a number of very many digits"
    if isinstance(value, list):
        return f"a list of {len(value):,}"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"
