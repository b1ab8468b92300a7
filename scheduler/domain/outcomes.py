"""What an ended attempt means for its item, its stage and its run.

Pure: facts in, decision out. The store carries the decision out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from scheduler.domain.states import ITEM_TABLE, ItemEvent, ItemState, RunEvent, StageEvent, advance

__all__ = [
    "Backoff",
    "Decision",
    "Ended",
    "Ending",
    "Progress",
    "decide",
    "run_end",
    "stage_end",
]


class Ended(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    RELEASED = "released"
    WORKER_LOST = "worker_lost"
    UNCONFIRMED = "unconfirmed"  # the worker was gone before it confirmed the grant


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The facts of an ended attempt. `no_try`: it failed for want of a part of Penstock; `permanent`: never try
    again.
    """

    ended: Ended
    tries: int
    max_tries: int
    stopping: bool = False
    permanent: bool = False
    no_try: bool = False


@dataclass(frozen=True)
class Decision:
    """state: the item's next; tries: its count afterwards; back_off: wait before the next attempt; alone: lease it
    alone next time, since it may have killed its worker."""

    state: ItemState
    tries: int
    back_off: bool = False
    alone: bool = False


def decide(ending: Ending) -> Decision:
    """The item's next state. A stopping run takes nothing up again."""
    ended, tries = ending.ended, ending.tries
    if ended is Ended.COMPLETED:
        return Decision(advance(ITEM_TABLE, ItemState.RUNNING, ItemEvent.COMPLETE), tries)
    counts = (ended is Ended.FAILED and not ending.no_try) or ended is Ended.WORKER_LOST
    tries += counts
    if (counts and tries >= ending.max_tries) or (ended is Ended.FAILED and ending.permanent):
        return Decision(advance(ITEM_TABLE, ItemState.RUNNING, ItemEvent.FAIL), tries)
    if ending.stopping:
        return Decision(advance(ITEM_TABLE, ItemState.RUNNING, ItemEvent.STOP), tries)
    if ended is Ended.FAILED:
        return Decision(advance(ITEM_TABLE, ItemState.RUNNING, ItemEvent.BACK_OFF), tries, back_off=True)
    lost = ended in (Ended.WORKER_LOST, Ended.UNCONFIRMED)
    return Decision(advance(ITEM_TABLE, ItemState.RUNNING, ItemEvent.RETURN), tries, alone=lost)


@dataclass(frozen=True)
class Backoff:
    """Exponential back-off with full jitter on its upper half."""

    first_seconds: float
    max_seconds: float

    def delay_ms(self, tries: int, jitter: float) -> int:
        """Milliseconds before try number `tries + 1`; `jitter` is uniform in [0, 1)."""
        seconds = min(self.first_seconds * 2.0 ** min(max(tries - 1, 0), 30), self.max_seconds)
        return int(seconds * (0.5 + jitter / 2) * 1000)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Counters of a stage. What is neither is queued."""

    total: int
    running: int = 0
    retry: int = 0
    completed: int = 0
    failed: int = 0
    skipped: int = 0
    stopped: int = 0

    @property
    def queued(self) -> int:
        return self.total - self.running - self.retry - self.completed - self.failed - self.skipped - self.stopped

    @property
    def done(self) -> bool:
        return self.queued == 0 and self.running == 0 and self.retry == 0


def stage_end(progress: Progress) -> StageEvent | None:
    """How a running stage ends now; None while something of it is left. One completed item is enough."""
    if not progress.done:
        return None
    return StageEvent.COMPLETE if progress.completed or not progress.total else StageEvent.FAIL


def run_end(stage_failed: bool, failed_items: int) -> RunEvent:
    """How a run ends after its last stage, or after a stage that failed."""
    if stage_failed:
        return RunEvent.FAIL
    return RunEvent.COMPLETE_WITH_FAILURES if failed_items else RunEvent.COMPLETE
