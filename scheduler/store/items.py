"""The hot statements: grant and settle batches of items, on SQLite and on PostgreSQL.

Each takes a whole batch of one stage in one statement: JSON on SQLite, arrays on PostgreSQL. Nothing depends on table
statistics: the PostgreSQL update finds each row by its key in a lateral sub-query that the planner cannot turn around.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from scheduler.domain.outcomes import ALONE
from scheduler.domain.states import STARTABLE_ITEMS, ItemState, Mode
from scheduler.store.effects import Place, Slot
from scheduler.store.rows import StageRow
from scheduler.store.schema import attempts
from scheduler.store.statements import Statement, array, listed
from scheduler.store.unit import RunUnit

__all__ = [
    "Completed",
    "Granted",
    "ItemRow",
    "Proposal",
    "Settled",
    "Stale",
    "complete",
    "grant",
    "record_attempts",
    "reserve_more",
    "rows_of",
    "settle",
]


_WORK = int(Mode.WORK)


class Proposal(NamedTuple):
    """An item that Redis proposes to lease. rank: where it was moved to; None: its seq."""

    seq: int
    key: str
    group: str
    lane: str = ""
    rank: int | None = None

    @property
    def place(self) -> Place:
        return self.seq, self.lane, self.seq if self.rank is None else self.rank


class Granted(NamedTuple):
    """A lease as its worker hears of it. heals: this one included; saved: what a deferred attempt kept; was: the state
    before it, if the item had a row."""

    seq: int
    attempt: int
    tries: int
    alone: bool
    mode: int = Mode.WORK
    heals: int = 0
    reserved_micros: int = 0
    context: bytes | None = None
    saved: bytes | None = None
    was: str | None = None


class ItemRow(NamedTuple):
    """What a decision about an ended attempt needs to know of its row."""

    seq: int
    state: str
    attempt: int
    tries: int
    suspect: int
    session: str
    grant_number: int
    start_ms: int | None
    digest: bytes | None
    lane: str
    rank: int | None
    uses: str | None
    mode: int
    heals: int
    reserved_micros: int
    cost_micros: int
    key: str
    promised_micros: int

    @property
    def slot(self) -> Slot:
        return self.seq, self.lane

    @property
    def place(self) -> Place:
        return self.seq, self.lane, self.seq if self.rank is None else self.rank


Completed = tuple[int, int, bytes, bytes | None, str | None, int | None, int, int, int, str, int]
"""An attempt that completed its item: the values of its statement, as `COMPLETED_FIELDS` names them."""
COMPLETED_FIELDS = (
    *("end_ms", "settle_number", "digest", "result", "result_blob", "result_size", "cost_micros"),
    *("seq", "attempt", "session", "reserved"),
)


class Stale(Exception):
    """What was read before is not so any more: the transaction must be made again, from the rows."""


class Settled(NamedTuple):
    """Any other ended attempt as its row will say it, in the order of its statement's values. `settle_number` is set
    when it is the item's end; cost_micros: what is added; keep_…: what the row says stays."""

    state: str
    tries: int
    suspect: int
    end_ms: int
    due_ms: int | None
    settle_number: int | None
    digest: bytes | None
    error_kind: str | None
    error: str | None
    keep_result: bool
    result: bytes | None
    result_blob: str | None
    result_size: int | None
    mode: int
    heals: int
    healed: bool
    fingerprint: str | None
    cost_micros: int
    keep_context: bool
    context: bytes | None
    promised_micros: int
    keep_saved: bool
    saved: bytes | None
    seq: int
    attempt: int


