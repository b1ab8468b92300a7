"""Why something does not run: the sentences. Pure: facts in, reasons out, the nearest first.

A reason says what holds the item or run, what would change that, since when and until when. Its code is stable, its
text is for people. What may start now has no reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from penstock.words import counted, dollars
from scheduler.domain.limits import OPEN
from scheduler.domain.states import ENDED_RUNS, ItemState, RunState, StageState

__all__ = [
    "KeyNow",
    "Reason",
    "RunNow",
    "StageNow",
    "away_reason",
    "key_reasons",
    "run_reasons",
    "stage_reasons",
    "wait_reasons",
]

NOTHING = "nothing is leased: "


@dataclass(frozen=True, kw_only=True)
class Reason:
    """items: how many of the run wait for just this, as far as was counted; more: that was not all of it."""

    code: str
    text: str
    change: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    key: str = ""
    items: int = 0
    more: bool = False


@dataclass(frozen=True, kw_only=True)
class RunNow:
    """since_ms, actor, reason: of its latest change of state, as far as it is known."""

    state: RunState
    waiting: str = ""
    error: str = ""
    since_ms: int | None = None
    actor: str = ""
    reason: str = ""
    end_ms: int | None = None
    archived: bool = False
    plan_removed: bool = False
    budget_micros: int | None = None
    committed_micros: int = 0


@dataclass(frozen=True, kw_only=True)
class StageNow:
    """gate: its name while it waits there; before: the stage that must end first, in words; worker_seen_ms: when a
    worker of its class last gave a sign; others: other runs that hold leases of the class, and how many; room: whether
    one of its workers has a free slot; trouble: why its class has not the workers that it wants, what would mend that,
    and since when."""

    stage: int
    state: StageState
    running: int
    concurrency: int
    worker_class: str
    failing: str = ""
    gate: str = ""
    gate_ms: int | None = None
    gate_due_ms: int | None = None
    before: str = ""
    budget_micros: int | None = None
    committed_micros: int = 0
    worker_seen_ms: int | None = None
    worker_silent_ms: int = 0
    others: tuple[int, int] = (0, 0)
    room: bool = False
    trouble: tuple[str, str, int] | None = None


@dataclass(frozen=True, kw_only=True)
class KeyNow:
    """A limit as it is for one key; held: leases now; used_up: one of its rates holds something back; items,
    more: as a reason has them."""

    key: str
    called: str
    name: str
    held: int
    concurrency: int | None
    state: str
    closed_until_ms: int | None
    used_up: bool = False
    reason: str = ""
    change_ms: int | None = None
    items: int = 0
    more: bool = False


def wait_reasons(
    state: ItemState, due_ms: int | None, tries: int, stopped: tuple[str, str, int] | None
) -> list[Reason]:
    """Of an item that waits by itself. `stopped`: who stopped all retries, why, when, where that is what it waits
    for."""
    if state is ItemState.DEFERRED:
        text = "it waits for something outside, as its last attempt asked for"
        return [Reason(code="deferred", text=text, change="release it to start it now", until_ms=due_ms)]
    if state is not ItemState.RETRY:
        return []
    reasons = []
    if stopped is not None:
        actor, why, since_ms = stopped
        text = f"all retries were stopped by {actor}" + (f": {why}" if why else "")
        reasons.append(Reason(code="retries_stopped", text=text, change="allow retries again", since_ms=since_ms))
    text = f"it failed and waits before its next try (tries so far: {tries})"
    return [*reasons, Reason(code="back_off", text=text, change="release it to start it now", until_ms=due_ms)]


def away_reason(why: str) -> Reason:
    """Of everything, while Redis can't be used."""
    text = f"{NOTHING}{why.removeprefix(NOTHING)}"
    change = "see to Redis: it is made anew from SQL as soon as it can be used"
    return Reason(code="redis_unavailable", text=text, change=change)


def key_reasons(keys: Sequence[KeyNow], now_ms: int) -> list[Reason]:
    """Of the limits that an item names, and of the valves of its stage and lane."""
    return [
        replace(reason, key=one.name, items=one.items, more=one.more)
        for one in keys
        if (reason := _key_reason(one, now_ms)) is not None
    ]


def _key_reason(one: KeyNow, now_ms: int) -> Reason | None:
    if one.closed_until_ms is None or one.closed_until_ms > max(now_ms, OPEN):
        text = f"{one.called} is closed" + (f": {one.reason}" if one.reason else "")
        until = one.closed_until_ms
        wait = "wait, or open it" if until is not None else "open it"
        return Reason(code="limit_closed", text=text, change=wait, since_ms=one.change_ms, until_ms=until)
    if one.concurrency is not None and one.held >= one.concurrency:
        caution = f" while it is {one.state}" if one.state not in ("", "open", "closed") else ""
        text = f"{one.called} is full: {one.held} of {one.concurrency} leases are held{caution}"
        change = "one of its leases ends, or its concurrency is raised"
        return Reason(code="limit_full", text=text, change=change)
    if one.used_up:
        text = f"a rate of {one.called} is used up for now: more flows in all the time"
        return Reason(code="limit_rate", text=text, change="wait, or raise its rate")
    return None


