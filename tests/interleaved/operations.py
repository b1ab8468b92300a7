"""The operations that are interleaved in pairs, each with what its acknowledgement promises.

Every pair begins with the same scene: a run of ten items that cost 10 each, with money for five; worker `one` holds 0,
1 and 2, and has failed 3 for good; worker `two` holds nothing yet; the rest is queued, 4 has a row (released once).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import sqlalchemy as sa

from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.states import ItemState
from scheduler.store.schema import events, items, runs, sessions
from tests.interleaved.replica import Replica

__all__ = ["BESIDE_A_GRANT", "OPERATIONS", "PRICE", "Done", "Operation", "Scene"]

PRICE = 10


@dataclass
class Scene:
    """A run, and two workers' sessions."""

    run_id: str
    number: int
    one: pb.WorkerSession
    two: pb.WorkerSession
    held: dict[int, pb.Lease] = field(default_factory=dict)
    given: list[int] | None = None
    """What the grant was answered; made twice, it is answered the same."""
    rounds: int = 0
    """Pauses that are over."""
    grants: int = 1
    """Operations that lease: what one has proposed the other passes over."""


@dataclass
class Done:
    """How an operation ended."""

    answer: Any = None
    error: Exception | None = None


Check = Callable[[Scene, Done, sa.Connection], str]
"""What is wrong with an acknowledgement, once both operations are over; "" when it is true."""


@dataclass(frozen=True)
class Operation:
    act: Callable[[Replica, Scene], Awaitable[Any]]
    check: Check = lambda scene, done, connection: ""


def _row(connection: sa.Connection, scene: Scene, seq: int) -> Any:
    query = sa.select(items).where(items.c.run == scene.number, items.c.stage == 0, items.c.seq == seq)
    return connection.execute(query).one_or_none()


def _run(connection: sa.Connection, scene: Scene) -> Any:
    return connection.execute(sa.select(runs).where(runs.c.number == scene.number)).one()


# -- workers


async def _grant(replica: Replica, scene: Scene) -> Any:
    request = pb.AcquireRequest(session=scene.two, grant_number=1, max_leases=3)
    return await replica.call("Acquire", request)


def _granted(scene: Scene, done: Done, connection: sa.Connection) -> str:
    """What was given has its row; in order: 4, which was released, before all that was never leased."""
    if done.answer is None:
        return ""
    given = sorted(lease.seq for batch in done.answer.batches for lease in batch.leases)
    if scene.given is not None and given != scene.given:
        return f"the same grant number was answered with {scene.given}, then with {given}"
    scene.given = given
    four = _row(connection, scene, 4)
    if scene.grants < 2 and any(seq > 4 for seq in given) and four.state == ItemState.QUEUED and 4 not in given:
        return f"{given} were given, 4 was not, and it is {four.state}"
    for batch in done.answer.batches:
        for lease in batch.leases:
            row = _row(connection, scene, lease.seq)
            if row is None or row.attempt < lease.attempt:
                return f"lease {lease.seq}#{lease.attempt} was given, the row is {row}"
            if row.attempt == lease.attempt and row.session != scene.two.session:
                return f"lease {lease.seq}#{lease.attempt} belongs to {row.session}"
    return ""


def _outcome(lease: pb.Lease) -> pb.Outcome:
    return pb.Outcome(seq=lease.seq, attempt=lease.attempt, kind=pb.OUTCOME_KIND_COMPLETED, cost_micros=5)


async def _report(replica: Replica, scene: Scene) -> Any:
    batch = pb.OutcomeBatch(run_id=scene.run_id, outcomes=[_outcome(scene.held[seq]) for seq in (0, 1)])
    return await replica.call("Report", pb.ReportRequest(session=scene.one, outcomes=[batch]))


