"""A renewal: which of the leases that a worker says it holds are still its own by the rows, and what it says of them.

Changes leases in Redis alone, through the effects. A worker that is told `revoked` must stop; of a renewal that fails
it hears nothing, and its leases end with their term.

Failure story: a sweep that has asked Redis between a renewal's commit and its word to Redis takes the lease for one
that ran out. So the session notes when it renewed, and the sweep spares whom it sees there: it looks back as long as
Redis may be behind. Where Redis hears of a renewal later than that, or can't be told at all, the renewal is made once
more, and the session noted as one that renews for the whole term: its worker trusts its leases no longer than that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.outcomes import ALONE
from scheduler.domain.states import ItemState, RunState
from scheduler.store import leases
from scheduler.store.effects import Effects
from scheduler.store.items import rows_of
from scheduler.store.locking import hold
from scheduler.store.numbers import numbers_of
from scheduler.watching import Lease, Phase

__all__ = ["Renewed", "Said", "renewed", "said", "sparing_ms", "telling_ms"]


def telling_ms(term_ms: int) -> int:
    """What Redis hears of a renewal within this time needs no second note."""
    return term_ms // 6


def sparing_ms(term_ms: int) -> int:
    """A sweep leaves alone who renewed so shortly before it asked Redis: longer than telling takes, since schedulers'
    clocks differ; shorter than the time between two renewals, since what a worker has forgotten must end."""
    return term_ms // 4


@dataclass(frozen=True)
class Renewed:
    """suspects: items that are leased alone, and that their worker is about to begin; read_ms: when rows were read."""

    answer: pb.RenewResponse
    suspects: list[leases.Attempt]
    read_ms: int


def renewed(
    connection: sa.Connection,
    effects: Effects,
    session: leases.Session,
    request: pb.RenewRequest,
    now_ms: Callable[[], int],
    untold_ms: int = 0,
) -> Renewed:
    """What the rows say of each lease; the answer's term is the caller's to tell. untold_ms: for so long Redis may not
    hear of it. Raises Conflict when the session has ended."""
    if connection.dialect.name == "postgresql":
        # Whoever declares a lease lost locks its run too: one of both sees what the other did.
        hold(connection, numbers_of(connection, {batch.run_id for batch in request.held}).values())
    read_ms = now_ms()
    drains = leases.seen(connection, session, read_ms, renew_ms=read_ms + untold_ms)
    answer, suspects = pb.RenewResponse(drain=drains), []
    for batch in request.held:
        number, state = leases.run_of(connection, batch.run_id) or (0, RunState.STOPPED)
        rows = rows_of(connection, number, batch.stage, [held.seq for held in batch.leases])
        for held in batch.leases:
            row = rows.get(held.seq)
            lease = pb.LeaseId(run_id=batch.run_id, stage=batch.stage, seq=held.seq, attempt=held.attempt)
            if (
                row is None
                or row.attempt != held.attempt
                or row.session != session.session
                or row.state != ItemState.RUNNING
            ):
                answer.revoked.append(lease)
                continue
            effects.renew.setdefault((number, batch.stage), []).append(row.slot)
            if not held.begun and (drains or state is not RunState.RUNNING):
                answer.wanted_back.append(lease)
            if held.begun and row.suspect == ALONE:
                suspects.append((number, batch.stage, held.seq, held.attempt))
    return Renewed(answer, suspects, read_ms)


@dataclass(frozen=True)
class Said:
    """begun: what the worker has begun; phases: how far it is, by (run id, stage, seq)."""

    begun: Set[Lease]
    phases: Mapping[tuple[str, int, int], Phase]


def said(request: pb.RenewRequest, answer: pb.RenewResponse) -> Said:
    """What the worker said of its leases; of the progress of those that it lost nothing is kept."""
    revoked = {(lease.run_id, lease.stage, lease.seq, lease.attempt) for lease in answer.revoked}
    begun = set()
    phases: dict[tuple[str, int, int], Phase] = {}
    for batch in request.held:
        for held in batch.leases:
            lease = (batch.run_id, batch.stage, held.seq, held.attempt)
            if held.begun:
                begun.add(lease)
            if lease not in revoked and (held.phase or held.progress):
                phases[batch.run_id, batch.stage, held.seq] = Phase(held.progress, held.phase)
    return Said(begun, phases)
