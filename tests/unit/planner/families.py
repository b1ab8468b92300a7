"""Families of plans and processors that estimates are held to: of each, many runs, and how often the range held."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from planner.domain.estimates import Estimate, estimate
from planner.domain.history import HistoryKey
from planner.domain.judging import Comparison, compare
from planner.domain.sampling import sample_seqs
from planner.domain.tries import Backoff
from planner.domain.work import Limit, StageWork
from tests.unit.planner.simulated import Bucket, Played, Processor, measured, play

__all__ = ["FAMILIES", "Family", "Judged", "judged"]

Random = np.random.Generator
KEY = HistoryKey("simulated", "2", "standard")
SCHEDULER_BACKOFF = Backoff()


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of plan. items: of the plan, by group; history: items of each run before it (0 runs: a sample of
    `sample` items instead); unknown: groups that it never saw; tried: the bound of tries that it had, where that was
    another one; drawn_run_spread: each processor's runs differ so much, about; most: how often a range may hold."""

    name: str
    processor: Processor = field(default_factory=Processor)
    items: Mapping[str, int]
    lanes: int = 16
    history: Sequence[int] = (150,) * 6
    unknown: Sequence[str] = ()
    buckets: Sequence[Bucket] = ()
    sample: int = 0
    tried: int = 0
    drawn_run_spread: float = 0.0
    near: bool = False
    stages: int = 1
    most: float = 0.88


@dataclass(frozen=True)
class Judged:
    """Comparisons of a family's runs, of runtime, cost and every group's runtime and cost."""

    runtime: Sequence[Comparison]
    cost: Sequence[Comparison]
    of_groups: Sequence[Comparison]


def judged(family: Family, runs: int, *, seed: int) -> Judged:
    runtime: list[Comparison] = []
    cost: list[Comparison] = []
    of_groups: list[Comparison] = []
    for number in range(runs):
        random = np.random.default_rng([seed, zlib.crc32(family.name.encode()), number])
        told, played = _one(family, random, f"plan-{seed}-{number}")
        assert told.runtime is not None
        assert told.cost is not None
        runtime.append(compare(told.runtime, sum(one.seconds for one in played)))
        cost.append(compare(told.cost, sum(one.cost_micros for one in played)))
        if len(family.items) > 1:
            for stage, one in zip(told.stages, played, strict=True):
                for group in stage.groups:
                    assert group.runtime is not None
                    of_groups.append(compare(group.runtime, one.of_groups[group.name]))
    return Judged(runtime, cost, of_groups)


def _one(family: Family, random: Random, plan: str) -> tuple[Estimate, list[Played]]:
    """A processor, its history, the estimate of a plan, and the run of it."""
    names = list(family.items)
    groups = [name for name, count in family.items.items() for _ in range(count)]
    works, known, played = [], {}, []
    for stage in range(family.stages):
        processor = family.processor.with_groups(random, names)
        if family.drawn_run_spread:
            processor = replace(processor, run_spread=abs(random.normal(0.0, family.drawn_run_spread)))
        key = replace(KEY, processor=f"simulated-{stage}")
        before = replace(processor, max_tries=family.tried or processor.max_tries)
        if family.sample:
            number = {name: at for at, name in enumerate(names)}
            codes = np.array([number[name] for name in groups])
            chosen = [groups[seq] for seq in sample_seqs(plan, codes, family.sample)]
            known[key] = measured(before, random, [chosen])
        else:
            mixed = [name for name in groups if name not in family.unknown]
            runs = [[mixed[at] for at in random.integers(0, len(mixed), count)] for count in family.history]
            known[replace(key, version="1") if family.near else key] = measured(before, random, runs)
        works.append(
            StageWork(
                key=key,
                items=family.items,
                concurrency=family.lanes,
                max_tries=processor.max_tries,
                limits=_limits(family.buckets, len(groups)),
                backoff=Backoff(processor.backoff_seconds),
            )
        )
        if family.near:
            shift = random.normal(0.0, processor.drift)
            processor = replace(processor, levels={name: level + shift for name, level in processor.levels.items()})
        items = processor.items(random, groups)
        played.append(
            play(items, lanes=family.lanes, buckets=family.buckets, backoff_seconds=processor.backoff_seconds)
        )
    return estimate(plan, works, known), played


