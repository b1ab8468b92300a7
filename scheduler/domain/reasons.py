"""Why something does not run: the sentences. Pure: facts in, reasons out, the nearest first.

A reason says what holds the item or run, what would change that, since when and until when. Its code is stable, its
text is for people. What may start now has no reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.domain.limits import OPEN
from scheduler.domain.states import ENDED_RUNS, ItemState, RunState, StageState

__all__ = [
    "KeyNow",
    "Reason",
    "RunNow",
    "StageNow",
    "key_reasons",
    "run_reasons",
    "stage_reasons",
    "wait_reasons",
]


@dataclass(frozen=True, kw_only=True)
class Reason:
    code: str
    text: str
    change: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    key: str = ""


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
    budget_micros: int | None = None
    committed_micros: int = 0
    overrun_micros: int = 0


@dataclass(frozen=True, kw_only=True)
class StageNow:
    """gate: its name while it waits there; before: the stage that must end first, in words; worker_seen_ms: when a
    worker of its class last gave a sign; others: other runs that hold leases of the class, and how many."""

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


@dataclass(frozen=True, kw_only=True)
class KeyNow:
    """A limit as it is for one key; held: leases now."""

    key: str
    called: str
    name: str
    held: int
    concurrency: int | None
    state: str
    closed_until_ms: int | None
    rates: bool = False
    reason: str = ""
    change_ms: int | None = None


def wait_reasons(
    state: ItemState, due_ms: int | None, tries: int, stopped: tuple[str, str, int] | None
) -> list[Reason]:
    """Of an item that waits by itself. `stopped`: who stopped all retries, why, when."""
    if state is ItemState.DEFERRED:
        text = "it waits for something outside, as its last attempt asked for"
        return [Reason(code="deferred", text=text, change="release it to start it now", until_ms=due_ms)]
    if state is not ItemState.RETRY:
        return []
    reasons = [
        Reason(
            code="back_off",
            text=f"it failed and waits before its next try (tries so far: {tries})",
            change="release it to start it now",
            until_ms=due_ms,
        )
    ]
    if stopped is not None:
        actor, why, since_ms = stopped
        text = f"all retries were stopped by {actor}" + (f": {why}" if why else "")
        reasons.append(Reason(code="retries_stopped", text=text, change="allow retries again", since_ms=since_ms))
    return reasons


def key_reasons(keys: Sequence[KeyNow], now_ms: int) -> list[Reason]:
    """Of the limits that an item names, and of the valves of its stage and lane."""
    reasons = []
    for one in keys:
        closed = one.closed_until_ms is None or one.closed_until_ms > max(now_ms, OPEN)
        if closed:
            why = f": {one.reason}" if one.reason else ""
            text = f"{one.called} is closed{why}"
            until = one.closed_until_ms
            wait = "wait, or open it" if until is not None else "open it"
            reasons.append(
                Reason(
                    code="limit_closed", text=text, change=wait, since_ms=one.change_ms, until_ms=until, key=one.name
                )
            )
        elif one.concurrency is not None and one.held >= one.concurrency:
            caution = f" while it is {one.state}" if one.state not in ("", "open", "closed") else ""
            text = f"{one.called} is full: {one.held} of {one.concurrency} leases are held{caution}"
            change = "one of its leases ends, or its concurrency is raised"
            reasons.append(Reason(code="limit_full", text=text, change=change, key=one.name))
        elif one.rates:
            text = f"{one.called} has a rate: it may have to wait until enough has flowed in"
            reasons.append(Reason(code="limit_rate", text=text, change="wait, or raise its rate", key=one.name))
    return reasons


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
        change = f"start a worker of class {stage.worker_class}"
        reasons.append(Reason(code="no_worker", text=text, change=change, since_ms=stage.worker_seen_ms))
    runs, leases = stage.others
    if runs and not reasons:
        text = f"{runs} other run{'s' if runs > 1 else ''} hold {leases} leases; turns go by who holds fewest"
        reasons.append(Reason(code="turn", text=text, change="a worker comes free, or raise the run's priority"))
    return reasons


def run_reasons(run: RunNow) -> list[Reason]:
    """Of a run that does not go on; none for one that runs."""
    by = f" by {run.actor}" if run.actor else ""
    why = f": {run.reason}" if run.reason else ""
    if run.archived:
        text = f"the run ended ({run.state.replace('_', ' ')}) and is archived"
        return [Reason(code="run_archived", text=text, change="clone it", since_ms=run.end_ms)]
    if run.state in ENDED_RUNS:
        text = f"the run ended: {run.state.replace('_', ' ')}" + (f" ({run.error})" if run.error else "")
        change = "resume it" if run.state is RunState.STOPPED else "retry or re-run its items, or clone it"
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
                change="raise the budget, or set a price for what has none",
                since_ms=run.since_ms,
                key="run",
            )
        ]
    if run.state is RunState.QUEUED:
        return [Reason(code="run_queued", text="the run has not begun", change="wait", since_ms=run.since_ms)]
    if run.waiting.startswith("budget"):
        # What runs may free money yet: until it has ended nothing starts.
        change = "raise the budget, or wait for what runs"
        return [Reason(code="budget", text=f"nothing starts at a {run.waiting}", change=change, key="run")]
    return _money("the run", run.budget_micros, run.committed_micros)


def _money(what: str, budget: int | None, committed: int) -> list[Reason]:
    if budget is None or committed < budget:
        return []
    text = f"the budget of {what} is used up: {committed:,} of {budget:,} micro-dollars are spent or reserved"
    return [Reason(code="budget", text=text, change="raise it, or wait until reservations are settled", key=what)]