def stage_reasons(stage: StageNow, now_ms: int) -> list[Reason]:
    """Of a stage of a run that goes on."""
    if stage.state is StageState.WAITING:
        text = f"stage {stage.stage} waits at gate {stage.gate}"
        change = "approve or reject the gate"
        return [
            Reason(
                code="gate",
                text=text,
                change=change,
                since_ms=stage.gate_ms,
                until_ms=stage.gate_due_ms,
                key=stage.gate,
            )
        ]
    if stage.state is StageState.PENDING:
        return [Reason(code="stage_order", text=stage.before, change="the stage before it ends")]
    if stage.state is not StageState.RUNNING:
        return [
            Reason(code="stage_ended", text=f"stage {stage.stage} is {stage.state}", change="resume or reopen the run")
        ]
    reasons = []
    if stage.failing:
        text = f"stage {stage.stage} fails once nothing of it runs: {stage.failing}"
        reasons.append(Reason(code="stage_failing", text=text, change="retry its items when it has ended"))
    if stage.running >= stage.concurrency:
        text = f"stage {stage.stage} runs as many items as it may: {stage.running} of {stage.concurrency}"
        reasons.append(Reason(code="stage_full", text=text, change="one of them ends, or raise its concurrency"))
    reasons += _money(f"stage {stage.stage}", stage.budget_micros, stage.committed_micros)
    if stage.worker_seen_ms is None or now_ms - stage.worker_seen_ms > stage.worker_silent_ms:
        text = f"no worker of class {stage.worker_class} gives a sign"
        change, since = f"start a worker of class {stage.worker_class}", stage.worker_seen_ms
        if stage.trouble is not None:
            why, change, since = stage.trouble
            text = f"{text}: {why}"
        reasons.append(Reason(code="no_worker", text=text, change=change, since_ms=since))
    elif stage.trouble is not None:
        why, change, since = stage.trouble
        text = f"class {stage.worker_class} has fewer workers than it could use: {why}"
        reasons.append(Reason(code="few_workers", text=text, change=change, since_ms=since))
    runs, leases = stage.others
    if runs and not reasons and not stage.room:
        hold = f"{counted(runs, 'other run')} hold{'s' if runs == 1 else ''} {counted(leases, 'lease')}"
        text = f"{hold}; turns go by who holds fewest"
        reasons.append(Reason(code="turn", text=text, change="a worker comes free, or raise the run's priority"))
    return reasons


def run_reasons(run: RunNow) -> list[Reason]:
    """Of a run that does not go on; none for one that runs."""
    by = f" by {run.actor}" if run.actor else ""
    why = f": {run.reason}" if run.reason else ""
    if run.plan_removed:
        text = f"the run ended ({run.state.replace('_', ' ')}), and its plan was removed"
        # Of what completed whole nothing is left to run.
        change = "" if run.state is RunState.COMPLETED else "make a plan again"
        return [Reason(code="plan_removed", text=text, change=change, since_ms=run.end_ms)]
    if run.archived:
        text = f"the run ended ({run.state.replace('_', ' ')}) and is archived"
        return [Reason(code="run_archived", text=text, change="clone it", since_ms=run.end_ms)]
    if run.state in ENDED_RUNS:
        text = f"the run ended: {run.state.replace('_', ' ')}" + (f" ({run.error})" if run.error else "")
        change = _AFTER_END.get(run.state, "retry or re-run its items, or clone it")
        return [Reason(code="run_ended", text=text, change=change, since_ms=run.end_ms)]
    if run.state is RunState.PAUSED:
        return [
            Reason(code="run_paused", text=f"the run was paused{by}{why}", change="resume it", since_ms=run.since_ms)
        ]
    if run.state is RunState.STOPPING:
        text = f"the run is stopping: what runs finishes, nothing starts{why}"
        return [Reason(code="run_stopping", text=text, change="resume it when it has stopped", since_ms=run.since_ms)]
    if run.state is RunState.WAITING:
        if run.waiting.startswith("gate"):
            name = run.waiting.removeprefix("gate").strip()
            change = "approve or reject the gate"
            return [
                Reason(
                    code="gate", text=f"the run waits at {run.waiting}", change=change, since_ms=run.since_ms, key=name
                )
            ]
        return [
            Reason(
                code="budget",
                text=f"the run waits at a {run.waiting}" if run.waiting else "the run waits",
                change=_paid_for(run.waiting),
                since_ms=run.since_ms,
                key="run",
            )
        ]
    if run.state is RunState.QUEUED:
        return [Reason(code="run_queued", text="the run has not begun", change="wait", since_ms=run.since_ms)]
    if run.waiting.startswith("budget"):
        # What runs may free money yet: until it has ended nothing starts.
        change = f"{_paid_for(run.waiting)}, or wait for what runs"
        return [Reason(code="budget", text=f"nothing starts at a {run.waiting}", change=change, key="run")]
    return _money("the run", run.budget_micros, run.committed_micros)


_AFTER_END = {RunState.STOPPED: "resume it", RunState.COMPLETED: "re-run its items"}


def _paid_for(waiting: str) -> str:
    """What lets a run go on that waits for money."""
    return "set its price, or take the caps away" if "nobody knows" in waiting else "raise the cap"


def _money(what: str, budget: int | None, committed: int) -> list[Reason]:
    if budget is None or committed < budget:
        return []
    text = f"the budget of {what} is used up: {dollars(committed)} of {dollars(budget)} are spent or reserved"
    return [Reason(code="budget", text=text, change="raise it, or wait until reservations are settled", key=what)]
