"""Sessions and grants: which worker holds what, in SQL.

A grant is numbered by its session. The same number answers the same leases; a lower one than the last is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.runtime.errors import Conflict, InvalidInput
from scheduler.domain.outcomes import ALONE, BEGUN_ALONE
from scheduler.domain.rules import Confirm, Heal
from scheduler.domain.states import (
    ENDED_STAGES,
    LIVE_RUNS,
    STARTABLE_ITEMS,
    ItemState,
    Mode,
    RunState,
    StageState,
)
from scheduler.store import money
from scheduler.store.effects import Effects, Slot, StageKey
from scheduler.store.items import Granted, Proposal, grant, rows_of
from scheduler.store.locking import Units
from scheduler.store.reads import load_run
from scheduler.store.remembered import Remembered
from scheduler.store.rows import RunRow, StageRow
from scheduler.store.schema import sessions
from scheduler.store.stage_rules import stage_rules
from scheduler.store.statements import Asked, Rows, Statement
from scheduler.store.unit import RunUnit

__all__ = [
    "Attempt",
    "GrantedBatch",
    "Offer",
    "Session",
    "asked",
    "asking",
    "begin_alone",
    "end_session",
    "give_back",
    "grant_batches",
    "refuse",
    "renewed_since",
    "run_of",
    "seen",
]

Attempt = tuple[int, int, int, int]
"""(run, stage, seq, attempt)."""


@dataclass(frozen=True)
class Session:
    """A worker's session as it introduces itself in every call."""

    session: str
    worker: str
    worker_class: str


@dataclass(frozen=True)
class Offer:
    """What Redis proposes of a stage, in order of rank. epoch: of the run when the stage's window was opened; uses:
    JSON of what was reserved for each item of the rates of its lane, by dimension ("": nothing); generation: of the
    Redis that proposes; one that was made anew since knows nothing of it."""

    epoch: int
    proposals: Sequence[Proposal]
    uses: str = ""
    generation: str = ""


@dataclass(frozen=True)
class GrantedBatch:
    """Leases of one stage and mode. budgeted: what is reserved for them is a bound."""

    run_id: str
    plan_id: str
    stage: StageRow
    granted: Sequence[Granted]
    mode: Mode = Mode.WORK
    budgeted: bool = False

    @property
    def processor(self) -> str:
        """What executes them."""
        return self._executes.processor

    @property
    def parameters(self) -> bytes:
        return self._executes.parameters

    @property
    def _executes(self) -> StageRow | Heal | Confirm:
        """Who names the processor: the stage, or its rule for such leases."""
        rules = stage_rules(self.stage.rules)
        if self.mode is Mode.HEAL and rules.heal is not None and rules.heal.processor:
            return rules.heal
        if self.mode is Mode.CONFIRM and rules.confirm is not None:
            return rules.confirm
        return self.stage


# The run that a worker names.
_RUN = Statement("SELECT number, state FROM runs WHERE run_id = :run_id")

# Note a sign of a session; answers the grant number that it had before (none: it is new), whether it has ended, and
# since when it is told to drain.
_SEEN = Statement("""
INSERT INTO sessions (session, worker, worker_class, granted, was_granted, ended, seen_ms, renew_ms)
VALUES (:session, :worker, :worker_class, :granted, NULL, 0, :now, :renewed)
ON CONFLICT (session) DO UPDATE SET was_granted = sessions.granted, seen_ms = excluded.seen_ms,
  granted = CASE WHEN excluded.granted > sessions.granted THEN excluded.granted ELSE sessions.granted END,
  renew_ms = CASE WHEN excluded.renew_ms > sessions.renew_ms THEN excluded.renew_ms ELSE sessions.renew_ms END
RETURNING was_granted, ended, drain_ms
""")
# What runs of one grant.
_BY_GRANT = Statement("""
SELECT i.start_ms, i.run, i.stage, i.seq, i.attempt, i.tries, i.suspect, i.mode, i.heals, i.reserved_micros, i.context,
  i.saved
FROM stages AS s JOIN items AS i ON i.run = s.run AND i.stage = s.stage AND s.state = 'running'
WHERE i.state = 'running' AND i.settle_number IS NULL AND i.session = :name AND i.grant_number = :grant
ORDER BY i.run, i.stage, i.seq
""")


