"""Sessions and grants: which worker holds what, in SQL.

A grant is numbered by its session. The same number answers the same leases; a lower one than the last is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.runtime.errors import Conflict, InvalidInput
from scheduler.domain.outcomes import ALONE
from scheduler.domain.states import LIVE_RUNS, STARTABLE_ITEMS, ItemState, Mode, RunState, StageState
from scheduler.store import money
from scheduler.store.effects import Effects, Place, Slot, StageKey
from scheduler.store.items import Granted, Proposal, grant, rows_of
from scheduler.store.rows import StageRow
from scheduler.store.schema import items, runs, sessions, stages
from scheduler.store.stage_rules import stage_rules
from scheduler.store.statements import Statement
from scheduler.store.unit import RunUnit, Units, lock

__all__ = [
    "GrantedBatch",
    "Offer",
    "Session",
    "all_running",
    "end_session",
    "give_back",
    "grant_batches",
    "granted_again",
    "heard_of",
    "open_rows",
    "overdue",
    "owners",
    "refuse",
    "run_of",
    "running_stages",
    "seen",
    "session_rows",
]

_RUNNING = sa.and_(items.c.state == ItemState.RUNNING, items.c.settle_number.is_(None))
_LANE = sa.func.coalesce(items.c.lane, "")
_RANK = sa.func.coalesce(items.c.rank, items.c.seq)
# From the few open stages to their open items by index, never through all items.
_OPEN_STAGES = stages.join(
    items,
    sa.and_(items.c.run == stages.c.run, items.c.stage == stages.c.stage, stages.c.state == StageState.RUNNING),
)


@dataclass(frozen=True)
class Session:
    """A worker's session as it introduces itself in every call."""

    session: str
    worker: str
    worker_class: str


@dataclass(frozen=True)
class Offer:
    """What Redis proposes of a stage, in order of rank. epoch: of the run when the stage's window was opened; uses:
    JSON of what was reserved for each item of the rates of its lane, by dimension ("": nothing)."""

    epoch: int
    proposals: Sequence[Proposal]
    uses: str = ""


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
        rules = stage_rules(self.stage.rules)
        if self.mode is Mode.HEAL and rules.heal is not None and rules.heal.processor:
            return rules.heal.processor
        if self.mode is Mode.CONFIRM and rules.confirm is not None:
            return rules.confirm.processor
        return self.stage.processor

    @property
    def parameters(self) -> bytes:
        rules = stage_rules(self.stage.rules)
        if self.mode is Mode.HEAL and rules.heal is not None and rules.heal.processor:
            return rules.heal.parameters
        if self.mode is Mode.CONFIRM and rules.confirm is not None:
            return rules.confirm.parameters
        return self.stage.parameters


_RUN = sa.select(runs.c.number, runs.c.state).where(runs.c.run_id == sa.bindparam("run_id"))

# Note a sign of a session; answers the grant number that it had before (none: it is new) and whether it has ended.
_SEEN = Statement("""
INSERT INTO sessions (session, worker, worker_class, granted, was_granted, ended, seen_ms)
VALUES (:session, :worker, :worker_class, :granted, NULL, 0, :now)
ON CONFLICT (session) DO UPDATE SET was_granted = sessions.granted, seen_ms = excluded.seen_ms,
  granted = CASE WHEN excluded.granted > sessions.granted THEN excluded.granted ELSE sessions.granted END
RETURNING was_granted, ended
""")