def _reported(scene: Scene, done: Done, connection: sa.Connection) -> str:
    if done.answer is None:
        return ""
    refused = {answer.seq: answer.reason for answer in done.answer.refused}
    for seq in (0, 1):
        row = _row(connection, scene, seq)
        recorded = row.state == ItemState.COMPLETED and row.attempt == scene.held[seq].attempt
        if recorded == (seq in refused):
            return f"the report of {seq} was {refused.get(seq, 'accepted')}, the row is {row.state}#{row.attempt}"
        if refused.get(seq) in ("unknown", "foreign"):
            return f"the report of {seq} was refused as {refused[seq]}"
    return ""


def _renewed(scene: Scene, done: Done, connection: sa.Connection) -> str:
    """An attempt that ended never runs again: what is revoked must not run, what is wanted back was not begun."""
    if done.answer is None:
        return ""
    for lease in done.answer.revoked:
        row = _row(connection, scene, lease.seq)
        if row.state == ItemState.RUNNING and row.attempt == lease.attempt:
            return f"{lease.seq}#{lease.attempt} was revoked, and it runs"
    if any(lease.seq == 0 for lease in done.answer.wanted_back):
        return "what has begun was wanted back"
    return ""


async def _renew(replica: Replica, scene: Scene) -> Any:
    batch = pb.HeldBatch(run_id=scene.run_id)
    for lease in scene.held.values():
        batch.leases.add(seq=lease.seq, attempt=lease.attempt, begun=lease.seq == 0)
    return await replica.call("Renew", pb.RenewRequest(session=scene.one, held=[batch]))


# -- operators


def _command(method: str, make: Callable[[Scene], Any]) -> Callable[[Replica, Scene], Awaitable[Any]]:
    async def act(replica: Replica, scene: Scene) -> Any:
        return await replica.call(method, make(scene))

    return act


def _paused(scene: Scene, done: Done, connection: sa.Connection) -> str:
    """After the answer nothing is granted: what is granted later would have a later event or start."""
    run = _run(connection, scene)
    if done.answer is not None and run.state not in ("paused", "stopped", "stopping", "completed"):
        return f"the pause was acknowledged, the run is {run.state}"
    return ""


async def _go_round(replica: Replica, scene: Scene) -> Any:
    """A pause, and on at once: what was proposed before it is void."""
    await replica.call("PauseRun", pb.RunCommand(run_id=scene.run_id, actor="operator"))
    answer = await replica.call("ResumeRun", pb.RunCommand(run_id=scene.run_id, actor="operator"))
    scene.rounds += 1
    return answer


def _stopped(scene: Scene, done: Done, connection: sa.Connection) -> str:
    """What was stopped by force is taken up again by nobody but a person."""
    if done.answer is None:
        return ""
    query = sa.select(events.c.old_state, events.c.new_state).where(
        events.c.run == scene.number, events.c.type == "run.state"
    )
    moves = [tuple(move) for move in connection.execute(query.order_by(events.c.number))]
    run = _run(connection, scene)
    if run.state != "stopped" and ("stopped", run.state) not in moves:
        return f"the stop was acknowledged, the run is {run.state}"
    if run.state == "stopped":
        running = sa.select(sa.func.count()).where(items.c.run == scene.number, items.c.state == ItemState.RUNNING)
        if connection.execute(running).scalar_one():
            return "the run was stopped by force, and items of it run"
    return ""


def _items(verb: pb.ItemVerb.ValueType, seqs: list[int]) -> Callable[[Replica, Scene], Awaitable[Any]]:
    return _command(
        "ActOnItems",
        lambda scene: pb.ActOnItemsRequest(
            run_id=scene.run_id, stage=0, verb=verb, seqs=seqs, actor="operator", reason="test"
        ),
    )


def _budget(micros: int) -> Callable[[Replica, Scene], Awaitable[Any]]:
    return _command(
        "UpdateRun",
        lambda scene: pb.UpdateRunRequest(run_id=scene.run_id, budget_micros=micros, actor="operator", reason="test"),
    )