def _limits(buckets: Sequence[Bucket], items: int) -> list[Limit]:
    found = []
    for number, bucket in enumerate(buckets):
        rated = np.isfinite(bucket.flow)
        # What the scheduler lets flow in is less than the rate by what the burst is over one request.
        per_minute = bucket.flow * 60 + max(bucket.burst - 1, 0.0) if rated else 0.0
        found.append(
            Limit(
                key=f"provider:{number}",
                items=round(items * bucket.share),
                concurrency=bucket.at_once if bucket.at_once < items else None,
                per_minute=per_minute,
                burst=bucket.burst if rated else 0.0,
            )
        )
    return found


def _even(groups: int, each: int) -> dict[str, int]:
    return {f"group {number}": each for number in range(groups)}


def _uneven(groups: int, least: int) -> dict[str, int]:
    return {f"group {number}": least * (1 + number % 5) for number in range(groups)}


ONE = {"all": 400}
FAMILIES: Sequence[Family] = (
    Family(name="light tail", items=ONE),
    # That runs never differ can't be seen in eight of them: a range leaves room for what may be.
    Family(name="runs never differ", processor=Processor(run_spread=0.0), items=ONE, most=1.0),
    Family(name="heavy tail", processor=Processor(spread=1.3), items=ONE),
    Family(
        name="bimodal",
        processor=Processor(spread=0.2, modes=((0.75, 2.0), (0.25, 40.0))),
        items=ONE,
        history=(300,) * 6,
    ),
    Family(name="failures and retries", processor=Processor(failing=0.2, max_tries=3), items=ONE),
    Family(name="more tries than before", processor=Processor(failing=0.4, max_tries=5), items=ONE, tried=2),
    Family(name="rate limit", processor=Processor(failing=0.1), items=ONE, buckets=[Bucket(flow=2.0, burst=10.0)]),
    Family(
        name="limit of some items",
        processor=Processor(spread=0.8),
        items=ONE,
        buckets=[Bucket(share=0.4, at_once=4)],
    ),
    Family(name="groups differ", processor=Processor(group_spread=0.8), items=_uneven(12, 20)),
    Family(
        name="groups not known",
        processor=Processor(group_spread=0.5),
        items=_even(20, 30),
        unknown=[f"group {number}" for number in range(0, 20, 2)],
    ),
    Family(name="runs differ", processor=Processor(run_spread=0.25), items=ONE),
    Family(
        name="runs and groups differ",
        processor=Processor(run_spread=0.2, group_spread=0.6, spread=0.6),
        items=_uneven(8, 25),
    ),
    Family(name="one run before", items=ONE, history=(300,), drawn_run_spread=0.15),
    Family(name="small history", processor=Processor(spread=0.7), items=ONE, history=(8, 8, 8, 8)),
    Family(name="small history, heavy tail", processor=Processor(spread=1.2), items=ONE, history=(10, 10, 10, 10)),
    Family(name="large history", processor=Processor(spread=0.7), items={"all": 1_500}, history=(800,) * 10, lanes=64),
    Family(name="few items", processor=Processor(spread=0.7), items={"all": 40}),
    Family(name="fewer items than slots", processor=Processor(spread=0.7), items={"all": 12}),
    Family(
        name="short items",
        processor=Processor(spread=0.5, modes=((1.0, 0.05),), gap=0.02, startup=6.0),
        items={"all": 1_000},
    ),
    Family(name="many are free", processor=Processor(free=0.4), items=ONE),
    Family(
        name="sample run first",
        processor=Processor(group_spread=0.5),
        items=_even(10, 60),
        sample=40,
        drawn_run_spread=0.15,
    ),
    Family(name="another version", processor=Processor(drift=0.3), items=ONE, near=True),
    Family(name="two stages", processor=Processor(spread=0.8), items={"all": 200}, stages=2),
)