# Lease a batch: new rows for what was never leased, the next attempt for what is startable; the rest is refused, and so
# is what goes alone, unless it is asked for.
_GRANT_TAIL = f"""
ON CONFLICT (run, stage, seq) DO UPDATE SET was = items.state, state = 'running', attempt = items.attempt + 1,
  session = excluded.session, grant_number = excluded.grant_number, start_ms = excluded.start_ms, end_ms = NULL,
  due_ms = NULL, error_kind = NULL, error = NULL, fingerprint = NULL, digest = NULL, uses = excluded.uses,
  reserved_micros = excluded.reserved_micros
WHERE items.state IN ('queued', 'retry', 'deferred') AND (items.suspect < {ALONE} OR :alone = 1)
RETURNING seq, attempt, tries, suspect >= {ALONE}, mode, heals, reserved_micros, context, saved, was
"""
_GRANT_HEAD = """
INSERT INTO items (run, stage, seq, key, grp, state, attempt, tries, suspect, session, grant_number, start_ms, uses,
  lane, rank, reserved_micros)
"""
_FROM_JSON = (
    _GRANT_HEAD
    + """SELECT :run, :stage, value ->> 0, value ->> 1, value ->> 2, 'running', 1, 0, 0, :session, :grant, :now, :uses,
  value ->> 3, value ->> 4, value ->> 5 FROM json_each(:rows) WHERE true"""
)
_FROM_ARRAYS = (
    _GRANT_HEAD
    + """SELECT :run, :stage, v.seq, v.key, v.grp, 'running', 1, 0, 0, :session, :grant, :now, :uses, v.lane, v.rank,
  v.reserved
FROM unnest(CAST(:seqs AS bigint[]), CAST(:keys AS text[]), CAST(:groups AS text[]), CAST(:lanes AS text[]),
  CAST(:ranks AS bigint[]), CAST(:reserved AS bigint[])) AS v(seq, key, grp, lane, rank, reserved)"""
)
_GRANT = Statement(_FROM_JSON + _GRANT_TAIL, postgresql=_FROM_ARRAYS + _GRANT_TAIL)
# Lease a batch of which no item has a row.
_GRANT_FIRST = Statement(_FROM_JSON, postgresql=_FROM_ARRAYS)


def grant(
    unit: RunUnit,
    stage: StageRow,
    proposals: Sequence[Proposal],
    reserved: Sequence[int],
    *,
    session: str,
    grant_number: int,
    uses: str = "",
    last: int | None = None,
    alone: bool = True,
) -> list[Granted]:
    """Leases what is startable, each with its reservation; moves the stage's counters. What is not in the answer
    was refused. last: no item after this seq has a row (`RunUnit.last_seq`); these are leased without a look. alone:
    the first of what goes alone may be among them; the others are left to other workers."""
    common = {
        "run": stage.run,
        "stage": stage.stage,
        "session": session,
        "grant": grant_number,
        "now": unit.now_ms,
        "uses": uses or None,
        "alone": 0,
    }
    on_sqlite = unit.connection.dialect.name == "sqlite"
    first: Sequence[tuple[Proposal, int]] = ()
    wanted: Sequence[tuple[Proposal, int]] = list(zip(proposals, reserved, strict=True))
    if last is not None:
        first, wanted = [one for one in wanted if one[0][0] > last], [one for one in wanted if one[0][0] <= last]
    make = tuple.__new__  # what `Granted._make` does, without its checks
    granted: list[Granted] = []
    if first:
        unit.add((_GRANT_FIRST, _grant_values(common, first, on_sqlite=on_sqlite)))
        granted = [make(Granted, (one[0], 1, 0, False, _WORK, 0, micros, None, None, None)) for one, micros in first]
    if wanted:
        rows = _GRANT.rows(unit.connection, _grant_values(common, wanted, on_sqlite=on_sqlite))
        if alone and len(rows) < len(wanted):
            taken = {row[0] for row in rows}
            if one := _first_alone(unit, stage, [each for each in wanted if each[0].seq not in taken]):
                values = _grant_values({**common, "alone": 1}, [one], on_sqlite=on_sqlite)
                rows = [*rows, *_GRANT.rows(unit.connection, values)]
        again = [make(Granted, row) for row in rows]
        before = [lease.was for lease in again if lease.was is not None]
        stage.retry -= before.count(ItemState.RETRY)
        stage.deferred -= before.count(ItemState.DEFERRED)
        granted += again
    money = sum([lease.reserved_micros for lease in granted])
    stage.running += len(granted)
    stage.reserved_micros += money
    unit.run.reserved_micros += money
    if any(rank is not None for _, _, _, _, rank in proposals):
        # In the order of their ranks, in which they were proposed: a worker takes them one after another.
        place = {seq: at for at, (seq, *_) in enumerate(proposals)}
        granted.sort(key=lambda one: place[one[0]])
    else:
        granted.sort()
    return granted


def _first_alone(
    unit: RunUnit, stage: StageRow, refused: Sequence[tuple[Proposal, int]]
) -> tuple[Proposal, int] | None:
    """The first of these that was refused since it goes alone."""
    rows = rows_of(unit.connection, stage.run, stage.stage, [proposal.seq for proposal, _ in refused])
    suspects = {row.seq for row in rows.values() if row.suspect >= ALONE and row.state in STARTABLE_ITEMS}
    return next((one for one in refused if one[0].seq in suspects), None)


