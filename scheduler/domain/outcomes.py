"""What an ended attempt means for its item.

Pure: facts in, decision out. The store carries the decision out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from scheduler.domain.rules import LOST_KINDS, NOT_RETRIED, Kind
from scheduler.domain.states import ITEM_TABLE, ItemEvent, ItemState, Mode, advance

__all__ = [
    "ALONE",
    "BEGUN_ALONE",
    "FREE_LOSSES",
    "LOST",
    "WITH_WORKER",
    "Backoff",
    "Decision",
    "Ended",
    "Ending",
    "decide",
    "kind_of",
]


ALONE = 2
"""The suspicion from which an item is leased alone."""
BEGUN_ALONE = 3
"""The same, while it runs: its worker has said that it begins it. Kept in the row, so that whichever scheduler ends the
lease knows who was running."""
FREE_LOSSES = 10


class Ended(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    THROTTLED = "throttled"
    DEFERRED = "deferred"
    RELEASED = "released"
    WORKER_LOST = "worker_lost"
    UNBEGUN = "unbegun"  # its worker was gone, and had not said that it had begun it
    TIMED_OUT = "timed_out"  # it ran for longer than it may, and its worker did not end it
    STOPPED = "stopped"  # by force


LOST = frozenset({Ended.WORKER_LOST, Ended.UNBEGUN, Ended.TIMED_OUT, Ended.STOPPED})
"""Nobody told what the attempt did, or what it cost."""
WITH_WORKER = frozenset({Ended.WORKER_LOST, Ended.UNBEGUN})
_FAILURES = frozenset({Ended.FAILED, Ended.WORKER_LOST, Ended.TIMED_OUT})
# A second witness that could not be heard says nothing about the work.
_NO_WITNESS = LOST_KINDS | {
    *(Kind.TIMEOUT, Kind.THROTTLED, Kind.PROVIDER, Kind.CANCELLED, Kind.BUDGET, Kind.UNAVAILABLE),
}


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The facts of an ended attempt.

    no_try: it failed for want of a part of Penstock; permanent: never try again; kind: of its failure, as `kind_of`
    counts it; mode, heals: of its lease; confirms: its stage wants a second witness; healable: it may be healed once
    more, should it fail, or again where that was lost beside others; named: a retry rule names its kind; retries_off:
    nothing is tried again just now; waits: a rule asks for a back-off after a lost worker too; affordable: its own cap
    leaves room for another attempt; excused: another item of its worker was running alone, so the loss is not its
    doing; blameless: its worker was taken away, by whoever rules over nodes.
    """

    ended: Ended
    tries: int
    max_tries: int
    attempt: int = 1
    suspect: int = 0
    stopping: bool = False
    permanent: bool = False
    no_try: bool = False
    kind: str = ""
    mode: Mode = Mode.WORK
    heals: int = 0
    confirms: bool = False
    healable: bool = False
    named: bool = False
    retries_off: bool = False
    waits: bool = False
    affordable: bool = True
    excused: bool = False
    blameless: bool = False


@dataclass(frozen=True)
class Decision:
    """state: the item's next; tries: its count afterwards; back_off: wait before the next attempt; suspect: how much
    it is suspected to have killed its worker (0: not; 1: it was there; ALONE: it is leased alone); mode, heals: of its
    next lease; kind: of its failure, "" where it is none; held: it waits until retries are allowed again."""

    state: ItemState
    tries: int
    back_off: bool = False
    suspect: int = 0
    mode: Mode = Mode.WORK
    heals: int = 0
    kind: str = ""
    held: bool = False


def kind_of(ended: Ended, told: str, *, mode: Mode, no_try: bool, repeatable: bool) -> str:
    """The kind of a failure, as it counts; `told`: as its worker says, or who knows how the worker was lost; "" for
    what is no failure. Work that may have been done, must not be done twice and whose end nobody knows is
    `unknown`."""
    if ended in WITH_WORKER:
        kind: str = told if told in LOST_KINDS else Kind.WORKER_LOST
    elif ended is Ended.TIMED_OUT:
        kind = Kind.TIMEOUT
    elif ended is Ended.FAILED:
        kind = told or Kind.ITEM
    else:
        kind = ""
    if mode is Mode.CONFIRM:
        heard = ended is Ended.FAILED and not no_try and kind not in _NO_WITNESS
        return Kind.UNCONFIRMED if heard else kind
    cut_off = ended in LOST or kind == Kind.TIMEOUT
    return Kind.UNKNOWN if cut_off and not repeatable else kind


