"""What a plan will take and cost, as ranges, before anything runs: per stage, per group and in total. Pure.

A range says: four of five such runs end within it (p10 to p90). Each says what it rests on; where nothing was measured
and nobody gave a price there is no range, and none in total. The same plan, histories and settings give the same
ranges: what is random is seeded with the plan's id. Stages follow one another; what a gate waits for is not counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.domain.history import History, HistoryKey
from planner.domain.levels import Fit, fit
from planner.domain.resting import NOTHING, Basis, Rest, history_for
from planner.domain.runtimes import DRAWS, runtimes
from planner.domain.sketch import Floats
from planner.domain.sums import LOW, MIDDLE, Sums, sums
from planner.domain.tries import tries_under
from planner.domain.work import StageWork

__all__ = ["NEAR_SPREAD", "Estimate", "GroupEstimate", "Range", "StageEstimate", "estimate", "estimate_profiles"]

NEAR_SPREAD = 0.3
"""Prior of how far another version, or other parameters, differ: two of three by less than a third."""


@dataclass(frozen=True)
class Range:
    """p10, p50 and p90; seconds or micro-dollars."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class GroupEstimate:
    """A group within its stage: from its first beginning to its last end; None where that is not known, or where groups
    do not stand one after another."""

    name: str
    items: int
    runtime: Range | None
    cost: Range | None


@dataclass(frozen=True)
class StageEstimate:
    """runtime_rest, cost_rest: what they rest on; bound: what decides the runtime; failed_share: of items."""

    runtime: Range | None
    cost: Range | None
    runtime_rest: Rest
    cost_rest: Rest
    groups: Sequence[GroupEstimate]
    bound: str = ""
    failed_share: float | None = None


@dataclass(frozen=True)
class Estimate:
    """Of all stages one after another; None in total where one is not known."""

    runtime: Range | None
    cost: Range | None
    stages: Sequence[StageEstimate]


def estimate(plan_id: str, stages: Sequence[StageWork], known: Mapping[HistoryKey, History]) -> Estimate:
    """The estimate of a plan."""
    found = [_stage(_random(plan_id, number), work, known) for number, work in enumerate(stages)]
    return Estimate(
        _total([runtime for _, runtime, _ in found]),
        _total([cost for _, _, cost in found]),
        [stage for stage, _, _ in found],
    )


def estimate_profiles(
    plan_id: str, profiles: Mapping[str, Sequence[StageWork]], known: Mapping[HistoryKey, History]
) -> dict[str, Estimate]:
    """The same for each of several settings, with the same chances, so that what differs is the settings' doing."""
    return {name: estimate(plan_id, stages, known) for name, stages in profiles.items()}


def _random(plan_id: str, stage: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{plan_id}/{stage}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


_Stage = tuple[StageEstimate, Floats | None, Floats | None]


def _stage(random: np.random.Generator, work: StageWork, known: Mapping[HistoryKey, History]) -> _Stage:
    """A stage, and the draws of its runtime and cost."""
    rest, history = history_for(work.key, known)
    widened = NEAR_SPREAD**2 if rest.basis is Basis.NEAREST else 0.0
    names = list(work.items)
    if not work.count:
        nothing = Range(0.0, 0.0, 0.0)
        empty = StageEstimate(nothing, nothing, rest, rest, ())
        return empty, np.zeros(DRAWS), np.zeros(DRAWS)
    cost_random, runtime_random = random.spawn(2)
    of_cost_rest, of_cost_history, of_cost_widened = rest, history, widened
    if work.paid and rest.basis is Basis.NEAREST:
        # What others did for nothing says how long it takes, and nothing of what paid work costs.
        of_cost_rest, of_cost_history = history_for(
            work.key, {key: one for key, one in known.items() if one.cost_money}
        )
        of_cost_widened = NEAR_SPREAD**2
    cost_rest, cost, cost_groups = _costs(cost_random, work, of_cost_rest, of_cost_history, of_cost_widened)
    runtime, runtime_groups, bound, failed = None, None, "", None
    seconds = _fit(history, costs=False)
    if seconds is not None:
        told = runtimes(work, history, seconds, runtime_random, widened=widened)
        runtime, runtime_groups, bound = told.total, told.groups, told.bound
        failed = tries_under(history.ends, work.max_tries, heals=work.heals).failed
    of_time, of_cost = _ranges(runtime_groups, len(names)), _ranges(cost_groups, len(names))
    groups = [
        GroupEstimate(name, count, time, money)
        for (name, count), time, money in zip(work.items.items(), of_time, of_cost, strict=True)
    ]
    stage = StageEstimate(
        _drawn(runtime), _drawn(cost), rest if seconds is not None else NOTHING, cost_rest, groups, bound, failed
    )
    return stage, runtime, cost


_Three = tuple[Floats, Floats, Floats]


def _costs(
    random: np.random.Generator, work: StageWork, rest: Rest, history: History, widened: float
) -> tuple[Rest, Floats | None, _Three | None]:
    """What the cost rests on, its draws, and of each group p10, p50 and p90."""
    items = np.array(list(work.items.values()), np.float64)
    nothing = np.zeros(items.size)
    costs = _fit(history, costs=True)
    if costs is not None:
        rows = np.array([costs.rows.get(name, costs.unknown) for name in work.items], np.int64)
        tries = tries_under(history.ends, work.max_tries, heals=work.heals)
        draws = costs.draws(random, DRAWS, widened=widened, more_varied=tries.more_varied)
        drawn: Sums = sums(costs, draws, rows, items, random)
        scale = tries.scale
        return rest, drawn.total * scale, (drawn.low * scale, drawn.middle * scale, drawn.high * scale)
    if not work.paid:
        return Rest(Basis.FREE), np.zeros(DRAWS), (nothing, nothing, nothing)
    if rest.basis is Basis.MEASURED:
        return rest, np.zeros(DRAWS), (nothing, nothing, nothing)
    if work.price_micros is not None:
        each = items * work.price_micros
        return Rest(Basis.PRICES), np.full(DRAWS, each.sum()), (each, each, each)
    return NOTHING, None, None


def _fit(history: History, *, costs: bool) -> Fit | None:
    if costs:
        of_groups = {name: group.cost for name, group in history.groups.items()}
        of_runs = [{name: cost for name, (_, cost) in run.groups.items()} for run in history.runs.values()]
        return fit(of_groups, history.others.cost, of_runs)
    of_groups = {name: group.seconds for name, group in history.groups.items()}
    of_runs = [{name: seconds for name, (seconds, _) in run.groups.items()} for run in history.runs.values()]
    return fit(of_groups, history.others.seconds, of_runs)


def _drawn(draws: Floats | None) -> Range | None:
    return None if draws is None else Range(*(float(value) for value in np.quantile(draws, [LOW, MIDDLE, 1 - LOW])))


def _total(draws: Sequence[Floats | None]) -> Range | None:
    known = [one for one in draws if one is not None]
    return _drawn(np.sum(known, axis=0)) if known and len(known) == len(draws) else None


def _ranges(groups: _Three | None, count: int) -> list[Range | None]:
    if groups is None:
        return [None] * count
    return [Range(*three) for three in zip(*(column.tolist() for column in groups), strict=True)]