def _grant_values(
    common: Mapping[str, Any], wanted: Sequence[tuple[Proposal, int]], *, on_sqlite: bool
) -> dict[str, Any]:
    if on_sqlite:
        rows = [(seq, key, group, lane or None, rank, micros) for (seq, key, group, lane, rank), micros in wanted]
        return {**common, "rows": orjson.dumps(rows).decode()}
    proposals, reserved = zip(*wanted, strict=True)
    seqs, keys, groups, lanes, ranks = zip(*proposals, strict=True)
    return {
        **common,
        "seqs": array(seqs, "bigint"),
        "keys": array(keys, "text"),
        "groups": array(groups, "text"),
        "lanes": array([lane or None for lane in lanes], "text"),
        "ranks": array(ranks, "bigint"),
        "reserved": array(reserved, "bigint"),
    }


_ROW = (
    "{0}seq, {0}state, {0}attempt, {0}tries, {0}suspect, {0}session, {0}grant_number, {0}start_ms, {0}digest, "
    "coalesce({0}lane, ''), {0}rank, {0}uses, {0}mode, {0}heals, {0}reserved_micros, {0}cost_micros, {0}key, "
    "{0}promised_micros"
)
# What is known of some items of a stage.
_ROWS = Statement(
    f"SELECT {_ROW.format('')} FROM items "
    "WHERE run = :run AND stage = :stage AND seq IN (SELECT value FROM json_each(:seqs))",
    postgresql=f"SELECT {_ROW.format('i.')} "
    "FROM unnest(CAST(:seqs AS bigint[])) AS v(seq) CROSS JOIN LATERAL "
    "(SELECT * FROM items WHERE run = :run AND stage = :stage AND seq = v.seq OFFSET 0) AS i",
)


def rows_of(connection: sa.Connection, run: int, stage: int, seqs: Sequence[int]) -> dict[int, ItemRow]:
    """The rows of these items, by seq; one without a row is absent."""
    wanted = listed(connection, list(seqs), "bigint")
    make = tuple.__new__
    found = _ROWS.rows(connection, {"run": run, "stage": stage, "seqs": wanted})
    return {row[0]: make(ItemRow, row) for row in found}


# Add to the reservation of one lease, under its fence.
_MORE = Statement(
    "UPDATE items SET reserved_micros = reserved_micros + :micros "
    "WHERE run = :run AND stage = :stage AND seq = :seq AND attempt = :attempt AND state = 'running'"
)


def reserve_more(unit: RunUnit, stage: StageRow, row: ItemRow, micros: int) -> None:
    """Adds to the reservation of a lease that runs."""
    values = {"run": stage.run, "stage": stage.stage, "seq": row.seq, "attempt": row.attempt, "micros": micros}
    _all_held(unit, stage, _MORE.run(unit.connection, values), 1)
    stage.reserved_micros += micros
    unit.run.reserved_micros += micros
    if row.mode == Mode.HEAL:
        stage.heal_micros += micros


# Complete a batch of items, each under its fence. What the grant has cleared is not written again: an index over a
# column that is written costs, also when it has nothing to do.
_COMPLETE = """
UPDATE items SET state = 'completed', suspect = 0, reserved_micros = 0, context = NULL, saved = NULL,
  end_ms = {end_ms}, settle_number = {settle_number}, digest = {digest},
  result = {result}, result_blob = {result_blob}, result_size = {result_size},
  cost_micros = items.cost_micros + {cost_micros}
"""
# Settle a batch of other ends, each under its fence.
_SETTLE = """
UPDATE items SET reserved_micros = 0, state = {state}, tries = {tries}, suspect = {suspect}, end_ms = {end_ms},
  due_ms = {due_ms}, settle_number = {settle_number}, digest = {digest}, error_kind = {error_kind}, error = {error},
  result = CASE WHEN {keep_result} THEN items.result ELSE {result} END,
  result_blob = CASE WHEN {keep_result} THEN items.result_blob ELSE {result_blob} END,
  result_size = CASE WHEN {keep_result} THEN items.result_size ELSE {result_size} END,
  mode = {mode}, heals = {heals}, healed = {healed}, fingerprint = {fingerprint},
  cost_micros = items.cost_micros + {cost_micros},
  context = CASE WHEN {keep_context} THEN items.context ELSE {context} END,
  promised_micros = {promised_micros},
  saved = CASE WHEN {keep_saved} THEN items.saved ELSE {saved} END
"""
_FENCE = "WHERE run = {run} AND stage = {stage} AND seq = {seq} AND attempt = {attempt} AND state = 'running'"
# Of what is remembered besides: all that it says.
_HELD_FENCE = _FENCE + " AND session = {session} AND reserved_micros = {reserved}"
_BIGINTS = (*("end_ms", "due_ms", "settle_number", "result_size", "cost_micros", "promised_micros", "seq", "reserved"),)
_TYPES = {
    **dict.fromkeys(_BIGINTS, "bigint"),
    **dict.fromkeys(("tries", "suspect", "mode", "heals", "attempt"), "int"),
    **dict.fromkeys(("state", "error_kind", "error", "result_blob", "fingerprint", "session"), "text"),
    **dict.fromkeys(("digest", "result", "context", "saved"), "bytea"),
    **dict.fromkeys(("keep_result", "healed", "keep_context", "keep_saved"), "boolean"),
}


