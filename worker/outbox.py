"""Outcomes that wait to be reported, in the order in which they came.

It sends nothing: an acquire or a report takes from it, and says what became of what it took. An outcome stays until the
scheduler has answered it. A report that will never be taken is taken apart; the outcome that is refused by itself ends
as a failure, and if that is refused too, it is forgotten, and its lease expires.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from penstock.processor import Failure
from penstock.runtime.errors import InvalidInput, PenstockError, TooLarge
from penstock.runtime.logs import get_logger
from penstock.v1 import scheduler_pb2 as pb
from worker.held import Held, HeldLease, LeaseKey
from worker.outcomes import INVALID, Ended, failed, size_of

__all__ = ["MAX_REPORT_BYTES", "Outbox"]

MAX_REPORT = 2_000
MAX_REPORT_BYTES = 2 << 20
"""Well below what a message may have: results of 64 kB add up, and one transaction takes them all."""

log = get_logger("agent")


class Outbox:
    """`some` is set when there may be something to report. What is settled is dropped from `held`."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._outcomes: list[Ended] = []
        self._singly = 0  # of these, the first ones are reported one by one
        self._let_go: set[LeaseKey] = set()  # of these, the ones that are not held any more
        self.some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._outcomes)

    @property
    def of_held(self) -> int:
        """How many of them are of leases that are still held, at least: each is a slot that its report frees."""
        return len(self._outcomes) - len(self._let_go)

    def keys(self) -> set[LeaseKey]:
        return {lease.key for lease, _ in self._outcomes}

    def add(self, ended: Ended) -> None:
        """Its owner sets `some` when it has added what came together."""
        self._outcomes.append(ended)

    def add_unheld(self, ended: Ended) -> None:
        """An outcome of a lease that was lost: it will be refused, and nobody wonders."""
        self._let_go.add(ended[0].key)
        self._outcomes.append(ended)

    def release(self, leases: Iterable[HeldLease]) -> None:
        """These are handed back, and not held any more."""
        for lease in list(leases):
            self._held.drop([lease.key])
            outcome = pb.Outcome(seq=lease.lease.seq, attempt=lease.lease.attempt, kind=pb.OUTCOME_KIND_RELEASED)
            self.add_unheld((lease, outcome))
        self.some.set()

    def take(self) -> list[Ended]:
        """The next report, or nothing."""
        count = size = 0
        most = MAX_REPORT if not self._singly else 1
        self._singly = max(self._singly - 1, 0)
        for _, outcome in self._outcomes[:most]:
            size += size_of(outcome)
            if count and size > MAX_REPORT_BYTES:
                break
            count += 1
        taken, self._outcomes = self._outcomes[:count], self._outcomes[count:]
        return taken

    def put_back(self, outcomes: Sequence[Ended]) -> None:
        """What was taken last, and was not heard."""
        self._outcomes[:0] = outcomes

    def unreported(self, outcomes: Sequence[Ended], error: PenstockError) -> None:
        """A report of these failed so: they wait for the next one, in which each goes by itself where this one will
        never be taken."""
        if not isinstance(error, InvalidInput | TooLarge) or not outcomes:
            self.put_back(outcomes)
            return
        log.error("a report was refused", outcomes=len(outcomes), error=error.message)
        if len(outcomes) > 1:
            self.put_back(outcomes)
            self._singly = len(outcomes)
            return
        ((lease, told),) = outcomes
        if isinstance(told, pb.Outcome) and told.error_kind == INVALID:
            self.settled(outcomes, ())
            return
        refused = failed(lease, Failure(f"its outcome was refused: {error.message}", kind=INVALID, permanent=True))
        refused.cost_unknown = True
        self.put_back([(lease, refused)])

    def settled(self, outcomes: Sequence[Ended], refused: Sequence[pb.OutcomeAnswer]) -> None:
        """The scheduler has heard these, and refused some."""
        for answer in refused:
            if (answer.run_id, answer.stage, answer.seq, answer.attempt) not in self._let_go:
                log.warning("a report was refused", run_id=answer.run_id, seq=answer.seq, why=answer.reason)
        self._held.drop(lease.key for lease, _ in outcomes)
        self._let_go.difference_update([lease.key for lease, _ in outcomes] if self._let_go else ())