def seen(connection: sa.Connection, session: Session, now_ms: int, *, renew_ms: int = 0) -> bool:
    """Notes a sign of the session; whether it is told to drain. renew_ms: when it renewed its leases, or until when it
    does. Raises Conflict when it has ended."""
    was_granted, ended, drain_ms = _SEEN.rows(connection, _sign(session, 0, now_ms, renew_ms))[0]
    _judged(session, 0, was_granted, ended)
    return drain_ms is not None


def asking(session: Session, grant_number: int, now_ms: int, *, again: bool) -> list[Asked]:
    """Notes a sign of the session, and that it asks for leases under this number (0: for none). again: it has asked
    before."""
    noting: Asked = (_SEEN, _sign(session, grant_number, now_ms))
    return [noting, (_BY_GRANT, _by(session, grant_number))] if again and grant_number else [noting]


def asked(
    connection: sa.Connection, session: Session, grant_number: int, now_ms: int, answers: Sequence[Rows]
) -> tuple[list[GrantedBatch], int, bool]:
    """What the answers to `asking` say: the leases that the session has by this number already, as far as they still
    hold (the answer was lost), when they were granted (now: there are none), and whether it is told to drain. The
    session's row is locked by then: whoever tells it later comes after what is granted now. Raises Conflict when the
    session has ended."""
    sign, *known = answers
    was_granted, ended, drain_ms = sign[0]
    if _judged(session, grant_number, was_granted, ended) != grant_number or not grant_number:
        return [], now_ms, drain_ms is not None
    found: dict[StageKey, list[Granted]] = {}
    for row in known[0] if known else _BY_GRANT.rows(connection, _by(session, grant_number)):
        start_ms, run, stage, seq, attempt, tries, suspect, *rest = row
        now_ms = min(now_ms, start_ms)
        found.setdefault((run, stage), []).append(Granted(seq, attempt, tries, suspect >= ALONE, *rest))
    answer = []
    for (number, index), granted in found.items():
        # Not locked: runs are locked before sessions, and what it holds no more it is told when it renews.
        its_run, its_stages = load_run(connection, number)
        answer += _by_mode(its_run, its_stages[index], granted)
    return answer, now_ms, drain_ms is not None


def _by(session: Session, grant_number: int) -> dict[str, str | int]:
    return {"name": session.session, "grant": grant_number}


def _sign(session: Session, granted: int, now_ms: int, renew_ms: int = 0) -> dict[str, str | int]:
    named = {"session": session.session, "worker": session.worker, "worker_class": session.worker_class}
    return {**named, "granted": granted, "now": now_ms, "renewed": renew_ms}


def _judged(session: Session, granted: int, was_granted: int | None, ended: int) -> int:
    """The grant number that it had before."""
    if ended:
        raise Conflict(f"worker session {session.session} has ended; start a new one", code="session_ended")
    before = int(was_granted or 0)
    if granted and granted < before:
        raise InvalidInput(f"grant_number {granted} after {before}: each new one is higher", code="bad_grant_number")
    return before