def decide(ending: Ending) -> Decision:
    """The item's next state. A stopping run takes nothing up again.

    What was lost with its worker is leased alone, so that one item that kills workers costs its neighbours nothing; a
    worker says that it begins such an item before it does. What was not known to have begun costs no try, and goes
    together with others once more, since most often the worker was killed and not the item's doing; a bound on such
    losses ends what kills workers before they can speak. Healing costs no try, so its losses are counted otherwise:
    lost beside others it is made again, alone; lost alone it was one of the heals that its stage allows. What was lost
    because its worker was taken away costs nothing, up to the same bound.
    """
    ended, tries, kind = ending.ended, ending.tries, ending.kind
    if ended is Ended.COMPLETED:
        if not ending.confirms or ending.mode is Mode.CONFIRM:
            return Decision(_after(ItemEvent.COMPLETE), tries, heals=ending.heals)
        event = ItemEvent.STOP if ending.stopping else ItemEvent.RETURN
        return Decision(_after(event), tries, mode=Mode.CONFIRM, heals=ending.heals)
    often = ending.attempt - tries > FREE_LOSSES
    # Whatever is taken away again and again may well fill its node's disk.
    blameless = ending.blameless and ended in WITH_WORKER and not often
    unheard = ended is Ended.UNBEGUN and not ending.excused and often
    counts = (ended in _FAILURES and not ending.no_try and not blameless) or unheard
    healing = ending.mode is Mode.HEAL
    tries += counts and not healing
    spared = healing and ending.healable and ended in WITH_WORKER and ending.suspect < ALONE
    # A witness that disagrees for ever says nothing about what another attempt at the work would do.
    permanent = ended is Ended.FAILED and ending.permanent and kind != Kind.UNCONFIRMED
    never = permanent or (kind in NOT_RETRIED and not ending.named)
    if never or (counts and not spared and (healing or tries >= ending.max_tries)):
        return _failed(ending, tries)
    if not ending.affordable:
        return Decision(_after(ItemEvent.FAIL), tries, heals=ending.heals, kind=Kind.BUDGET)
    mode = Mode.WORK if kind == Kind.UNCONFIRMED else ending.mode
    if ending.stopping or ended is Ended.STOPPED:
        return Decision(_after(ItemEvent.STOP), tries, mode=mode, heals=ending.heals, kind=kind)
    suspect = min(ending.suspect, ALONE)
    if blameless:
        pass
    elif ended is Ended.WORKER_LOST:
        suspect = ALONE
    elif ended is Ended.UNBEGUN:
        suspect = min(suspect + 1, ALONE)
    elif ended in _FAILURES:
        suspect = 0
    held = counts and ending.retries_off
    if ended is Ended.DEFERRED:
        event = ItemEvent.DEFER
    elif held or ended in (Ended.FAILED, Ended.TIMED_OUT) or (counts and ending.waits):
        event = ItemEvent.BACK_OFF
    else:
        event = ItemEvent.RETURN
    back_off = event is ItemEvent.BACK_OFF and not held
    return Decision(_after(event), tries, back_off, suspect, mode, ending.heals, kind, held)


def _failed(ending: Ending, tries: int) -> Decision:
    """A failure for good, unless it may be healed."""
    if not ending.healable:
        return Decision(_after(ItemEvent.FAIL), tries, heals=ending.heals, kind=ending.kind)
    event, held = ItemEvent.RETURN, False
    if ending.stopping:
        event = ItemEvent.STOP
    elif ending.retries_off:
        event, held = ItemEvent.BACK_OFF, True
    suspect = ALONE if ending.ended in WITH_WORKER else 0
    return Decision(
        _after(event), tries, suspect=suspect, mode=Mode.HEAL, heals=ending.heals + 1, kind=ending.kind, held=held
    )


def _after(event: ItemEvent) -> ItemState:
    return advance(ITEM_TABLE, ItemState.RUNNING, event)


@dataclass(frozen=True)
class Backoff:
    """Exponential back-off with full jitter on its upper half."""

    first_seconds: float
    max_seconds: float
    factor: float = 2.0

    def delay_ms(self, tries: int, jitter: float) -> int:
        """Milliseconds before try number `tries + 1`; `jitter` is uniform in [0, 1)."""
        seconds = min(self.first_seconds * self.factor ** min(max(tries - 1, 0), 30), self.max_seconds)
        return int(seconds * (0.5 + jitter / 2) * 1000)