def seen(connection: sa.Connection, session: Session, now_ms: int, *, granted: int = 0) -> int:
    """Notes a sign of the session; returns the grant number that it had before. Raises Conflict when it has ended."""
    ((was_granted, ended),) = _SEEN.rows(
        connection,
        {
            "session": session.session,
            "worker": session.worker,
            "worker_class": session.worker_class,
            "granted": granted,
            "now": now_ms,
        },
    )
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
) -> list[GrantedBatch]:
    """Grants what SQL allows of what Redis proposed. What is refused but still startable goes back at its rank.

    Proposals of an earlier epoch are void: their window is opened anew, from the rows."""
    batches = []
    own = units or Units(connection, now_ms)
    for number in sorted({run for run, _ in proposals}):
        unit = own.get(number)
        for (run, index), offer in proposals.items():
            if run != number:
                continue
            granted: list[Granted] = []
            wanted = offer.proposals
            startable = False
            if unit is not None and unit.run.epoch == offer.epoch and _gives_out(unit, unit.stages[index]):
                stage = unit.stages[index]
                most = stage.concurrency - stage.running
                if most > 0:
                    granted = _grant(unit, stage, wanted[:most], session.session, grant_number, offer.uses)
                    batches += _by_mode(unit, stage, granted)
                startable = _gives_out(unit, stage)
            if len(granted) < len(wanted):
                taken = {g.seq for g in granted}
                left = [(p.seq, p.lane) for p in wanted if p.seq not in taken]
                effects.unused((lane for _, lane in left), offer.uses)
                give_back(connection, effects, (run, index), left, startable=startable)
        if unit is not None:
            unit.settle_up()
    if units is None:
        own.finish(effects)
    return batches


def _gives_out(unit: RunUnit, stage: StageRow) -> bool:
    """Whether leases of the stage are granted now. A run that waits for money grants nothing, though the rest of it
    still runs; a stage that will fail neither."""
    run = unit.run
    return run.state == RunState.RUNNING and not run.waiting and stage.state == StageState.RUNNING and not stage.failing


def _grant(
    unit: RunUnit, stage: StageRow, wanted: Sequence[Proposal], session: str, grant_number: int, uses: str
) -> list[Granted]:
    """Leases the first of these that there is money for, and holds the run where there is too little."""
    reserved: Sequence[int]
    short = None
    rules = stage_rules(stage.rules)
    if not stage.paid and rules.heal is None and not money.budgeted(unit, stage):
        reserved = [0] * len(wanted)
    else:
        # Only rows tell what an item has cost, and whether it is leased to be healed or confirmed.
        simple = rules.heal is None and rules.confirm is None and stage.item_budget_micros is None
        rows = {} if simple else rows_of(unit.connection, stage.run, stage.stage, [p.seq for p in wanted])
        reserved, short = money.reserve(unit, stage, wanted, rows)
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
        )
    if short is not None:
        money.hold(unit, short)
    return granted