def grant_batches(
    connection: sa.Connection,
    effects: Effects,
    session: Session,
    grant_number: int,
    proposals: Mapping[StageKey, Offer],
    now_ms: int,
    units: Units | None = None,
    remembered: Remembered | None = None,
) -> list[GrantedBatch]:
    """Grants what SQL allows of what Redis proposed. What is refused goes back at its rank. Of what goes alone at most
    one item is granted to a call: a worker runs them one after another, and others may be free meanwhile.

    Proposals of an earlier epoch are void. They go back all the same: a window that was opened anew meanwhile, perhaps
    by another scheduler, has left out what was still proposed."""
    batches = []
    alone = True
    own = units or Units(connection, now_ms, proposals)
    for number in sorted({run for run, _ in proposals}):
        unit = own.get(number)
        for (run, index), offer in proposals.items():
            if run != number:
                continue
            granted: list[Granted] = []
            wanted = offer.proposals
            if unit is not None and unit.run.epoch == offer.epoch and _gives_out(unit, unit.stages[index]):
                stage = unit.stages[index]
                most = stage.concurrency - stage.running
                if most > 0:
                    name, uses = session.session, offer.uses
                    granted = _grant(unit, stage, wanted[:most], name, grant_number, uses, alone=alone)
                    alone = alone and not any(lease.alone for lease in granted)
                    batches += _by_mode(unit.run, stage, granted)
                    if remembered is not None:
                        lanes = {proposal[0]: proposal[3] for proposal in wanted}
                        remembered.note((run, index), granted, lanes, session=name, now_ms=unit.now_ms, uses=uses)
            else:
                effects.moved.add(run)  # whoever proposes from it still has not heard
            if len(granted) < len(wanted):
                taken = {g.seq for g in granted}
                left = [(p.seq, p.lane) for p in wanted if p.seq not in taken]
                effects.unused((lane for _, lane in left), offer.uses)
                startable = unit is not None and takes_back(unit, unit.stages[index])
                give_back(connection, effects, (run, index), left, startable=startable)
        if unit is not None:
            unit.settle_up()
    if units is None:
        own.finish(effects)
    return batches


def takes_back(unit: RunUnit, stage: StageRow) -> bool:
    """Whether what was proposed of the stage and not granted is ready again. Also while its run is paused: it may go
    on, and its windows be opened, before Redis hears of this; what is ready of a closed stage is dropped with it."""
    return unit.run.state in LIVE_RUNS and stage.state not in ENDED_STAGES


def _gives_out(unit: RunUnit, stage: StageRow) -> bool:
    """Whether leases of the stage are granted now. A run that waits for money grants nothing, though the rest of it
    still runs; a stage that will fail neither."""
    run = unit.run
    return run.state == RunState.RUNNING and not run.waiting and stage.state == StageState.RUNNING and not stage.failing


def _grant(
    unit: RunUnit,
    stage: StageRow,
    wanted: Sequence[Proposal],
    session: str,
    grant_number: int,
    uses: str,
    *,
    alone: bool,
) -> list[Granted]:
    """Leases the first of these that there is money for, and holds the run where there is too little."""
    reserved: Sequence[int]
    short = None
    rules = stage_rules(stage.rules)
    last = unit.last_seq(stage.stage)
    if not stage.paid and rules.heal is None and not money.budgeted(unit.run, stage):
        reserved = [0] * len(wanted)
    else:
        # Only rows tell what an item has cost, and whether it is leased to be healed or confirmed.
        simple = rules.heal is None and rules.confirm is None and stage.item_budget_micros is None
        known = [] if simple else [proposal.seq for proposal in wanted if proposal.seq <= last]
        rows = rows_of(unit.connection, stage.run, stage.stage, known) if known else {}
        reserved, short = money.reserve(unit, stage, wanted, rows)
        if short is not None:
            # What was skipped or settled, and is offered still, is no reason to wait for money; nor is what goes alone,
            # and is left to others.
            at_hand = rows_of(unit.connection, stage.run, stage.stage, [p.seq for p in wanted if p.seq <= last])
            wanted = [p for p in wanted if p.seq not in at_hand or at_hand[p.seq].state in STARTABLE_ITEMS]
            suspects = [p for p in wanted if p.seq in at_hand and at_hand[p.seq].suspect >= ALONE]
            left = set(suspects[1:] if alone else suspects)
            wanted = [p for p in wanted if p not in left]
            reserved, short = money.reserve(unit, stage, wanted, {} if simple else at_hand)
    granted = []
    if reserved:
        granted = grant(
            unit,
            stage,
            wanted[: len(reserved)],
            reserved,
            session=session,
            grant_number=grant_number,
            uses=uses,
            last=last,
            alone=alone,
        )
        if rules.heal is not None:
            # What was set aside for healing, and not reserved now, is free for other heals.
            spare = [rows[g.seq].promised_micros - g.reserved_micros for g in granted if g.mode == Mode.HEAL]
            stage.heal_micros -= sum(spare)
    if short is not None:
        money.hold(unit, short)
    return granted


