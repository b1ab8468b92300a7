"""What an ended attempt means for its item, its stage and its run.

Pure: facts in, decision out. The store carries the decision out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from scheduler.domain.states import ITEM_TABLE, ItemEvent, ItemState, RunEvent, StageEvent, advance

__all__ = [
    "ALONE",
    "FREE_LOSSES",
    "Backoff",
    "Decision",
    "Ended",
    "Ending",
    "Progress",
    "decide",
    "run_end",
    "stage_end",
]


ALONE = 2
"""The suspicion from which an item is leased alone."""
FREE_LOSSES = 10


class Ended(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    RELEASED = "released"
    WORKER_LOST = "worker_lost"
    UNBEGUN = "unbegun"  # its worker was gone, and had not said that it had begun it


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The facts of an ended attempt. `no_try`: it failed for want of a part of Penstock; `permanent`: never try
    again.
    """

    ended: Ended
    tries: int
    max_tries: int
    attempt: int = 1
    suspect: int = 0
    stopping: bool = False
    permanent: bool = False
    no_try: bool = False


@dataclass(frozen=True)
class Decision:
    """state: the item's next; tries: its count afterwards; back_off: wait before the next attempt; suspect: how much
    it is suspected to have killed its worker (0: not; 1: it was there; ALONE: it is leased alone)."""

    state: ItemState
    tries: int
    back_off: bool = False
    suspect: int = 0


def decide(ending: Ending) -> Decision:
    """The item's next state. A stopping run takes nothing up again.

    What was lost with its worker is leased alone, so that one item that kills workers costs its neighbours nothing; a
    worker says that it begins such an item before it does. What was not known to have begun costs no try, and goes
    together with others once more, since most often the worker was killed and not the item's doing; a bound on such
    losses ends what kills workers before they can speak.
    """
    ended, tries = ending.ended, ending.tries
    if ended is Ended.COMPLETED:
        return Decision(advance(ITEM_TABLE, ItemState.RUNNING, ItemEvent.COMPLETE), tries)
    unheard = ended is Ended.UNBEGUN and ending.attempt - tries > FREE_LOSSES
    counts = (ended is Ended.FAILED and not ending.no_try) or ended is Ended.WORKER_LOST or unheard
    tries += counts
    if (counts and tries >= ending.max_tries) or (ended is Ended.FAILED and ending.permanent):
        return Decision(advance(ITEM_TABLE, ItemState.RUNNING, ItemEvent.FAIL), tries)
    if ending.stopping:
        return Decision(advance(ITEM_TABLE, ItemState.RUNNING, ItemEvent.STOP), tries)
    if ended is Ended.FAILED:
        return Decision(advance(ITEM_TABLE, ItemState.RUNNING, ItemEvent.BACK_OFF), tries, back_off=True)
    suspect = ending.suspect
    if ended is Ended.WORKER_LOST:
        suspect = ALONE
    elif ended is Ended.UNBEGUN:
        suspect = min(suspect + 1, ALONE)
    return Decision(advance(ITEM_TABLE, ItemState.RUNNING, ItemEvent.RETURN), tries, suspect=suspect)


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
