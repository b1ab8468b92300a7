"""How plans look on a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from penstock.cli import show
from penstock.cli.estimate_text import print_estimate
from penstock.cli.rule_text import rule_lines
from penstock.cli.selecting import ordering_text, selection_text
from penstock.cli.source_text import print_groups, print_notices
from penstock.words import counted

if TYPE_CHECKING:
    from penstock.client import AsyncClient
    from penstock.client.plan_views import LeftOutView, PlanComparisonView, PlanView
    from penstock.client.source_views import NoticeView

__all__ = [
    "own_order_of",
    "print_comparison",
    "print_plan",
    "print_selected",
    "show_made",
    "source_text",
    "warning_text",
]

KEYS_SHOWN = 5
COMPARED_KEYS_SHOWN = 10
TO_CONFIRM = ": confirm to start it"


def _line(view: PlanView) -> str:
    """Id, items, groups: the last line of what made it."""
    count = len(view["groups"]) + view["more_groups"]
    groups = f" in {counted(count, 'group')}" if count else ""
    return f"{view['plan_id']}: {counted(view['item_count'], 'item')}{groups}"


async def show_made(client: AsyncClient, view: PlanView, *, as_json: bool, note: str = "") -> None:
    """A plan that a command made. note: what stands behind its last line."""
    if as_json:
        show.print_json(view)
        return
    print_plan(view, own_order=await own_order_of(client, view))
    show.say()
    show.say(_line(view) + note)


async def own_order_of(client: AsyncClient, view: PlanView) -> Sequence[str]:
    """The sort columns of a plan's source, where they are shown; none while they can't be told: the plan is made, and
    who made it is not to think otherwise."""
    from penstock.runtime.errors import PenstockError

    ordering = view["ordering"]
    if ordering is None or ordering["as_selected"] or ordering["sort"]:
        return ()
    try:
        return (await client.sources.get(view["source_id"])).sort
    except PenstockError:
        return ()


def print_plan(view: PlanView, *, own_order: Sequence[str] = ()) -> None:
    """own_order: the sort columns of its source, which stand in for those that nobody named."""
    named = f" {show.text(view['name'])}" if view["name"] else ""
    draft = " (a draft: kept for a day unless it is started or made without --draft)" if view["draft"] else ""
    show.say(f"Plan{named}: {counted(view['item_count'], 'item')}{draft}")
    facts = [
        ("id", view["plan_id"]),
        ("source", source_text(view)),
        ("selected", selection_text(view["selection"])),
        ("order", ordering_text(view["ordering"], own=own_order)),
        ("profile", view["profile"]),
        ("granularity", view["granularity"]),
        ("made by", view["actor"]),
        ("created", view["create_time"]),
    ]
    show.print_facts(facts)
    show.say()
    show.print_table(
        ("stage", "processor", "items", "concurrency", "tries", "seconds", "class", "parameters"),
        [
            (
                stage["stage"],
                f"{stage['processor']} {stage['processor_version']}",
                stage["item_count"],
                stage["concurrency"],
                stage["max_tries"],
                stage["max_run_seconds"],
                stage["worker_class"],
                json.dumps(stage["parameters"], ensure_ascii=False),
            )
            for stage in view["stages"]
        ],
    )
    _print_rules(view)
    if view["groups"] and (len(view["groups"]) > 1 or view["groups"][0]["group"]):
        show.say()
        print_groups(view["groups"], view["more_groups"])
    if view["left_out"]:
        show.say()
        _print_left_out(view["left_out"])
    print_estimate(view)
    _print_warnings(view)


def print_selected(view: PlanView, processor: str, *, own_order: Sequence[str] = (), confirmed: bool = False) -> None:
    """The summary before a question: what was selected, for whom, what is left out. confirmed: it was answered
    before."""
    show.say(f"{counted(view['item_count'], 'item')} for {processor} {view['stages'][0]['processor_version']}")
    show.print_facts(
        (
            ("source", source_text(view)),
            ("selected", selection_text(view["selection"])),
            ("order", ordering_text(view["ordering"], own=own_order)),
            ("plan", view["plan_id"]),
        )
    )
    _print_rules(view)
    if len(view["groups"]) > 1:
        show.say()
        print_groups(view["groups"], view["more_groups"], most=10)
    if view["left_out"]:
        show.say()
        _print_left_out(view["left_out"])
    print_estimate(view, groups=10)
    _print_warnings(view, confirmed=confirmed)


def source_text(view: PlanView) -> str:
    """Name and version; says when it has moved on."""
    named = f"{view['source_name']} version {view['source_version']}" if view["source_name"] else view["source_id"]
    return named + (" (it has moved on since; the plan is what it was)" if view["source_moved"] else "")


def _print_left_out(left_out: list[LeftOutView]) -> None:
    show.print_table(
        ("left out", "items", "the first"),
        [(one["reason"], f"{one['count']:,}", _some(one["keys"], one["count"], KEYS_SHOWN)) for one in left_out],
    )


def _print_warnings(view: PlanView, *, confirmed: bool = False) -> None:
    if view["warnings"]:
        show.say()
        told = [{**one, "message": warning_text(one["message"], confirmed=confirmed)} for one in view["warnings"]]
        print_notices(cast("list[NoticeView]", told), "warning")


def warning_text(message: str, *, confirmed: bool) -> str:
    """Who has confirmed already is not asked to."""
    return message.removesuffix(TO_CONFIRM) if confirmed else message


def _print_rules(view: PlanView) -> None:
    found = [(stage["stage"], line) for stage in view["stages"] for line in rule_lines(stage["rules"])]
    if found:
        show.say()
    for stage, line in found:
        show.say(show.text(f"rule of stage {stage}: {line}"))


def print_comparison(view: PlanComparisonView, *, one: str, other: str) -> None:
    if not any(view[f"{what}_count"] for what in ("added", "removed", "moved", "changed")) and not view["settings"]:  # type: ignore[literal-required]
        show.say(f"{one} and {other} run the same items in the same order, set alike")
        return
    show.say(f"from {one} to {other}")
    show.say()
    show.print_table(
        ("items", "count", "the first"),
        [
            ("added", f"{view['added_count']:,}", _some(view["added"], view["added_count"])),
            ("removed", f"{view['removed_count']:,}", _some(view["removed"], view["removed_count"])),
            ("moved", f"{view['moved_count']:,}", _some(view["moved"], view["moved_count"])),
            ("changed", f"{view['changed_count']:,}", _some(view["changed"], view["changed_count"])),
        ],
    )
    if view["settings"]:
        show.say()
        for sentence in view["settings"]:
            show.say(show.text(sentence))


def _some(keys: list[str], count: int, most: int = COMPARED_KEYS_SHOWN) -> str:
    return ", ".join(keys[:most]) + (", …" if keys and count > most else "")