def _by_mode(run: RunRow, stage: StageRow, granted: Sequence[Granted]) -> list[GrantedBatch]:
    by_mode: dict[int, list[Granted]] = {}
    for lease in granted:
        by_mode.setdefault(lease.mode, []).append(lease)
    bound = money.budgeted(run, stage)
    return [
        GrantedBatch(run.run_id, run.plan_id, stage, leases, Mode(mode), bound)
        for mode, leases in sorted(by_mode.items())
    ]


def give_back(
    connection: sa.Connection, effects: Effects, stage: StageKey, slots: Sequence[Slot], *, startable: bool
) -> None:
    """Proposals that reached no grant: one that runs keeps its lease, one that is settled is forgotten, the others are
    ready again. A run that takes nothing now is fed anew when it does."""
    rows = rows_of(connection, *stage, [seq for seq, _ in slots])
    free = [slot for slot in slots if slot[0] not in rows or rows[slot[0]].state != ItemState.RUNNING]
    effects.forget.setdefault(stage, []).extend(free)
    if startable:
        effects.ready.setdefault(stage, []).extend(
            rows[seq].place if seq in rows else (seq, lane, seq)
            for seq, lane in free
            if seq not in rows or rows[seq].state in STARTABLE_ITEMS
        )


def refuse(connection: sa.Connection, effects: Effects, proposals: Mapping[StageKey, Offer]) -> None:
    """Gives proposals back of which a call was granted nothing."""
    for key, offer in proposals.items():
        effects.unused((p.lane for p in offer.proposals), offer.uses)
        give_back(connection, effects, key, [(p.seq, p.lane) for p in offer.proposals], startable=True)


# Note that the worker of a suspect begins it.
_BEGIN_ALONE = Statement(f"""
UPDATE items SET suspect = {BEGUN_ALONE}, start_ms = :now
WHERE run = :run AND stage = :stage AND seq = :seq AND attempt = :attempt AND state = 'running' AND suspect = {ALONE}
""")


def begin_alone(connection: sa.Connection, leases: Sequence[Attempt], now_ms: int) -> None:
    """Notes of suspects that they are begun, before their worker is answered."""
    Units(connection, now_ms).lock(*{run for run, _, _, _ in leases})
    for run, stage, seq, attempt in leases:
        _BEGIN_ALONE.run(connection, {"run": run, "stage": stage, "seq": seq, "attempt": attempt, "now": now_ms})


def run_of(connection: sa.Connection, run_id: str) -> tuple[int, RunState] | None:
    """Number and state of a run."""
    for number, state in _RUN.rows(connection, {"run_id": run_id}):
        return number, RunState(state)
    return None


def end_session(connection: sa.Connection, session: str) -> None:
    """No later call of this session is taken."""
    connection.execute(sa.update(sessions).where(sessions.c.session == session).values(ended=1))


def renewed_since(connection: sa.Connection, names: Collection[str], since_ms: int) -> set[str]:
    """Which of these sessions renewed leases after a time."""
    query = sa.select(sessions.c.session).where(sessions.c.session.in_(sorted(names)), sessions.c.renew_ms > since_ms)
    return set(connection.execute(query).scalars()) if names else set()
