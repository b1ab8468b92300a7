"""The parts of a history: moments of groups, levels of runs. Each adds up and is kept as a row of numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

import numpy as np

from planner.domain.sketch import Floats

__all__ = ["Group", "Level", "Mean", "Run", "RunFacts", "run_facts", "trimmed_groups", "trimmed_runs"]


@dataclass(frozen=True)
class Level:
    """Moments of amounts: how many were above 0 and how many were 0; the sums of their logarithms and of the squares of
    these, of the amounts and of their squares."""

    above: int = 0
    zeros: int = 0
    log_sum: float = 0.0
    log_squares: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: Level) -> Level:
        return Level(
            self.above + other.above,
            self.zeros + other.zeros,
            self.log_sum + other.log_sum,
            self.log_squares + other.log_squares,
            self.total + other.total,
            self.squares + other.squares,
        )

    def row(self) -> tuple[int, int, float, float, float, float]:
        return self.above, self.zeros, self.log_sum, self.log_squares, self.total, self.squares


@dataclass(frozen=True)
class Mean:
    """How many amounts of a run were above 0, and the sum of their logarithms."""

    count: int = 0
    log_sum: float = 0.0

    def __add__(self, other: Mean) -> Mean:
        return Mean(self.count + other.count, self.log_sum + other.log_sum)


@dataclass(frozen=True)
class Group:
    """What the items of a group took: seconds, and cost in micro-dollars; their tries, and how many ended failed."""

    seconds: Level = field(default_factory=Level)
    cost: Level = field(default_factory=Level)
    tries: int = 0
    failed: int = 0

    @property
    def items(self) -> int:
        return self.seconds.above + self.seconds.zeros

    def __add__(self, other: Group) -> Group:
        tries, failed = self.tries + other.tries, self.failed + other.failed
        return Group(self.seconds + other.seconds, self.cost + other.cost, tries, failed)

    def means(self) -> tuple[Mean, Mean]:
        return Mean(self.seconds.above, self.seconds.log_sum), Mean(self.cost.above, self.cost.log_sum)

    def row(self) -> list[float]:
        return [*self.seconds.row(), *self.cost.row(), self.tries, self.failed]

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Group:
        return cls(Level(*row[:6]), Level(*row[6:12]), *row[12:])


@dataclass(frozen=True)
class RunFacts:
    """What a run's items do not tell.

    startup_seconds: from the start of the stage until its first item began; gap_seconds: how long a slot stood empty
    for each item that began, while items waited; None where that says nothing, e.g. since limits held the items.
    """

    startup_seconds: float
    gap_seconds: float | None = None


def run_facts(
    begins: Floats, ends: Floats, *, start_seconds: float, slots: int, limited: bool = False
) -> RunFacts | None:
    """The facts of a run's stage from when its attempts began and ended (seconds of one clock).

    slots: that it could use; limited: rates or limits held its items back. Slots are looked at up to the last
    beginning: as long as something waited, an empty one is a loss. None without attempts.
    """
    if not begins.size:
        return None
    first, last = float(begins.min()), float(begins.max())
    startup = max(first - start_seconds, 0.0)
    later = begins.size - slots
    if limited or later < slots:
        return RunFacts(startup)
    busy = float((np.minimum(ends, last) - begins).sum())
    return RunFacts(startup, max(slots * (last - first) - busy, 0.0) / later)


_Means = tuple[Mean, Mean]


@dataclass(frozen=True)
class Run:
    """A run: when it began, its items, and the mean levels (seconds, cost) of its largest groups."""

    run_ms: int
    items: int
    groups: Mapping[str, _Means]
    facts: RunFacts | None = None

    def __add__(self, other: Run) -> Run:
        groups = dict(self.groups)
        for name, (seconds, cost) in other.groups.items():
            mine = groups.get(name, (Mean(), Mean()))
            groups[name] = mine[0] + seconds, mine[1] + cost
        return Run(min(self.run_ms, other.run_ms), self.items + other.items, groups, self.facts or other.facts)

    def row(self) -> list[Any]:
        cells = [
            [name, seconds.count, seconds.log_sum, cost.count, cost.log_sum]
            for name, (seconds, cost) in sorted(self.groups.items())
        ]
        return [self.run_ms, self.items, cells, list(astuple(self.facts)) if self.facts else None]

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Run:
        run_ms, items, cells, facts = row
        groups = {name: (Mean(*numbers[:2]), Mean(*numbers[2:])) for name, *numbers in cells}
        return cls(run_ms, items, groups, RunFacts(*facts) if facts else None)


def trimmed_groups(groups: Mapping[str, Group], most: int) -> tuple[Mapping[str, Group], Group]:
    """The `most` largest groups, and the sum of the others."""
    rest = Group()
    if len(groups) <= most:
        return groups, rest
    ordered = sorted(groups, key=lambda name: (-groups[name].items, name))
    for name in ordered[most:]:
        rest += groups[name]
    return {name: groups[name] for name in ordered[:most]}, rest


def trimmed_runs(runs: Mapping[str, Run], most: int, most_groups: int) -> Mapping[str, Run]:
    """The latest `most` runs, each with its `most_groups` largest groups."""
    latest = sorted(runs, key=lambda name: (-runs[name].run_ms, name))[:most]
    return {name: _trimmed(runs[name], most_groups) for name in latest}


def _trimmed(run: Run, most: int) -> Run:
    if len(run.groups) <= most:
        return run
    ordered = sorted(run.groups, key=lambda name: (-run.groups[name][0].count, name))
    return replace(run, groups={name: run.groups[name] for name in ordered[:most]})