def _budgeted(micros: int) -> Check:
    """An event tells of the cap; what it is in the end hangs on who came last."""

    def check(scene: Scene, done: Done, connection: sa.Connection) -> str:
        if done.answer is None:
            return ""
        query = (
            sa.select(events.c.data)
            .where(events.c.run == scene.number, events.c.type == "run.updated")
            .order_by(events.c.number)
        )
        caps = [orjson.loads(data)["budget_micros"][1] for data in connection.execute(query).scalars()]
        now = _run(connection, scene).budget_micros
        if micros not in caps:
            return f"a cap of {micros} was acknowledged, the events tell of {caps}"
        return "" if now == caps[-1] else f"the cap is {now}, the events tell of {caps}"

    return check


async def _sweep(replica: Replica, scene: Scene) -> Any:
    """The leases of `one` have run out, as far as this scheduler knows."""
    slots = [(lease.seq, "") for lease in scene.held.values()]
    later = replica.engine.now_ms() + 2 * replica.engine.term_ms
    return await replica.engine.lose((scene.number, 0), slots, "the lease ran out", read_ms=later)


async def _stood_still(replica: Replica, scene: Scene) -> Any:
    """The first sweeps after four terms in which nobody served: every lease has run out meanwhile."""
    engine = replica.engine
    behind, quiet = engine.now_ms, engine.quiet_until_ms
    gap = 4 * engine.term_ms
    engine.now_ms = lambda: behind() + gap  # type: ignore[method-assign]
    try:
        replica.sweeps._note_gap()
        await replica.sweeps._turn(1)
    finally:
        engine.now_ms, engine.quiet_until_ms = behind, quiet  # type: ignore[method-assign]
        replica.sweeps._seen_ms = behind()


def _kept(scene: Scene, done: Done, connection: sa.Connection) -> str:
    for seq, lease in scene.held.items():
        row = _row(connection, scene, seq)
        if (row.state, row.attempt) != (ItemState.RUNNING, lease.attempt):
            return f"nobody could renew {seq}#{lease.attempt}, and it is {row.state}#{row.attempt}"
    return ""


async def _end(replica: Replica, scene: Scene) -> Any:
    return await replica.call("EndSession", pb.EndSessionRequest(session=scene.one))


def _over(scene: Scene, done: Done, connection: sa.Connection) -> str:
    if done.answer is None:
        return ""
    query = sa.select(sessions.c.ended).where(sessions.c.session == scene.one.session)
    held = sa.select(sa.func.count()).where(
        items.c.run == scene.number, items.c.session == scene.one.session, items.c.state == ItemState.RUNNING
    )
    if not connection.execute(query).scalar_one() or connection.execute(held).scalar_one():
        return "the session has ended, and holds leases"
    return ""


OPERATIONS: dict[str, Operation] = {
    "grant": Operation(_grant, _granted),
    "report": Operation(_report, _reported),
    "renew": Operation(_renew, _renewed),
    "pause": Operation(_command("PauseRun", lambda s: pb.RunCommand(run_id=s.run_id, actor="operator")), _paused),
    "force_stop": Operation(
        _command("StopRun", lambda s: pb.StopRunRequest(run_id=s.run_id, actor="operator", force=True)), _stopped
    ),
    "skip": Operation(_items(pb.ITEM_VERB_SKIP, [4, 5])),
    "retry": Operation(_items(pb.ITEM_VERB_RETRY, [3])),
    "raise_budget": Operation(_budget(1_000_000), _budgeted(1_000_000)),
    "lower_budget": Operation(_budget(1), _budgeted(1)),
    "sweep": Operation(_sweep),
    "end_session": Operation(_end, _over),
}
BESIDE_A_GRANT: dict[str, Operation] = {
    "go_round": Operation(_go_round),
    "stood_still": Operation(_stood_still, _kept),
}
"""Of several calls or sweeps: only beside a grant."""
