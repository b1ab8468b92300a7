"""What the items of a processor did in one version under the same parameters: a record that grows and stays small.

It keeps what a range of the next run needs and no more: of each group how many items there were and the moments of
their seconds and costs (of the amounts and of their logarithms); a sketch of both over all groups, for the shape; of
each of the latest runs its mean level by group, which tells how far runs differ as wholes, and what items do not tell
at all (how long until the first one began, how long slots stood empty between items); and how many tries items took.

Records of parts add up to the record of the whole. Past `MAX_GROUPS` groups and `MAX_RUNS` runs the smallest groups
become one, and the oldest runs keep their items but lose their names: no number of items makes it larger than about
400 kB of JSON, and that of twenty groups has 10 kB. Columns of different lengths, or amounts that are no numbers, are
refused by ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.domain.moments import Group, Level, Run, RunFacts, trimmed_groups, trimmed_runs
from planner.domain.sketch import Floats, Sketch
from planner.domain.tries import MAX_TRIES, End

__all__ = ["MAX_GROUPS", "MAX_RUNS", "History", "HistoryKey", "Outcomes"]

LEAST_SECONDS = 1e-6
"""What no clock could see took so long."""
MAX_GROUPS = 1_024
MAX_RUNS = 24
MAX_RUN_GROUPS = 48
"""Groups of a run that are kept apart: enough to compare runs of different mixtures."""
_FORMAT = 1


@dataclass(frozen=True, order=True)
class HistoryKey:
    """Whose record it is. parameters: what stands for them, "" for none."""

    processor: str
    version: str
    parameters: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Settled items of one run, as columns, in any order; a run may come in several batches.

    run_ms: when the run began; max_tries: of its stage; groups: of each item; seconds: how long it held slots, all its
    attempts together; cost_micros: the same of its cost; tries: attempts that failed and counted; failed: it ended
    failed.
    """

    run: str
    run_ms: int
    max_tries: int
    groups: Sequence[str]
    seconds: Floats
    cost_micros: Floats
    tries: NDArray[np.int64]
    failed: NDArray[np.bool_]

    def __post_init__(self) -> None:
        sizes = {len(self.groups), self.seconds.size, self.cost_micros.size, self.tries.size, self.failed.size}
        if len(sizes) != 1:
            raise ValueError(f"columns of outcomes have {sorted(sizes)} rows")
        for name in ("seconds", "cost_micros"):
            column = getattr(self, name)
            if not (np.isfinite(column).all() and (column >= 0).all()):
                raise ValueError(f"{name} of an outcome is negative or no number")