def _from_arrays(head: str, names: Sequence[str], fence: str = _FENCE) -> str:
    values = {name: f"v.{name}" for name in names}
    arrays = ", ".join(f"CAST(:{name} AS {_TYPES[name]}[])" for name in names)
    fence = fence.format(run=":run", stage=":stage", **values)
    return (
        f"{head.format(**values)} FROM unnest({arrays}) AS v({', '.join(names)}) "
        f"CROSS JOIN LATERAL (SELECT ctid AS at FROM items {fence} OFFSET 0) AS found WHERE items.ctid = found.at"
    )


@lru_cache(maxsize=1_024)
def _complete(run: int, stage: int) -> Statement:
    # Values in the order of the record; the run and the stage are numbers of ours.
    text = (_COMPLETE + _HELD_FENCE).format(run=run, stage=stage, **dict.fromkeys(COMPLETED_FIELDS, "?"))
    return Statement(text, postgresql=_COMPLETE_ARRAYS)


_COMPLETE_ARRAYS = _from_arrays(_COMPLETE, COMPLETED_FIELDS, _HELD_FENCE)
_SETTLE_EACH = Statement(
    (_SETTLE + _FENCE).format(run=":run", stage=":stage", **{name: f":{name}" for name in Settled._fields}),
    postgresql=_from_arrays(_SETTLE, Settled._fields),
)


def complete(unit: RunUnit, stage: StageRow, ended: Sequence[Completed], *, remembered: bool = False) -> None:
    """Writes attempts that completed their items. The caller has read the rows under this lock, so every fence holds;
    one that does not is a defect and ends the transaction. remembered: it has not read all of them. Raises Stale."""
    if not ended:
        return
    statement = _complete(stage.run, stage.stage)
    if unit.connection.dialect.name == "sqlite":
        count = statement.run_many(unit.connection, ended)
    else:
        count = statement.run(unit.connection, _arrays(stage, COMPLETED_FIELDS, ended))
    if remembered and count != len(ended):
        raise Stale
    _all_held(unit, stage, count, len(ended))
    stage.running -= len(ended)
    stage.completed += len(ended)


def settle(unit: RunUnit, stage: StageRow, ended: Sequence[Settled]) -> None:
    """Writes attempts that ended in any other way, as `complete` does."""
    if not ended:
        return
    if unit.connection.dialect.name == "sqlite":
        values = [{**row._asdict(), "run": stage.run, "stage": stage.stage} for row in ended]
        count = _SETTLE_EACH.run_many(unit.connection, values)
    else:
        count = _SETTLE_EACH.run(unit.connection, _arrays(stage, Settled._fields, ended))
    _all_held(unit, stage, count, len(ended))
    stage.running -= len(ended)
    for row in ended:
        if row.state == ItemState.COMPLETED:
            stage.completed += 1
            stage.healed += row.healed
        elif row.state == ItemState.FAILED:
            stage.failed += 1
        elif row.state == ItemState.RETRY:
            stage.retry += 1
        elif row.state == ItemState.DEFERRED:
            stage.deferred += 1
        elif row.state == ItemState.STOPPED:
            stage.stopped += 1


def _arrays(stage: StageRow, names: Sequence[str], ended: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    values: dict[str, Any] = {"run": stage.run, "stage": stage.stage}
    for name, column in zip(names, zip(*ended, strict=True), strict=True):
        values[name] = array(column, _TYPES[name])
    return values


def _all_held(unit: RunUnit, stage: StageRow, count: int, wanted: int) -> None:
    if count != wanted:
        raise AssertionError(
            f"run {unit.run.run_id} stage {stage.stage}: {count} of {wanted} fences held under the run's lock"
        )


_KEEP = Statement.of(sa.insert(attempts))


def record_attempts(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Keeps ended attempts that their item's row will forget."""
    if rows:
        _KEEP.run_many(connection, rows)