def _by_mode(unit: RunUnit, stage: StageRow, granted: Sequence[Granted]) -> list[GrantedBatch]:
    by_mode: dict[int, list[Granted]] = {}
    for lease in granted:
        by_mode.setdefault(lease.mode, []).append(lease)
    bound = money.budgeted(unit, stage)
    return [
        GrantedBatch(unit.run.run_id, unit.run.plan_id, stage, leases, Mode(mode), bound)
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


# What runs of one grant.
_AGAIN = (
    sa.select(
        *(items.c.start_ms, items.c.run, items.c.stage, items.c.seq, items.c.attempt, items.c.tries, items.c.suspect),
        *(items.c.mode, items.c.heals, items.c.reserved_micros, items.c.context, items.c.saved),
    )
    .select_from(_OPEN_STAGES)
    .where(_RUNNING, items.c.session == sa.bindparam("name"), items.c.grant_number == sa.bindparam("grant"))
    .order_by(items.c.run, items.c.stage, items.c.seq)
)


def granted_again(
    connection: sa.Connection, session: str, grant_number: int, now_ms: int
) -> tuple[list[GrantedBatch], int]:
    """The leases of a grant whose answer was lost, as far as they still hold, and when they were granted (now: there
    are none)."""
    found: dict[StageKey, list[Granted]] = {}
    again = connection.execute(_AGAIN, {"name": session, "grant": grant_number})
    for start_ms, run, stage, seq, attempt, tries, suspect, *rest in again:
        now_ms = min(now_ms, start_ms)
        found.setdefault((run, stage), []).append(Granted(seq, attempt, tries, suspect >= ALONE, *rest))
    answer = []
    for (run, index), granted in found.items():
        unit = lock(connection, run, 0)
        assert unit is not None, run
        answer += _by_mode(unit, unit.stages[index], granted)
    return answer, now_ms


def run_of(connection: sa.Connection, run_id: str) -> tuple[int, RunState] | None:
    """Number and state of a run."""
    row = connection.execute(_RUN, {"run_id": run_id}).one_or_none()
    return None if row is None else (row[0], RunState(row[1]))


def session_rows(connection: sa.Connection, session: str) -> dict[StageKey, list[Slot]]:
    """What a session holds."""
    query = (
        sa.select(items.c.run, items.c.stage, items.c.seq, _LANE)
        .select_from(_OPEN_STAGES)
        .where(_RUNNING, items.c.session == session)
    )
    found: dict[StageKey, list[Slot]] = {}
    for run, stage, seq, lane in connection.execute(query):
        found.setdefault((run, stage), []).append((seq, lane))
    return found


def all_running(connection: sa.Connection) -> dict[StageKey, list[Slot]]:
    """Everything that runs."""
    query = sa.select(items.c.run, items.c.stage, items.c.seq, _LANE).select_from(_OPEN_STAGES).where(_RUNNING)
    found: dict[StageKey, list[Slot]] = {}
    for run, stage, seq, lane in connection.execute(query):
        found.setdefault((run, stage), []).append((seq, lane))
    return found


def open_rows(connection: sa.Connection, run: int, stage: int, state: ItemState) -> list[Place]:
    """Every item of a stage whose row is in this (unsettled) state, in order of seq."""
    query = (
        sa.select(items.c.seq, _LANE, _RANK)
        .where(items.c.run == run, items.c.stage == stage, items.c.state == state, items.c.settle_number.is_(None))
        .order_by(items.c.seq)
    )
    return [(seq, lane, rank) for seq, lane, rank in connection.execute(query)]


def running_stages(connection: sa.Connection) -> list[StageKey]:
    """Every stage that runs, of paused and stopping runs too."""
    query = sa.select(stages.c.run, stages.c.stage).where(stages.c.state == StageState.RUNNING)
    return [(run, stage) for run, stage in connection.execute(query)]


OVERRUN_MS = 10_000
"""A worker ends what runs too long itself; the scheduler does when it has not."""
# What has run for longer than its stage allows.
_OVERDUE = sa.text(f"""
SELECT i.run, i.stage, i.seq FROM stages AS s JOIN items AS i ON i.run = s.run AND i.stage = s.stage
WHERE s.state = 'running' AND i.state = 'running' AND i.settle_number IS NULL
  AND i.start_ms + s.max_run_seconds * 1000 + {OVERRUN_MS} < :now
LIMIT :most
""")


def overdue(connection: sa.Connection, now_ms: int, limit: int) -> dict[StageKey, list[int]]:
    """Seqs of what runs too long, at most `limit`."""
    found: dict[StageKey, list[int]] = {}
    for run, stage, seq in connection.execute(_OVERDUE, {"now": now_ms, "most": limit}):
        found.setdefault((run, stage), []).append(seq)
    return found


def owners(connection: sa.Connection) -> dict[int, str]:
    """Whom the slots of each run that may hold some are counted for."""
    query = sa.select(runs.c.number, runs.c.owner).where(runs.c.state.in_(list(LIVE_RUNS)))
    return {row[0]: row[1] for row in connection.execute(query)}


def end_session(connection: sa.Connection, session: str) -> None:
    """No later call of this session is taken."""
    connection.execute(sa.update(sessions).where(sessions.c.session == session).values(ended=1))


def heard_of(connection: sa.Connection, names: Collection[str], since_ms: int) -> set[str]:
    """Which of these sessions gave a sign after a time."""
    query = sa.select(sessions.c.session).where(sessions.c.session.in_(sorted(names)), sessions.c.seen_ms > since_ms)
    return set(connection.execute(query).scalars()) if names else set()
