"""Estimates as people read them: `20 to 35 min, from 1,240 items of word-count 2`. One wording for every face. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from penstock.words import MICROS, counted
from planner.domain.estimates import Estimate, Range
from planner.domain.history import HistoryKey
from planner.domain.resting import Basis, Rest

__all__ = ["cost_words", "money_words", "rest_words", "runtime_words", "time_words", "total_words"]

_UNITS = ((86_400.0, "days"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))
_ENOUGH = 1.5
"""A unit is taken from so many of it on: 80 s, not 1.3 min."""


def runtime_words(told: Range | None, rest: Rest) -> str:
    """A runtime and what it rests on; `no history` where there is none."""
    return _words(time_words(told), rest) if told is not None else rest_words(rest)


def cost_words(told: Range | None, rest: Rest) -> str:
    """A cost and what it rests on; `no history` where there is none."""
    if told is None or rest.basis is Basis.FREE:
        return rest_words(rest)
    return _words(money_words(told), rest)


def total_words(estimate: Estimate) -> str:
    """Both totals as one line, and which stages nobody can tell."""
    time = _total(estimate.runtime, time_words, [stage.runtime for stage in estimate.stages])
    money = _total(estimate.cost, money_words, [stage.cost for stage in estimate.stages])
    return f"runtime: {time}; cost: {money}"


def rest_words(rest: Rest) -> str:
    """What an estimate rests on."""
    known = f"from {counted(rest.items, 'item')} of {_named(rest.key)}" if rest.key is not None else ""
    return {
        Basis.MEASURED: known,
        Basis.NEAREST: f"{known}, the nearest that was measured",
        Basis.PRICES: "by the price table, each item once",
        Basis.FREE: "costs nothing",
        Basis.NONE: "no history",
    }[rest.basis]


def time_words(told: Range) -> str:
    """`20 to 35 min`, in the unit that suits the longer end; `about 20 min` where both ends read the same."""
    if told.high < 1.0:
        return "less than 1 s" if told.high else "0 s"
    size, unit = next((one for one in _UNITS if told.high >= one[0] * _ENOUGH), _UNITS[-1])
    low, high = _rounded(told.low / size), _rounded(told.high / size)
    return f"about {high} {unit}" if low == high else f"{low} to {high} {unit}"


def money_words(told: Range) -> str:
    """`$1.20 to $3.40`, with two digits that count."""
    low, high = _dollars(told.low), _dollars(told.high)
    if low != high:
        return f"{low} to {high}"
    return low if told.low == told.high else f"about {low}"


def _words(amount: str, rest: Rest) -> str:
    return f"{amount}, {rest_words(rest)}"


def _total(told: Range | None, words: Callable[[Range], str], stages: Sequence[Range | None]) -> str:
    if told is not None:
        return words(told)
    unknown = [str(number) for number, stage in enumerate(stages) if stage is None]
    return f"not known (no history of stage {', '.join(unknown)})" if unknown else "not known"


def _named(key: HistoryKey) -> str:
    parameters = f" with {key.parameters}" if key.parameters else ""
    return f"{key.processor} {key.version}{parameters}"


def _digits(value: float) -> int:
    """Decimals that leave two digits that count."""
    return 1 - math.floor(math.log10(value)) if value > 0 else 0


def _rounded(value: float) -> str:
    decimals = min(_digits(value), 1)
    return f"{round(value, decimals):,.{max(decimals, 0)}f}".removesuffix(".0")


def _dollars(micros: float) -> str:
    value = micros / MICROS
    decimals = min(_digits(value), 6)
    return f"${round(value, decimals):,.{max(decimals, 2)}f}" if value else "$0"
