"""How estimates look on a terminal: a line for the whole, a table of stages, one of groups; and how good they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.amounts import money_range, money_text, time_range, time_text
from penstock.cli import show

if TYPE_CHECKING:
    from penstock.client.estimate_views import (
        EstimatePageView,
        JudgedView,
        ProfileEstimateView,
        RangeView,
        StageEstimateView,
    )
    from penstock.client.plan_views import PlanView

__all__ = ["print_estimate", "print_estimates"]

GROUPS_SHOWN = 12


def print_estimate(view: PlanView, *, groups: int = GROUPS_SHOWN) -> None:
    """Nothing for a plan that was made without."""
    from penstock.client.estimate_views import is_known

    told = view["estimate"]
    if told is None:
        return
    show.say()
    show.say(f"estimate, for four of five runs: {told['words']}")
    for note in told["notes"]:
        show.say(f"  but {show.text(note)}")
    if not is_known(told):
        return
    show.print_table(
        ("stage", "items", "runtime", "usually", "cost", "will fail", "bound by", "from"),
        [_stage(stage) for stage in told["stages"]],
    )
    _print_groups(told["stages"][0], groups)
    _print_profiles(view["profiles"])


def print_estimates(view: EstimatePageView) -> None:
    show.print_table(
        ("run", "plan", "told", "took", "off", "told to cost", "cost", "off"),
        [
            (
                one["number"],
                one["plan_name"] or one["plan_id"],
                *_judged(one["runtime_seconds"], _runtime, time_text),
                *_judged(one["cost_micros"], _cost, money_text),
            )
            for one in view["estimates"]
        ],
    )
    show.say()
    show.say(f"runtime: {view['runtime']['words']}")
    show.say(f"cost: {view['cost']['words']}")
    for note in view["notes"]:
        show.say(f"but {show.text(note)}")


def _stage(stage: StageEstimateView) -> tuple[object, ...]:
    failed, usual = stage["failed_share"], stage["runtime_seconds"]
    rest = stage["runtime_rest"] if usual is not None else stage["cost_rest"]
    return (
        f"{stage['stage']} {stage['processor']}",
        f"{stage['items']:,}",
        _runtime(usual),
        time_text(usual["p50"]) if usual is not None else None,
        _cost(stage["cost_micros"]),
        f"{failed:.1%}" if failed is not None else None,
        stage["bound"],
        rest["words"],
    )


def _print_groups(stage: StageEstimateView, most: int) -> None:
    groups = stage["groups"]
    if len(groups) < 2:
        return
    show.say()
    show.print_table(
        ("group", "items", "runtime", "cost"),
        [
            (one["group"], f"{one['items']:,}", _runtime(one["runtime_seconds"]), _cost(one["cost_micros"]))
            for one in groups[:most]
        ],
    )
    if len(groups) > most:
        show.say(f"… and {len(groups) - most:,} more groups (--json has them)")


def _print_profiles(profiles: list[ProfileEstimateView]) -> None:
    if not profiles:
        return
    show.say()
    show.print_table(
        ("profile", "concurrency", "tries", "runtime", "cost"),
        [
            (
                one["profile"],
                one["concurrency"],
                one["max_tries"],
                _runtime(one["estimate"]["runtime_seconds"]),
                _cost(one["estimate"]["cost_micros"]),
            )
            for one in profiles
        ],
    )


def _runtime(told: RangeView | None) -> str | None:
    return None if told is None else time_range(told["p10"], told["p90"])


def _cost(told: RangeView | None) -> str | None:
    return None if told is None else money_range(told["p10"], told["p90"])


def _judged(
    judged: JudgedView | None, told: Callable[[RangeView | None], str | None], actual: Callable[[float], str]
) -> tuple[str | None, ...]:
    if judged is None:
        return (None, None, None)
    off = judged["off"]
    missed = "within" if judged["within"] else f"{off:.2f} times" if off is not None else "∞"
    return told(judged["told"]), actual(judged["actual"]), missed
