"""Reads for people: runs, items, events, outcomes. Each is one snapshot and bounded by its page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from penstock.runtime.errors import NotFound
from penstock.words import numbers_there_are
from scheduler.domain.states import ItemState
from scheduler.store.rows import RUN_COLUMNS, STAGE_COLUMNS, RunRow, StageRow
from scheduler.store.schema import events, exclusive_keys, items, lane_cursors, ledger, runs, stages
from scheduler.store.statements import Statement, together

__all__ = [
    "archive_of",
    "check_seq",
    "exclusive_keys_of",
    "final_below",
    "find_run",
    "has_event",
    "item_rows",
    "ledger_rows",
    "list_events",
    "list_runs",
    "load_run",
    "low_water",
    "outcome_rows",
    "rows_in_states",
    "rows_where",
    "settled_runs",
    "stage_of",
    "whole_run",
]

ITEM_COLUMNS = (
    items.c.seq,
    items.c.key,
    items.c.grp,
    items.c.state,
    items.c.attempt,
    items.c.tries,
    items.c.session,
    items.c.start_ms,
    items.c.end_ms,
    items.c.due_ms,
    items.c.settle_number,
    items.c.error_kind,
    items.c.error,
    items.c.result,
    items.c.result_blob,
    items.c.result_size,
    items.c.lane,
    items.c.fingerprint,
    items.c.cost_micros,
    items.c.reserved_micros,
    items.c.mode,
    items.c.heals,
    items.c.healed,
)


EVENT_COLUMNS = (
    events.c.number,
    events.c.time_ms,
    events.c.type,
    events.c.subject,
    events.c.actor,
    events.c.old_state,
    events.c.new_state,
    events.c.reason,
    events.c.data,
)

# The run that a request names.
_BY_ID = Statement("SELECT number FROM runs WHERE run_id = :run_id")
_BY_NUMBER = Statement("SELECT number FROM runs WHERE number = :n")
# Runs to name when there is no such one.
_NEWEST = sa.select(runs.c.number, runs.c.run_id).order_by(runs.c.number.desc()).limit(3)
_RUN_NAMES, _STAGE_NAMES = (", ".join(column.name for column in columns) for columns in (RUN_COLUMNS, STAGE_COLUMNS))
# A run whole.
_RUN = Statement(f"SELECT {_RUN_NAMES} FROM runs WHERE number = :n")
_STAGES = Statement(f"SELECT {_STAGE_NAMES} FROM stages WHERE run = :n ORDER BY stage")
_KEYS_OF = Statement("SELECT key FROM exclusive_keys WHERE run = :n ORDER BY key")
# The same by the run's id.
_NUMBER = "(SELECT number FROM runs WHERE run_id = :run_id)"
_RUN_BY_ID = Statement(f"SELECT {_RUN_NAMES} FROM runs WHERE run_id = :run_id")
_STAGES_BY_ID = Statement(f"SELECT {_STAGE_NAMES} FROM stages WHERE run = {_NUMBER} ORDER BY stage")
_KEYS_BY_ID = Statement(f"SELECT key FROM exclusive_keys WHERE run = {_NUMBER} ORDER BY key")
# Exclusive keys of several runs.
_KEYS = (
    sa.select(exclusive_keys.c.run, exclusive_keys.c.key)
    .where(exclusive_keys.c.run.in_(sa.bindparam("runs", expanding=True)))
    .order_by(exclusive_keys.c.run, exclusive_keys.c.key)
)


def find_run(connection: sa.Connection, *, run_id: str = "", number: int = 0) -> int:
    """The number of a run by id or number. Raises NotFound that names the newest runs there are."""
    found = _BY_ID.rows(connection, {"run_id": run_id}) if run_id else _BY_NUMBER.rows(connection, {"n": number})
    if not found:
        raise _no_run(connection, run_id or number)
    return int(found[0][0])


def _no_run(connection: sa.Connection, named: str | int) -> NotFound:
    newest = [f"{number} ({run_id})" for number, run_id in connection.execute(_NEWEST)]
    there = f"the newest are {', '.join(newest)}" if newest else "there are none yet"
    return NotFound(f"no run {named!r}; {there}", code="run_not_found")


def load_run(connection: sa.Connection, number: int) -> tuple[RunRow, list[StageRow]]:
    (run,), rows = together(connection, [(_RUN, {"n": number}), (_STAGES, {"n": number})])
    return RunRow(*run), [StageRow(*row) for row in rows]


def stage_of(run: RunRow, stages: Sequence[StageRow], index: int) -> StageRow:
    """The stage that a request names. Raises NotFound that says which there are."""
    if not 0 <= index < len(stages):
        there = numbers_there_are(len(stages), "stage")
        raise NotFound(f"run {run.run_id} has no stage {index}; {there}", code="stage_not_found")
    return stages[index]


def check_seq(run: RunRow, stage: StageRow, seq: int) -> None:
    """Raises NotFound, with what there is, when the stage has no such item."""
    if not 0 <= seq < stage.total:
        there = numbers_there_are(stage.total, "item")
        raise NotFound(f"stage {stage.stage} of run {run.run_id} has no item {seq}; {there}", code="item_not_found")


def whole_run(
    connection: sa.Connection, *, run_id: str = "", number: int = 0
) -> tuple[RunRow, list[StageRow], list[str]]:
    """A run by id or number, its stages, its exclusive keys. Raises NotFound that names the newest runs there are."""
    values: dict[str, str | int] = {"run_id": run_id} if run_id else {"n": number}
    asked = (_RUN_BY_ID, _STAGES_BY_ID, _KEYS_BY_ID) if run_id else (_RUN, _STAGES, _KEYS_OF)
    found, rows, keys = together(connection, [(statement, values) for statement in asked])
    if not found:
        raise _no_run(connection, run_id or number)
    return RunRow(*found[0]), [StageRow(*row) for row in rows], [row[0] for row in keys]


def exclusive_keys_of(connection: sa.Connection, numbers: Sequence[int]) -> dict[int, list[str]]:
    """The exclusive keys of these runs, held or not, in order."""
    found: dict[int, list[str]] = {}
    for run, key in connection.execute(_KEYS, {"runs": list(numbers)}):
        found.setdefault(run, []).append(key)
    return found


def list_runs(
    connection: sa.Connection,
    *,
    before: int | None,
    skip: int,
    limit: int,
    kind: int,
    states: Sequence[str],
    plan_id: str = "",
) -> list[tuple[RunRow, list[StageRow]]]:
    """Newest first, with number < `before`."""
    query = sa.select(*RUN_COLUMNS).order_by(runs.c.number.desc()).offset(skip).limit(limit)
    if before is not None:
        query = query.where(runs.c.number < before)
    if kind:
        query = query.where(runs.c.kind == kind)
    if states:
        query = query.where(runs.c.state.in_(states))
    if plan_id:
        query = query.where(runs.c.plan_id == plan_id)
    found = [RunRow(*row) for row in connection.execute(query)]
    by_run: dict[int, list[StageRow]] = {}
    query = (
        sa.select(*STAGE_COLUMNS)
        .where(stages.c.run.in_([run.number for run in found]))
        .order_by(stages.c.run, stages.c.stage)
    )
    for row in connection.execute(query):
        by_run.setdefault(row.run, []).append(StageRow(*row))
    return [(run, by_run.get(run.number, [])) for run in found]


def item_rows(
    connection: sa.Connection,
    number: int,
    stage: int,
    *,
    after_seq: int = -1,
    up_to_seq: int | None = None,
    seqs: Sequence[int] = (),
    limit: int,
) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    """Rows of a stage in order of seq, after `after_seq` and up to `up_to_seq`; of these `seqs` only, where given."""
    query = (
        sa.select(*ITEM_COLUMNS)
        .where(items.c.run == number, items.c.stage == stage, items.c.seq > after_seq)
        .order_by(items.c.seq)
        .limit(limit)
    )
    if up_to_seq is not None:
        query = query.where(items.c.seq <= up_to_seq)
    if seqs:
        query = query.where(items.c.seq.in_(seqs))
    return connection.execute(query).all()


def rows_where(
    connection: sa.Connection,
    number: int,
    stage: int,
    taken: Sequence[sa.ColumnElement[bool]],
    *,
    after_seq: int,
    up_to_seq: int,
    limit: int,
) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    """Rows with after_seq < seq <= up_to_seq that meet every one of these conditions, in order of seq."""
    query = (
        sa.select(*ITEM_COLUMNS)
        .where(items.c.run == number, items.c.stage == stage, *taken)
        .where(items.c.seq > after_seq, items.c.seq <= up_to_seq)
        .order_by(items.c.seq)
        .limit(limit)
    )
    return connection.execute(query).all()


def _in_state(index: str, proves: str) -> sa.TextualSelect:
    columns = ", ".join(str(column.name) for column in ITEM_COLUMNS)
    return sa.text(
        f"SELECT {columns} FROM items {index} WHERE run = :run AND stage = :stage AND seq > :after AND seq <= :last "
        f"AND {proves}state = :state ORDER BY seq LIMIT :limit"
    ).columns(*ITEM_COLUMNS)


# Rows of a stage in one state, in order of seq, by the two indexes that hold all states but completed. SQLite is told
# which: without statistics it takes the primary key, through every row of the stage.
_OPEN, _NOT_COMPLETED = "settle_number IS NULL AND ", "settle_number IS NOT NULL AND state <> 'completed' AND "
_IN_STATE = {
    "sqlite": (
        _in_state("INDEXED BY items_open", _OPEN),
        _in_state("INDEXED BY items_not_completed", _NOT_COMPLETED),
    ),
    "postgresql": (_in_state("", _OPEN), _in_state("", _NOT_COMPLETED)),
}
_COMPLETED = (_in_state("", ""),)
COMPLETED_ROWS = 5_000
"""Rows looked through for completed items in one page: most are; where few are, pages are short."""


def rows_in_states(
    connection: sa.Connection,
    number: int,
    stage: int,
    states: Sequence[ItemState],
    *,
    after_seq: int,
    up_to_seq: int,
    limit: int,
) -> tuple[Sequence[sa.Row[*tuple[Any, ...]]], int]:
    """At most `limit` rows in these states with after_seq < seq <= up_to_seq, in order of seq, and up to which seq all
    of them were looked at. Each state is read by an index of its own order, so what is rare is found as fast as what
    is not; completed items have none, since an index of them would cost each of them twice."""
    end = up_to_seq
    if ItemState.COMPLETED in states:
        end = min(end, after_seq + max(COMPLETED_ROWS, limit))
    values = {"run": number, "stage": stage, "after": after_seq, "last": end, "limit": limit}
    found: list[sa.Row[*tuple[Any, ...]]] = []
    for state in states:
        for statement in _COMPLETED if state == ItemState.COMPLETED else _IN_STATE[connection.dialect.name]:
            found += connection.execute(statement, {**values, "state": state}).all()
    found.sort(key=lambda row: row.seq)
    if len(found) >= limit:
        found = found[:limit]
        return found, found[-1].seq
    return found, end


def archive_of(connection: sa.Connection, number: int) -> str | None:
    """The hash of a run's archive; None while its rows are in SQL."""
    found: str | None = connection.execute(sa.select(runs.c.archive).where(runs.c.number == number)).scalar()
    return found


