"""A run as text: its state and share, its stages, money, speed, what runs, what failed, and why it waits."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any

from penstock.amounts import time_range, time_text
from penstock.cli import show
from penstock.words import counted

if TYPE_CHECKING:
    from penstock.client.operator_views import ExplanationView, SummaryView
    from penstock.client.views import MoneyView, RunView
    from penstock.v1 import scheduler_pb2

__all__ = [
    "counts_of",
    "hint",
    "money_short",
    "money_text",
    "print_commanded",
    "print_explanation",
    "print_run",
    "print_summary",
    "share_of",
    "state_of",
]


def state_of(run: scheduler_pb2.Run) -> str:
    from penstock.client.views import run_state

    return run_state(run.state)


def counts_of(run: scheduler_pb2.Run) -> scheduler_pb2.ItemCounts:
    """Counts of what the user gave: the first stage. Later stages have items of their own, as the one collection."""
    return run.stages[0].counts if run.stages else run.counts


def share_of(run: scheduler_pb2.Run) -> float:
    """How much was executed, from 0 to 1; of documents as their job tells it."""
    from penstock.client.jobs import job_status
    from penstock.v1 import planner_pb2

    if run.kind == planner_pb2.SOURCE_KIND_DOCUMENTS:
        return job_status(run)["progress"] / 100
    counts = counts_of(run)
    return (counts.completed + counts.failed) / counts.total if counts.total else 0.0


def money_text(money: MoneyView) -> str:
    """`$1.20 spent, $0.30 reserved of $5.00`; empty where there is none and no cap."""
    from penstock.words import dollars

    cap = money["budget_micros"]
    if cap is None and not money["spent_micros"] and not money["reserved_micros"]:
        return ""
    words = f"{dollars(money['spent_micros'])} spent"
    if money["reserved_micros"]:
        words += f", {dollars(money['reserved_micros'])} reserved"
    if cap is not None:
        words += f" of {dollars(cap)}"
    parts = [
        f"{dollars(money[name])} {word}"  # type: ignore[literal-required]
        for name, word in (
            ("overrun_micros", "over what was reserved"),
            ("unknown_micros", "at prices nobody told yet"),
        )
        if money[name]  # type: ignore[literal-required]
    ]
    return words + (f" ({', '.join(parts)})" if parts else "")


def money_short(money: MoneyView) -> str:
    """`$1.20 of $5.00`; empty where there is none and no cap."""
    from penstock.words import dollars

    cap = money["budget_micros"]
    if cap is None:
        return dollars(money["spent_micros"]) if money["spent_micros"] else ""
    return f"{dollars(money['spent_micros'])} of {dollars(cap)}"


def hint(run: scheduler_pb2.Run) -> str:
    """What a person can do about a run that waits for one; empty for any other."""
    kind, _, rest = run.waiting.partition(" ")
    if kind == "gate":
        return f"answer it: penstock gates approve {run.number} {rest}"
    if kind == "budget:" and (unpriced := re.search(r"nobody knows what an item of (\S+) costs", rest)):
        return f"set its price: penstock budgets price {unpriced[1]} DOLLARS"
    if run.waiting.startswith("budget"):
        of = re.search(r"of the cap of stage (\d+)$", rest)
        return f"raise the cap: penstock budgets set {run.number} DOLLARS" + (f" --stage {of[1]}" if of else "")
    return ""


def print_run(run: scheduler_pb2.Run) -> None:
    """The run with its stages."""
    from penstock.client.views import run_view

    view = run_view(run)
    _print_head(run, view)
    _print_stages(view)


def print_summary(run: scheduler_pb2.Run, summary: SummaryView) -> None:
    """The same with speed, time left, what runs and what failed."""
    view = summary["run"]
    _print_head(run, view, summary)
    _print_stages(view)
    if summary["running"]:
        say_title("running now")
        show.print_table(
            ("item", "key", "attempt", "for", "doing", "worker"),
            [
                (
                    f"{item['stage']}/{item['seq']}",
                    item["key"],
                    item["attempt"],
                    _age(item["start_time"]),
                    " ".join(filter(None, (item["mode"] if item["mode"] != "work" else "", item["phase"])))
                    + (f" {show.percent(item['progress'])}%" if item["progress"] else ""),
                    item["worker"],
                )
                for item in summary["running"]
            ],
        )
    if summary["failures"]:
        left = summary["failure_groups"] - len(summary["failures"])
        say_title("failed attempts, equal ones together" + (f" ({left} more kinds)" if left > 0 else ""))
        show.print_table(
            ("count", "kind", "fingerprint", "latest", "example", "error"),
            [
                (
                    group["count"],
                    group["kind"],
                    group["fingerprint"],
                    _ago(group["last_time"]),
                    f"{group['example_stage']}/{group['example_seq']} {group['example_key']}",
                    group["example_error"],
                )
                for group in summary["failures"]
            ],
        )


def print_commanded(answer: scheduler_pb2.RunCommandResponse, what: str, *, as_json: bool) -> None:
    """What a command did; `what` is its name."""
    from penstock.client.views import run_view

    if as_json:
        show.print_json({"run": run_view(answer.run), "changed": answer.changed})
        return
    run = answer.run
    if what == "updated":
        show.say(f"run {run.number} is " + ("updated" if answer.changed else "so already"))
        return
    still = "" if run.quiesced or what == "resume" else ", what is running finishes first"
    show.say(f"run {run.number} is {state_of(run)}{still if answer.changed else ' already'}")


def print_explanation(subject: str, view: ExplanationView) -> None:
    """Why something does not run, the nearest reason first."""
    show.say(f"{subject} is {show.text(view['state'])}.")
    if not view["reasons"]:
        show.say("  Nothing holds it.")
    for reason in view["reasons"]:
        when = [f"since {reason['since_time']}"] if reason["since_time"] else []
        when += [f"until {reason['until_time']}"] if reason["until_time"] else []
        show.say(f"  {show.text(reason['text'])}" + (f" ({', '.join(when)})" if when else ""))
        if reason["change"]:
            show.say(f"    → {show.text(reason['change'])}")
    if view["ahead"]:
        show.say(f"  Before it: {counted(view['ahead'], 'item')} of its stage.")


def say_title(words: str) -> None:
    show.say()
    show.say(words[0].upper() + words[1:] + ":")


def _print_head(run: scheduler_pb2.Run, view: RunView, summary: SummaryView | None = None) -> None:
    name = f" {show.text(run.name)}" if run.name else ""
    why = run.waiting or run.error
    show.say(f"Run {run.number}{name}: {view['state']}" + (f" ({show.text(why)})" if why else ""))
    owner = show.text(run.owner) + (f", priority {run.priority}" if run.priority else "") if run.owner else ""
    facts: list[tuple[str, Any]] = [
        ("id", view["run_id"]),
        ("plan", view["plan_id"]),
        ("clone of", view["cloned_from"]),
        ("owner", owner),
        ("alone on", ", ".join(view["exclusive_keys"])),
        ("created", view["create_time"]),
        ("ended", view["end_time"]),
        ("archived", "its items are read from the archive" if view["archived"] else ""),
        ("plan removed", "it is only read" if view["plan_removed"] else ""),
        ("money", money_text(view["money"])),
    ]
    if summary is not None and not view["end_time"]:
        facts += [("speed", _speed(summary)), ("ends", _eta(summary))]
    facts.append(("next", hint(run)))
    show.print_facts(facts)
    show.say()


def _print_stages(view: RunView) -> None:
    from penstock.words import dollars

    stages = view["stages"]
    # Seldom anything but 0: shown where they are needed to make the numbers add up.
    rare = [name for name in ("deferred", "stopped", "skipped") if any(stage["counts"][name] for stage in stages)]
    paid = any(stage["money"]["spent_micros"] for stage in stages)
    capped = any(stage["money"]["budget_micros"] is not None for stage in stages)
    healed = any(stage["healed"] for stage in stages)
    show.print_table(
        (
            *("stage", "processor", "state", "items", "completed", "failed", "running", "waiting"),
            *rare,
            *(("healed",) if healed else ()),
            *(("spent",) if paid or capped else ()),
            *(("cap",) if capped else ()),
            "error",
        ),
        [
            (
                stage["stage"],
                f"{stage['processor']} {stage['processor_version']}",
                stage["state"],
                stage["counts"]["total"],
                stage["counts"]["completed"],
                stage["counts"]["failed"],
                stage["counts"]["running"],
                stage["counts"]["queued"] + stage["counts"]["retry"],
                *(stage["counts"][name] for name in rare),  # type: ignore[literal-required]
                *((stage["healed"],) if healed else ()),
                *((dollars(stage["money"]["spent_micros"]),) if paid or capped else ()),
                *((_cap(stage["money"]),) if capped else ()),
                stage["error"],
            )
            for stage in stages
        ],
    )


def _cap(money: MoneyView) -> str | None:
    from penstock.words import dollars

    return None if money["budget_micros"] is None else dollars(money["budget_micros"])


def _speed(summary: SummaryView) -> str:
    throughput = summary["throughput"]
    rate = throughput["items_per_second"]
    told = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
    return f"{told} items/s, {throughput['last_hour']:,} in the last hour"


def _eta(summary: SummaryView) -> str:
    eta = summary["eta"]
    if not eta["known"]:
        why = eta["reason"] or ""
        return why if why.startswith("not known") else "not known yet" + (f": {why}" if why else "")
    early, late = (_seconds_from_now(eta[name]) for name in ("early_time", "late_time"))
    return f"in {time_range(max(early, 0), max(late, 0))}"


def _moment(time: str) -> dt.datetime:
    return dt.datetime.fromisoformat(time.replace("Z", "+00:00"))


def _seconds_from_now(time: str | None) -> float:
    return (_moment(time) - dt.datetime.now(dt.UTC)).total_seconds() if time else 0.0


def _age(time: str | None) -> str:
    return time_text(max(-_seconds_from_now(time), 0)) if time else ""


def _ago(time: str | None) -> str:
    return f"{_age(time)} ago" if time else ""
