"""What an estimate rests on: which history stands for a processor's version and parameters. Pure, never a guess: where
nothing was measured the answer is that, not a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from planner.domain.history import History, HistoryKey
from planner.domain.natural import natural_key

__all__ = ["NOTHING", "Basis", "Rest", "history_for"]


class Basis(StrEnum):
    """MEASURED: this version and these parameters; NEAREST: others, which are named; PRICES: the price table;
    FREE: its processor costs nothing; NONE: no history."""

    MEASURED = "measured"
    NEAREST = "nearest"
    PRICES = "price table"
    FREE = "free"
    NONE = "none"


@dataclass(frozen=True)
class Rest:
    """basis; key: whose history, of MEASURED and NEAREST; items and runs of it."""

    basis: Basis
    key: HistoryKey | None = None
    items: int = 0
    runs: int = 0


NOTHING = Rest(Basis.NONE)


def history_for(key: HistoryKey, known: Mapping[HistoryKey, History]) -> tuple[Rest, History]:
    """The history to take, and what it is. A sample that has been run is measured like any items."""
    own = known.get(key, History())
    if own.items:
        return Rest(Basis.MEASURED, key, own.items, len(own.runs)), own
    near = _nearest(key, known)
    if near is None:
        return NOTHING, History()
    return Rest(Basis.NEAREST, near, known[near].items, len(known[near].runs)), known[near]


def _nearest(key: HistoryKey, known: Mapping[HistoryKey, History]) -> HistoryKey | None:
    """Of the same processor: the same parameters before others, since these change more than versions do; of these
    the same version, else the latest before it, else the earliest after it; and then the one with the most items."""
    same = [one for one in known if one.processor == key.processor and known[one].items]
    pool = [one for one in same if one.parameters == key.parameters] or same
    if not pool:
        return None

    def place(one: HistoryKey) -> tuple[str, str]:
        return natural_key(one.version), one.version

    before = [one for one in pool if place(one) <= place(key)]
    version = max(before, key=place).version if before else min(pool, key=place).version
    return max((one for one in pool if one.version == version), key=lambda one: (known[one].items, one.parameters))