def low_water(connection: sa.Connection, number: int, stage: int) -> int:
    """Every seq of the stage below this has a row."""
    cursor = connection.execute(
        sa.select(stages.c.cursor).where(stages.c.run == number, stages.c.stage == stage)
    ).scalar_one()
    lanes = connection.execute(
        sa.select(sa.func.min(lane_cursors.c.cursor)).where(lane_cursors.c.run == number, lane_cursors.c.stage == stage)
    ).scalar()
    return int(cursor) if lanes is None else min(int(cursor), int(lanes))


def has_event(connection: sa.Connection, number: int, event: int) -> bool:
    """Whether SQL keeps this event."""
    query = sa.select(events.c.number).where(events.c.run == number, events.c.number == event)
    return connection.execute(query).scalar() is not None


def outcome_rows(
    connection: sa.Connection, number: int, stage: int, *, after: int, states: Sequence[ItemState], limit: int
) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    """Settled rows in commit order after a settle number."""
    query = (
        sa.select(*ITEM_COLUMNS)
        .where(
            items.c.run == number,
            items.c.stage == stage,
            items.c.settle_number.is_not(None),
            items.c.settle_number > after,
            items.c.state.in_(states),
        )
        .order_by(items.c.settle_number)
        .limit(limit)
    )
    return connection.execute(query).all()


