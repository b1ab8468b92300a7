"""The states of runs, stages and items, and every legal transition, as literal tables.

`advance` is how runs, stages and ended attempts come to a new state; what is not in the table is refused with the state
and what it would allow. Statements that move many items at once name the states that the table allows.
Values are the words of the contract in lower case; `tests/unit/scheduler` checks them against the proto enums and the
SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import TypeVar

__all__ = [
    "ENDED_RUNS",
    "ENDED_STAGES",
    "ITEM_TABLE",
    "LIVE_RUNS",
    "RUN_TABLE",
    "STAGE_TABLE",
    "STARTABLE_ITEMS",
    "IllegalTransition",
    "ItemEvent",
    "ItemState",
    "Mode",
    "RunEvent",
    "RunState",
    "StageEvent",
    "StageState",
    "advance",
    "allowed",
]


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    COMPLETED = "completed"
    COMPLETED_WITH_FAILURES = "completed_with_failures"
    FAILED = "failed"
    WAITING = "waiting"


class RunEvent(StrEnum):
    BEGIN = "begin"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    FORCE_STOP = "force_stop"
    QUIESCED = "quiesced"
    COMPLETE = "complete"
    COMPLETE_WITH_FAILURES = "complete_with_failures"
    FAIL = "fail"
    WAIT = "wait"  # at a gate, or at a budget
    GO_ON = "go_on"
    REJECT = "reject"
    REOPEN = "reopen"  # retry or re-run of items of an ended run


RUN_TABLE: Mapping[tuple[RunState, RunEvent], RunState] = {
    (RunState.QUEUED, RunEvent.BEGIN): RunState.RUNNING,
    (RunState.QUEUED, RunEvent.PAUSE): RunState.PAUSED,
    (RunState.RUNNING, RunEvent.PAUSE): RunState.PAUSED,
    (RunState.PAUSED, RunEvent.RESUME): RunState.RUNNING,
    (RunState.STOPPED, RunEvent.RESUME): RunState.RUNNING,
    (RunState.QUEUED, RunEvent.STOP): RunState.STOPPING,
    (RunState.RUNNING, RunEvent.STOP): RunState.STOPPING,
    (RunState.PAUSED, RunEvent.STOP): RunState.STOPPING,
    (RunState.STOPPING, RunEvent.QUIESCED): RunState.STOPPED,
    (RunState.QUEUED, RunEvent.FORCE_STOP): RunState.STOPPED,
    (RunState.RUNNING, RunEvent.FORCE_STOP): RunState.STOPPED,
    (RunState.PAUSED, RunEvent.FORCE_STOP): RunState.STOPPED,
    (RunState.STOPPING, RunEvent.FORCE_STOP): RunState.STOPPED,
    # What was running when the pause came may be the last of the run.
    (RunState.RUNNING, RunEvent.COMPLETE): RunState.COMPLETED,
    (RunState.PAUSED, RunEvent.COMPLETE): RunState.COMPLETED,
    (RunState.RUNNING, RunEvent.COMPLETE_WITH_FAILURES): RunState.COMPLETED_WITH_FAILURES,
    (RunState.PAUSED, RunEvent.COMPLETE_WITH_FAILURES): RunState.COMPLETED_WITH_FAILURES,
    (RunState.RUNNING, RunEvent.FAIL): RunState.FAILED,
    (RunState.PAUSED, RunEvent.FAIL): RunState.FAILED,
    (RunState.RUNNING, RunEvent.WAIT): RunState.WAITING,
    (RunState.WAITING, RunEvent.GO_ON): RunState.RUNNING,
    (RunState.WAITING, RunEvent.PAUSE): RunState.PAUSED,
    (RunState.WAITING, RunEvent.STOP): RunState.STOPPING,
    (RunState.WAITING, RunEvent.FORCE_STOP): RunState.STOPPED,
    # What waited at a budget may be skipped or settled by a person, and then it is the end.
    (RunState.WAITING, RunEvent.COMPLETE): RunState.COMPLETED,
    (RunState.WAITING, RunEvent.COMPLETE_WITH_FAILURES): RunState.COMPLETED_WITH_FAILURES,
    (RunState.WAITING, RunEvent.FAIL): RunState.FAILED,
    (RunState.WAITING, RunEvent.REJECT): RunState.STOPPED,
    (RunState.PAUSED, RunEvent.REJECT): RunState.STOPPED,
    (RunState.COMPLETED, RunEvent.REOPEN): RunState.RUNNING,
    (RunState.COMPLETED_WITH_FAILURES, RunEvent.REOPEN): RunState.RUNNING,
    (RunState.FAILED, RunEvent.REOPEN): RunState.RUNNING,
    (RunState.STOPPED, RunEvent.REOPEN): RunState.RUNNING,
}

LIVE_RUNS = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.PAUSED, RunState.WAITING, RunState.STOPPING})
ENDED_RUNS = frozenset(RunState) - LIVE_RUNS


class StageState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    STOPPED = "stopped"
    WAITING = "waiting"


class StageEvent(StrEnum):
    BEGIN = "begin"
    ASK = "ask"  # its gate
    COMPLETE = "complete"
    FAIL = "fail"
    SKIP = "skip"
    STOP = "stop"
    REOPEN = "reopen"
    REOPEN_UNBEGUN = "reopen_unbegun"


STAGE_TABLE: Mapping[tuple[StageState, StageEvent], StageState] = {
    (StageState.PENDING, StageEvent.BEGIN): StageState.RUNNING,
    (StageState.RUNNING, StageEvent.COMPLETE): StageState.COMPLETED,
    (StageState.RUNNING, StageEvent.FAIL): StageState.FAILED,
    (StageState.PENDING, StageEvent.SKIP): StageState.SKIPPED,
    (StageState.PENDING, StageEvent.STOP): StageState.STOPPED,
    (StageState.RUNNING, StageEvent.STOP): StageState.STOPPED,
    (StageState.PENDING, StageEvent.ASK): StageState.WAITING,
    (StageState.WAITING, StageEvent.BEGIN): StageState.RUNNING,
    (StageState.WAITING, StageEvent.STOP): StageState.STOPPED,
    (StageState.WAITING, StageEvent.SKIP): StageState.SKIPPED,
    (StageState.STOPPED, StageEvent.REOPEN): StageState.RUNNING,
    (StageState.COMPLETED, StageEvent.REOPEN): StageState.RUNNING,
    (StageState.FAILED, StageEvent.REOPEN): StageState.RUNNING,
    (StageState.SKIPPED, StageEvent.REOPEN): StageState.RUNNING,  # it had begun before it was stopped, then skipped
    (StageState.SKIPPED, StageEvent.REOPEN_UNBEGUN): StageState.PENDING,
    (StageState.STOPPED, StageEvent.REOPEN_UNBEGUN): StageState.PENDING,
    # What comes before it was taken up again: it begins (or asks its gate) after that.
    (StageState.WAITING, StageEvent.REOPEN_UNBEGUN): StageState.PENDING,
    (StageState.COMPLETED, StageEvent.REOPEN_UNBEGUN): StageState.PENDING,
    (StageState.FAILED, StageEvent.REOPEN_UNBEGUN): StageState.PENDING,
}

ENDED_STAGES = frozenset({StageState.COMPLETED, StageState.FAILED, StageState.SKIPPED, StageState.STOPPED})


class ItemState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    RETRY = "retry"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    STOPPED = "stopped"
    DEFERRED = "deferred"


class Mode(IntEnum):
    """What a lease is for; the numbers are the contract's."""

    WORK = 1
    HEAL = 2
    CONFIRM = 3


