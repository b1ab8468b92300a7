"""Estimates as people read them: `20 to 35 min, from 1,240 items of word-count 2`. One wording for every face. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penstock.amounts import money_range, time_range
from penstock.words import counted
from planner.domain.estimates import Estimate, Range
from planner.domain.history import HistoryKey
from planner.domain.resting import Basis, Rest

__all__ = ["cost_words", "rest_words", "runtime_words", "total_words"]


def runtime_words(told: Range | None, rest: Rest) -> str:
    """A runtime and what it rests on; `no history` where there is none."""
    return _words(time_range(told.low, told.high), rest) if told is not None else rest_words(rest)


def cost_words(told: Range | None, rest: Rest) -> str:
    """A cost and what it rests on; `no history` where there is none."""
    if told is None or rest.basis is Basis.FREE:
        return rest_words(rest)
    return _words(money_range(told.low, told.high), rest)


def total_words(estimate: Estimate) -> str:
    """Both totals as one line, and which stages nobody can tell."""
    time = _total(estimate.runtime, time_range, [stage.runtime for stage in estimate.stages])
    money = _total(estimate.cost, money_range, [stage.cost for stage in estimate.stages])
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


def _words(amount: str, rest: Rest) -> str:
    return f"{amount}, {rest_words(rest)}"


def _total(told: Range | None, words: Callable[[float, float], str], stages: Sequence[Range | None]) -> str:
    if told is not None:
        return words(told.low, told.high)
    unknown = [str(number) for number, stage in enumerate(stages) if stage is None]
    return f"not known (no history of stage {', '.join(unknown)})" if unknown else "not known"


def _named(key: HistoryKey) -> str:
    parameters = f" with {key.parameters}" if key.parameters else ""
    return f"{key.processor} {key.version}{parameters}"