# The first run that may still change; of all but the youngest, which may have been numbered and not yet committed.
_FIRST_OPEN = sa.text("SELECT min(number) FROM runs WHERE archive IS NULL OR create_ms > :recent_ms")
_LAST = sa.text("SELECT max(number) FROM runs")
# How far runs have settled.
_SETTLED_RUNS = sa.text("""
SELECT r.number, r.run_id, r.plan_id, r.settle_number, r.start_ms, r.state,
  (SELECT count(*) FROM stages AS s WHERE s.run = r.number) AS stage_count
FROM runs AS r WHERE r.number > :after AND r.settle_number > 0 ORDER BY r.number LIMIT :limit
""")


def settled_runs(connection: sa.Connection, *, after: int, limit: int) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    """Runs with outcomes and a number > `after`, in order."""
    return connection.execute(_SETTLED_RUNS, {"after": after, "limit": limit}).all()


def final_below(connection: sa.Connection, *, recent_ms: int) -> int:
    """No run below this number changes any more, and none appears; runs made after `recent_ms` may still appear."""
    first = connection.execute(_FIRST_OPEN, {"recent_ms": recent_ms}).scalar()
    return int(first if first is not None else (connection.execute(_LAST).scalar() or 0) + 1)


def list_events(
    connection: sa.Connection, number: int, *, after: int, types: Sequence[str], subject: str = "", limit: int
) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    """Events of a run with a number > `after`, in order; of these types and this subject where given."""
    found: list[sa.Row[*tuple[Any, ...]]] = []
    # Each type by its own part of the index: what is rare is found as fast as what is not.
    for type_ in sorted(set(types)) or [""]:
        query = (
            sa.select(*EVENT_COLUMNS)
            .where(events.c.run == number, events.c.number > after)
            .order_by(events.c.number)
            .limit(limit)
        )
        if type_:
            query = query.where(events.c.type == type_)
        if subject:
            query = query.where(events.c.subject == subject)
        found += connection.execute(query).all()
    return sorted(found, key=lambda row: row.number)[:limit]


def ledger_rows(
    connection: sa.Connection, number: int, *, after: int, limit: int
) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    """Batches of a run's ledger with a number > `after`, in order."""
    query = (
        sa.select(ledger.c.number, ledger.c.time_ms, ledger.c.stage, ledger.c.entries)
        .where(ledger.c.run == number, ledger.c.number > after)
        .order_by(ledger.c.number)
        .limit(limit)
    )
    return connection.execute(query).all()
