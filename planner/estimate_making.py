"""An estimate out of a plan's stages and what is known of their processors, as the message that every face shows.

Imported late: numpy takes a tenth of a second. Pure but for the messages; calls take up to a tenth of a second of CPU.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from penstock.v1 import planner_pb2
from planner.domain import estimates
from planner.domain.estimate_words import cost_words, rest_words, runtime_words, total_words
from planner.domain.history import History, HistoryKey
from planner.domain.resting import Rest, history_for
from planner.domain.tries import End
from planner.domain.work import StageWork

__all__ = ["OTHERS", "made", "nearest"]

OTHERS = "\0others"
"""Stands for all groups past those that are listed."""


def nearest(
    works: Sequence[StageWork], sizes: Mapping[HistoryKey, int], costly: Collection[HistoryKey]
) -> list[HistoryKey]:
    """The records that estimates of these stages rest on. sizes: of how many items there are records; costly: those in
    which any cost money: of paid work the nearest one of them, too."""
    sized = {key: History(ends={(0, End.COMPLETED): items}) for key, items in sizes.items()}
    paid = {key: sized[key] for key in costly if key in sized}
    rests = [history_for(work.key, sized)[0] for work in works]
    rests += [history_for(work.key, paid)[0] for work in works if work.paid]
    return list(dict.fromkeys(rest.key for rest in rests if rest.key is not None))


def made(
    plan_id: str,
    works: Sequence[StageWork],
    known: Mapping[HistoryKey, History],
    *,
    profiles: Mapping[str, Sequence[StageWork]],
    notes: Sequence[str] = (),
) -> planner_pb2.Plan:
    """The estimate of a plan, and of the same items under each profile, as a Plan message that has nothing else."""
    own = estimates.estimate(plan_id, works, known)
    others = {name: other for name, other in profiles.items() if list(other) != list(works)}
    found = estimates.estimate_profiles(plan_id, others, known)
    return planner_pb2.Plan(
        estimate=_message(own, works, notes, groups=True),
        profiles=[
            planner_pb2.ProfileEstimate(
                profile=name,
                estimate=_message(found.get(name, own), other, (), groups=False),
                concurrency=other[0].concurrency,
                max_tries=other[0].max_tries,
            )
            for name, other in profiles.items()
        ],
    )


def _message(
    told: estimates.Estimate, works: Sequence[StageWork], notes: Sequence[str], *, groups: bool
) -> planner_pb2.Estimate:
    return planner_pb2.Estimate(
        runtime_seconds=_range(told.runtime),
        cost_micros=_range(told.cost),
        stages=[
            planner_pb2.StageEstimate(
                stage=number,
                processor=work.key.processor,
                items=work.count,
                runtime_seconds=_range(stage.runtime),
                cost_micros=_range(stage.cost),
                runtime_rest=_rest(stage.runtime_rest),
                cost_rest=_rest(stage.cost_rest),
                bound=stage.bound,
                failed_share=stage.failed_share,
                words=f"runtime: {runtime_words(stage.runtime, stage.runtime_rest)}; "
                f"cost: {cost_words(stage.cost, stage.cost_rest)}",
                groups=[
                    planner_pb2.GroupEstimate(
                        group=group.name,
                        items=group.items,
                        runtime_seconds=_range(group.runtime),
                        cost_micros=_range(group.cost),
                    )
                    for group in stage.groups
                    if groups and group.name != OTHERS
                ],
            )
            for number, (stage, work) in enumerate(zip(told.stages, works, strict=True))
        ],
        words=total_words(told),
        notes=notes,
    )


def _range(told: estimates.Range | None) -> planner_pb2.Range | None:
    return None if told is None else planner_pb2.Range(low=told.low, middle=told.middle, high=told.high)


def _rest(rest: Rest) -> planner_pb2.EstimateRest:
    key = rest.key or HistoryKey("", "")
    return planner_pb2.EstimateRest(
        basis=str(rest.basis),
        processor=key.processor,
        version=key.version,
        parameters=key.parameters,
        items=rest.items,
        runs=rest.runs,
        words=rest_words(rest),
    )
