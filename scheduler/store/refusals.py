"""Reports that do not hold their fence: why, and the money that they tell of all the same.

The repetition of an accepted report gets its answer again. A late one changes nothing but an event, and what its own
attempt did cost: that was settled at its reservation when the lease was lost, and is corrected once.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.states import ItemState, Mode
from scheduler.store.items import ItemRow
from scheduler.store.rows import StageRow
from scheduler.store.schema import attempts, items
from scheduler.store.unit import RunUnit

__all__ = ["Refusal", "explain", "why_not_held"]

_WHY = {
    "superseded": "a later attempt has taken its place",
    "expired": "its lease was lost before the report came",
    "different": "another outcome of this attempt is recorded already",
    "foreign": "the lease belongs to another worker session",
    "stopped": "the run was stopped by force",
    "unknown": "there is no such lease",
    "archived": "its run is archived, and takes no word any more",
}


@dataclass(frozen=True)
class Refusal:
    """A report that was refused, and why (a word of the contract)."""

    run_id: str
    stage: int
    seq: int
    attempt: int
    reason: str


def explain(
    unit: RunUnit, stage: StageRow, row: ItemRow | None, outcome: pb.Outcome, digest: bytes, session: str
) -> str:
    """Why a report does not hold its fence: "" when it is the repetition of one that was accepted."""
    if row is None or outcome.attempt > row.attempt or outcome.attempt < 1:
        return "unknown"
    if row.attempt == outcome.attempt and row.state == ItemState.RUNNING:
        return why_not_held(row, outcome.attempt, session) or "unknown"
    if row.attempt == outcome.attempt and row.digest is not None:
        return "" if row.digest == digest else "different"
    where = sa.and_(
        attempts.c.run == unit.run.number,
        attempts.c.stage == stage.stage,
        attempts.c.seq == outcome.seq,
        attempts.c.attempt == outcome.attempt,
    )
    kept = unit.connection.execute(sa.select(attempts).where(where)).one_or_none()
    if kept is None:
        reason = "superseded"
    elif kept.digest == digest:
        return ""
    elif kept.digest is not None:
        reason = "different"
    else:
        reason = "stopped" if kept.ended == "stopped" else "expired"
    changes: dict[str, object] = {}
    less = outcome.cost_unknown and kept is not None and outcome.cost_micros < kept.reserved_micros
    if kept is not None and kept.cost_micros is None and kept.session == session and not less:
        changes["cost_micros"] = outcome.cost_micros
        _correct(unit, stage, kept, outcome.cost_micros)
    if kept is None or kept.refused_digest != digest:
        changes["refused_digest"] = digest
        unit.emit(
            "report.refused",
            subject=f"item:{stage.stage}/{outcome.seq}",
            reason=f"late report of attempt {outcome.attempt} refused: {_WHY[reason]}",
            data={"attempt": outcome.attempt, "session": session, "why": reason, "state": row.state},
        )
    if kept is not None and changes:
        unit.connection.execute(sa.update(attempts).where(where).values(**changes))
    return reason


def why_not_held(row: ItemRow | None, attempt: int, session: str) -> str:
    """Why a session does not hold this lease; "" when it does."""
    if row is None or attempt > row.attempt or attempt < 1:
        return "unknown"
    if row.attempt != attempt:
        return "superseded"
    if row.state != ItemState.RUNNING:
        return "expired"
    return "foreign" if row.session != session else ""


def _correct(unit: RunUnit, stage: StageRow, kept: sa.Row[tuple[object, ...]], cost: int) -> None:
    """What an attempt did cost, in the place of what was reserved for it."""
    reserved, mode = int(kept.reserved_micros), int(kept.mode)
    unit.bill(stage).correct(kept.seq, kept.attempt, cost=cost, reserved=reserved, heal=mode == Mode.HEAL)
    if cost != reserved:
        unit.connection.execute(
            sa.update(items)
            .where(items.c.run == stage.run, items.c.stage == stage.stage, items.c.seq == kept.seq)
            .values(cost_micros=items.c.cost_micros + (cost - reserved))
        )