class ItemEvent(StrEnum):
    GRANT = "grant"
    COMPLETE = "complete"
    FAIL = "fail"
    BACK_OFF = "back_off"
    RETURN = "return"
    STOP = "stop"
    REOPEN = "reopen"
    DEFER = "defer"
    SKIP = "skip"
    RELEASE = "release"
    RETRY = "retry"
    RERUN = "rerun"
    ACCEPT = "accept"  # a person has seen that what ended unknown was done


ITEM_TABLE: Mapping[tuple[ItemState, ItemEvent], ItemState] = {
    (ItemState.QUEUED, ItemEvent.GRANT): ItemState.RUNNING,
    (ItemState.RETRY, ItemEvent.GRANT): ItemState.RUNNING,
    (ItemState.RUNNING, ItemEvent.COMPLETE): ItemState.COMPLETED,
    (ItemState.RUNNING, ItemEvent.FAIL): ItemState.FAILED,
    (ItemState.RUNNING, ItemEvent.BACK_OFF): ItemState.RETRY,
    (ItemState.RUNNING, ItemEvent.RETURN): ItemState.QUEUED,
    (ItemState.QUEUED, ItemEvent.STOP): ItemState.STOPPED,
    (ItemState.RETRY, ItemEvent.STOP): ItemState.STOPPED,
    (ItemState.RUNNING, ItemEvent.STOP): ItemState.STOPPED,
    (ItemState.STOPPED, ItemEvent.REOPEN): ItemState.QUEUED,
    (ItemState.RUNNING, ItemEvent.DEFER): ItemState.DEFERRED,
    (ItemState.DEFERRED, ItemEvent.GRANT): ItemState.RUNNING,
    (ItemState.DEFERRED, ItemEvent.STOP): ItemState.STOPPED,
    (ItemState.QUEUED, ItemEvent.SKIP): ItemState.SKIPPED,
    (ItemState.RETRY, ItemEvent.SKIP): ItemState.SKIPPED,
    (ItemState.DEFERRED, ItemEvent.SKIP): ItemState.SKIPPED,
    (ItemState.RETRY, ItemEvent.RELEASE): ItemState.QUEUED,
    (ItemState.DEFERRED, ItemEvent.RELEASE): ItemState.QUEUED,
    (ItemState.FAILED, ItemEvent.RETRY): ItemState.QUEUED,
    (ItemState.FAILED, ItemEvent.RERUN): ItemState.QUEUED,
    (ItemState.COMPLETED, ItemEvent.RERUN): ItemState.QUEUED,
    (ItemState.SKIPPED, ItemEvent.RERUN): ItemState.QUEUED,
    (ItemState.FAILED, ItemEvent.ACCEPT): ItemState.COMPLETED,
}

STARTABLE_ITEMS = frozenset(state for state, event in ITEM_TABLE if event is ItemEvent.GRANT)


class IllegalTransition(Exception):
    """An event that the state does not take; tells the state, the event, what it would take, and how it came so far."""

    def __init__(self, state: StrEnum, event: StrEnum, takes: list[str], story: Sequence[str] = ()) -> None:
        so_far = f"; so far: {' > '.join(story)}" if story else ""
        super().__init__(f"{event} is not possible in state {state}; possible: {', '.join(takes) or 'nothing'}{so_far}")
        self.state = state
        self.event = event
        self.takes = takes


S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


def allowed(table: Mapping[tuple[S, E], S], state: S) -> list[str]:
    """The events that a state takes, in the table's order."""
    return [str(event) for known, event in table if known == state]


def advance(table: Mapping[tuple[S, E], S], state: S, event: E, story: Callable[[], Sequence[str]] = tuple) -> S:
    """The state after the event; `story` tells what came before it. Raises IllegalTransition."""
    try:
        return table[state, event]
    except KeyError:
        raise IllegalTransition(state, event, allowed(table, state), story()) from None