@dataclass(frozen=True)
class History:
    """groups, others: records by group, and of what fell together; seconds, costs: sketches of what is above 0;
    ends: (tries, how it ended) -> items; runs: the latest ones, by id."""

    groups: Mapping[str, Group] = field(default_factory=dict)
    others: Group = field(default_factory=Group)
    seconds: Sketch = field(default_factory=Sketch)
    costs: Sketch = field(default_factory=Sketch)
    ends: Mapping[tuple[int, End], int] = field(default_factory=dict)
    runs: Mapping[str, Run] = field(default_factory=dict)

    @property
    def items(self) -> int:
        return sum(self.ends.values())

    @property
    def cost_money(self) -> bool:
        """Whether any item did."""
        return bool(self.costs.bins)

    @property
    def failed_share(self) -> float:
        """Of items that ended failed; 0 where there are none."""
        return sum(count for (_, end), count in self.ends.items() if end is not End.COMPLETED) / max(self.items, 1)

    @classmethod
    def of(cls, outcomes: Outcomes, facts: RunFacts | None = None) -> History:
        """The record of a batch. facts: of its run, once, when it has ended."""
        seconds = np.maximum(outcomes.seconds, LEAST_SECONDS)
        codes: dict[str, int] = {}
        place = np.fromiter((codes.setdefault(name, len(codes)) for name in outcomes.groups), np.int64)
        groups = {
            name: Group(seconds, cost, int(tries), int(failed))
            for name, seconds, cost, tries, failed in zip(
                codes,
                _levels(place, len(codes), seconds),
                _levels(place, len(codes), outcomes.cost_micros),
                np.bincount(place, outcomes.tries, len(codes)),
                np.bincount(place, outcomes.failed, len(codes)),
                strict=True,
            )
        }
        gave_up = outcomes.failed & (outcomes.tries >= outcomes.max_tries)
        ends = np.clip(outcomes.tries, 0, MAX_TRIES) * len(End) + outcomes.failed + gave_up
        counts = np.bincount(ends)
        means = {name: group.means() for name, group in groups.items()}
        run = Run(outcomes.run_ms, len(outcomes.groups), means, facts)
        return cls(
            groups=groups,
            seconds=Sketch.of(seconds),
            costs=Sketch.of(outcomes.cost_micros[outcomes.cost_micros > 0]),
            ends={(end // len(End), End(end % len(End))): int(counts[end]) for end in np.flatnonzero(counts).tolist()},
            runs={outcomes.run: run},
        )._trimmed()

    def __add__(self, other: History) -> History:
        groups = dict(self.groups)
        for name, group in other.groups.items():
            groups[name] = groups[name] + group if name in groups else group
        ends = dict(self.ends)
        for end, count in other.ends.items():
            ends[end] = ends.get(end, 0) + count
        runs = dict(self.runs)
        for name, run in other.runs.items():
            runs[name] = runs[name] + run if name in runs else run
        both = History(
            groups, self.others + other.others, self.seconds + other.seconds, self.costs + other.costs, ends, runs
        )
        return both._trimmed()

    def _trimmed(self) -> History:
        groups, rest = trimmed_groups(self.groups, MAX_GROUPS)
        runs = trimmed_runs(self.runs, MAX_RUNS, MAX_RUN_GROUPS)
        return replace(self, groups=groups, others=self.others + rest, runs=runs)

    def as_json(self) -> dict[str, Any]:
        """Lists and numbers alone; `of_json` makes the same record of it."""
        return {
            "format": _FORMAT,
            "groups": [[name, *group.row()] for name, group in sorted(self.groups.items())],
            "others": self.others.row(),
            "seconds": self.seconds.rows(),
            "costs": self.costs.rows(),
            "ends": [[tries, int(end), count] for (tries, end), count in sorted(self.ends.items())],
            "runs": [[name, *run.row()] for name, run in sorted(self.runs.items())],
        }

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> History:
        """Raises ValueError for a record of another format."""
        if kept.get("format") != _FORMAT:
            raise ValueError(f"a history of format {kept.get('format')!r}, {_FORMAT} is read")
        return cls(
            groups={name: Group.of_row(row) for name, *row in kept["groups"]},
            others=Group.of_row(kept["others"]),
            seconds=Sketch.of_rows(kept["seconds"]),
            costs=Sketch.of_rows(kept["costs"]),
            ends={(int(tries), End(end)): int(count) for tries, end, count in kept["ends"]},
            runs={name: Run.of_row(row) for name, *row in kept["runs"]},
        )


def _levels(place: NDArray[np.int64], groups: int, amounts: Floats) -> list[Level]:
    """The moments of a column by group."""
    above = amounts > 0
    place_above, some = place[above], amounts[above]
    logs = np.log(some)

    def sums(values: Floats) -> Floats:
        return np.asarray(np.bincount(place_above, values, groups), np.float64)

    counts = np.bincount(place_above, minlength=groups)
    zeros = np.bincount(place, minlength=groups) - counts
    columns = (sums(logs), sums(logs * logs), sums(some), sums(some * some))
    return [
        Level(int(count), int(zero), *(float(column[at]) for column in columns))
        for at, (count, zero) in enumerate(zip(counts, zeros, strict=True))
    ]
