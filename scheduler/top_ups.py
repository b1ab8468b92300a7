"""More money for a lease that runs: granted within the caps, or refused at once; never waits.

One transaction; the same request_id gets the same answer. The caller waits with its processor, so a refusal is an
answer and no error.
"""

from __future__ import annotations

import sqlalchemy as sa

from penstock.runtime.errors import InvalidInput
from penstock.runtime.plain_text import plain_text
from penstock.v1 import scheduler_pb2 as pb
from penstock.words import MAX_AMOUNT, dollars
from scheduler.engine import Engine
from scheduler.store import money
from scheduler.store.effects import Effects
from scheduler.store.items import reserve_more, rows_of
from scheduler.store.leases import run_of
from scheduler.store.locking import lock
from scheduler.store.refusals import why_not_held
from scheduler.store.requests import Request, digest_of, known, remember

__all__ = ["top_up"]


async def top_up(engine: Engine, request: pb.TopUpRequest) -> pb.TopUpResponse:
    """Raises InvalidInput for an amount that is none."""
    if not 0 < request.micros <= MAX_AMOUNT:
        raise InvalidInput(
            f"a top-up of {dollars(request.micros)}; {dollars(1)} to {dollars(MAX_AMOUNT)} are possible",
            code="bad_top_up",
        )
    asked = Request(plain_text(request.request_id, "request_id"), "top_up", digest_of(request))

    def work(connection: sa.Connection, effects: Effects) -> pb.TopUpResponse:
        before = known(connection, asked)
        if before is not None:
            return pb.TopUpResponse.FromString(before.answer)
        answer = _decide(connection, request, effects, engine.now_ms())
        remember(
            connection,
            asked,
            run_id=request.lease.run_id,
            changed=answer.granted,
            now_ms=engine.now_ms(),
            answer=answer.SerializeToString(),
        )
        return answer

    return await engine.commits.run(work)


def _decide(connection: sa.Connection, request: pb.TopUpRequest, effects: Effects, now_ms: int) -> pb.TopUpResponse:
    lease = request.lease
    found = run_of(connection, lease.run_id)
    unit = lock(connection, found[0], now_ms) if found else None
    if unit is None or not 0 <= lease.stage < len(unit.stages):
        return pb.TopUpResponse(reason="unknown")
    stage = unit.stages[lease.stage]
    row = rows_of(connection, unit.run.number, stage.stage, [lease.seq]).get(lease.seq)
    reason = why_not_held(row, lease.attempt, request.session.session)
    if row is None or reason:
        return pb.TopUpResponse(reason=reason)
    reason = money.room_for_more(unit, stage, row, request.micros)
    if reason:
        return pb.TopUpResponse(reserved_micros=row.reserved_micros, reason=reason)
    reserve_more(unit, stage, row, request.micros)
    unit.flush(effects)
    effects.changed.add(unit.run.number)
    return pb.TopUpResponse(granted=True, reserved_micros=row.reserved_micros + request.micros)
