"""Lanes: the limit keys of every item, asked of the stage's processor once, when the plan is made.

A lane is an item's keys, sorted, with one space between; "" is that of items without keys. A processor that names no
keys costs nothing here; one that says which fields its keys hang on need not be asked for each item
(`planner.lane_tables`). Keys that are none, or a processor that fails over a payload, refuse the whole plan with the
items concerned: a limit that is misspelt would be a limit that nobody keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from penstock.processor import Parameters, Processor
from penstock.runtime.blobs import blob_trouble
from penstock.runtime.errors import InvalidInput
from penstock.runtime.logs import get_logger
from penstock.words import lane_of, limit_keys_problem
from planner.parquet import Parquet

__all__ = ["Lanes", "names_limits"]

log = get_logger("planner")

_TOLD_ITEMS = 10
_KNOWN_LANES = 50_000


def names_limits(processor: type[Processor[Any]]) -> bool:
    """Whether a processor has limit keys of its own."""
    return processor.limit_keys.__func__ is not Processor.limit_keys.__func__  # type: ignore[attr-defined]


def _says_fields(processor: type[Processor[Any]]) -> bool:
    """Whether a processor says it of its own keys: what a base says is of the base's, and no more where they are named
    anew."""
    for one in processor.__mro__:
        if "limit_fields" in vars(one):
            return one is not Processor
        if "limit_keys" in vars(one):
            return False
    return False


class Lanes:
    """The lanes of one stage's items."""

    def __init__(self, processor: type[Processor[Any]], parameters: Parameters) -> None:
        self._processor = processor
        self._parameters = parameters
        self._known: dict[tuple[Any, ...], str] = {(): ""}
        self._problems: list[str] = []
        self._wrong = 0

    @property
    def fields(self) -> Sequence[str] | None:
        """The fields of a payload that alone decide its keys; None where nobody says so."""
        if not _says_fields(self._processor):
            return None
        try:
            told = self._processor.limit_fields(self._parameters)
            if told is None or (not isinstance(told, str) and all(isinstance(name, str) for name in told)):
                return told if told is None else tuple(told)
            why = f"limit_fields answered {told!r}, not a list of names"[:300]
        except Exception as error:  # a plug-in may fail in any way
            why = f"{type(error).__name__}: {error}"[:300]
        log.warning("a processor does not say its limit fields", processor=self._processor.name, why=why)
        return None

    def named(self, payload: Mapping[str, Any]) -> str | None:
        """The lane of a payload; None when its keys are wrong: of which item, only its place in the plan can tell."""
        lane, problem = self._named(payload)
        return None if problem else lane

    def write(self, parquet: Parquet, snapshot: Path, place: Path) -> bool:
        """Writes the lane of each row of a snapshot as a line `=LANE`; False when no item has keys.

        Raises InvalidInput, with the items whose keys are wrong, and Unavailable.
        """
        row, any_keys = 0, False
        try:
            with place.open("wb") as file:
                for some in parquet.payloads(snapshot):
                    lanes = [self._lane(row + at, key, orjson.loads(text)) for at, (key, text) in enumerate(some)]
                    row += len(some)
                    any_keys = any_keys or any(lanes)
                    file.write(("=" + "\n=".join(lanes) + "\n").encode())
        except OSError as error:
            raise blob_trouble(error, place.parent) from error
        self._refuse()
        return any_keys

    def of(self, key: str, payload: Mapping[str, Any]) -> str:
        """The lane of a single item. Raises InvalidInput."""
        lane = self._lane(0, key, payload)
        self._refuse()
        return lane

    def _lane(self, row: int, key: str, payload: Mapping[str, Any]) -> str:
        lane, problem = self._named(payload)
        if problem:
            self._tell(row, key, problem)
        return lane

    def _named(self, payload: Mapping[str, Any]) -> tuple[str, str]:
        """The lane, and what is wrong with it."""
        try:
            named = self._processor.limit_keys(payload, self._parameters)
            if isinstance(named, str):
                raise TypeError(f"limit_keys answered the text {named!r}, not a list of keys")
            keys = tuple(named)
            known = self._known.get(keys)
        except Exception as error:  # a plug-in may fail in any way over a payload
            return "", f"{type(error).__name__}: {error}"
        if known is not None:
            return known, ""
        problem = limit_keys_problem(keys)
        if problem:
            return "", problem
        lane = lane_of(keys)
        if len(self._known) >= _KNOWN_LANES:
            self._known.clear()
        self._known[keys] = lane
        return lane, ""

    def _tell(self, row: int, key: str, problem: str) -> None:
        self._wrong += 1
        if len(self._problems) < _TOLD_ITEMS:
            self._problems.append(f"item {row} ({key[:100]!r}): {problem[:300]}")

    def _refuse(self) -> None:
        if not self._wrong:
            return
        more = f"; and {self._wrong - len(self._problems):,} more" if self._wrong > len(self._problems) else ""
        raise InvalidInput(
            f"limit keys of processor {self._processor.name!r}: {'; '.join(self._problems)}{more}",
            code="bad_limit_keys",
        )
