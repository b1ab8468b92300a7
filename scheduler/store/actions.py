"""What a verb does to a chunk of items under the run's lock, and the notes by which it goes on after a crash.

An action is a row with a cursor: the last seq that was looked at. Each chunk judges its items as they are now, writes
rows, counters and cursor in one transaction, and takes up the stage and the run again where the verb asks for it. Two
schedulers may work at one action: the second finds the cursor moved and does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import orjson
import sqlalchemy as sa

from penstock.filters import Filter
from penstock.runtime.errors import NotFound
from penstock.v1 import common_pb2
from scheduler.domain.shown import WAITING_ITEMS, left_by, shown
from scheduler.domain.states import ENDED_STAGES, ItemState, Mode, RunEvent, RunState, StageState
from scheduler.domain.verbs import REOPENS, UNKNOWN, Verb, Verdict, judge
from scheduler.store.effects import Effects
from scheduler.store.item_fields import FIELDS, never_leased, values
from scheduler.store.reopening import reopen
from scheduler.store.rows import StageRow
from scheduler.store.schema import actions, items
from scheduler.store.statements import Statement
from scheduler.store.unit import RunUnit

__all__ = ["ActionRow", "Chunk", "apply", "insert_action", "load_action", "open_actions", "rows_for_action", "save"]


@dataclass(frozen=True)
class ActionRow:
    """A row of `actions`, column for column. `seqs`: JSON; empty: the filter chooses."""

    action_id: str
    run: int
    stage: int
    verb: str
    seqs: bytes
    filter: str
    actor: str
    reason: str
    cursor: int
    matched: int
    changed: int
    already: int
    refused: int
    example: str
    done: bool
    create_ms: int
    rank: int

    @property
    def chosen(self) -> Filter:
        return Filter.parse(self.filter, FIELDS)


@dataclass(frozen=True)
class Chunk:
    """Items to look at, in order of seq: those with a row are read from it, those without from `untouched`. `last`:
    the seq up to which everything has been looked at then; `end`: nothing comes after it."""

    seqs: Sequence[int]
    untouched: Mapping[int, common_pb2.Item]
    last: int
    end: bool


_COLUMNS = [actions.c[field.name] for field in fields(ActionRow)]
# One action.
_LOAD = sa.select(*_COLUMNS).where(actions.c.action_id == sa.bindparam("id"))
# Actions that are not done, oldest first, by the index on `done`.
_OPEN = Statement.of(
    sa.select(actions.c.action_id).where(actions.c.done == sa.false()).order_by(actions.c.create_ms).limit(100)
)

_NAMES = (
    "seq, key, grp, state, attempt, tries, session, start_ms, end_ms, due_ms, error_kind, error, fingerprint, lane, "
    "rank, mode, heals, healed, cost_micros, promised_micros, result IS NOT NULL AS told"
)
# What a judgement needs of each row of a chunk.
_ROWS_SQLITE = sa.text(
    f"SELECT {_NAMES} FROM items WHERE run = :run AND stage = :stage AND seq IN (SELECT value FROM json_each(:seqs))"
)
_ROWS_POSTGRESQL = sa.text(
    f"SELECT {_NAMES} FROM unnest(CAST(:seqs AS bigint[])) AS v(wanted) CROSS JOIN LATERAL"
    " (SELECT * FROM items WHERE run = :run AND stage = :stage AND seq = v.wanted OFFSET 0) AS i"
)

# Which of a stage's rows; the key's last column is a short list, so both databases look each of them up.
_WHICH_SQLITE = " WHERE run = :run AND stage = :stage AND seq IN (SELECT value FROM json_each(:seqs))"
_WHICH_POSTGRESQL = " WHERE run = :run AND stage = :stage AND seq = ANY(CAST(:seqs AS bigint[]))"

_STATEMENTS = {
    # The latest attempt is kept before its row forgets it: a report of it, sent again, still gets its answer.
    "keep": (
        "INSERT INTO attempts (run, stage, seq, attempt, ended, session, start_ms, end_ms, digest, refused_digest,"
        " error_kind, error, mode, fingerprint, reserved_micros, cost_micros)"
        " SELECT run, stage, seq, attempt, state, session, start_ms, coalesce(end_ms, :now), digest, NULL,"
        " error_kind, error, mode, fingerprint, 0, cost_micros - coalesce((SELECT sum(coalesce(a.cost_micros,"
        " a.reserved_micros)) FROM attempts AS a WHERE a.run = items.run AND a.stage = items.stage"
        " AND a.seq = items.seq AND a.attempt < items.attempt), 0)"
        " FROM items{which} AND attempt > 0 ON CONFLICT DO NOTHING"
    ),
    # From the beginning, with fresh tries; what it had cost stays.
    "again": (
        "UPDATE items SET state = 'queued', tries = 0, suspect = 0, mode = :work, heals = 0, healed = :no,"
        " context = NULL, saved = NULL, due_ms = NULL, end_ms = NULL, settle_number = NULL, digest = NULL,"
        " result = NULL, result_blob = NULL, result_size = NULL{which}"
    ),
    "skip": "UPDATE items SET state = 'skipped', due_ms = NULL, end_ms = :now, promised_micros = 0{which}",
    "release": "UPDATE items SET state = 'queued', due_ms = NULL{which}",
    # Ahead of every rank there was, in order of seq.
    "front": "UPDATE items SET rank = :base + seq{which}",
}


def _statement(name: str, sqlite: bool) -> sa.TextClause:
    return sa.text(_STATEMENTS[name].format(which=_WHICH_SQLITE if sqlite else _WHICH_POSTGRESQL))


_PREPARED = {(name, sqlite): _statement(name, sqlite) for name in _STATEMENTS for sqlite in (True, False)}
# Rows for what was never leased.
_INSERT = """
INSERT INTO items (run, stage, seq, key, grp, lane, state, attempt, tries, suspect, session, grant_number, end_ms, rank)
"""
_INSERT_SQLITE = sa.text(
    _INSERT + "SELECT :run, :stage, value ->> 0, value ->> 1, value ->> 2, value ->> 3, :state, 0, 0, 0, '', 0, :end,"
    " :base + (value ->> 0) FROM json_each(:rows)"
)
_INSERT_POSTGRESQL = sa.text(
    _INSERT + "SELECT :run, :stage, v.seq, v.key, v.grp, v.lane, :state, 0, 0, 0, '', 0, CAST(:end AS bigint),"
    " CAST(:base AS bigint) + v.seq FROM unnest(CAST(:seqs AS bigint[]), CAST(:keys AS text[]),"
    " CAST(:groups AS text[]), CAST(:lanes AS text[])) AS v(seq, key, grp, lane)"
)
# A person's word is the item's end, in the order of the run's other ends.
_ACCEPT = (
    sa.update(items)
    .where(items.c.run == sa.bindparam("n"), items.c.stage == sa.bindparam("s"), items.c.seq == sa.bindparam("q"))
    .values(
        state=ItemState.COMPLETED,
        settle_number=sa.bindparam("settle"),
        end_ms=sa.bindparam("now"),
        error_kind=None,
        error=None,
        fingerprint=None,
    )
)


def load_action(connection: sa.Connection, action_id: str) -> ActionRow:
    """Raises NotFound."""
    row = connection.execute(_LOAD, {"id": action_id}).one_or_none()
    if row is None:
        raise NotFound(f"there is no action {action_id!r}", code="action_not_found")
    return ActionRow(*row)


def open_actions(connection: sa.Connection) -> list[str]:
    return [action_id for (action_id,) in _OPEN.rows(connection, {})]


def insert_action(connection: sa.Connection, row: ActionRow) -> None:
    connection.execute(sa.insert(actions).values({field.name: getattr(row, field.name) for field in fields(row)}))


def save(connection: sa.Connection, row: ActionRow) -> None:
    """Writes what a chunk changed."""
    names = ("cursor", "matched", "changed", "already", "refused", "example", "done")
    connection.execute(
        sa.update(actions)
        .where(actions.c.action_id == row.action_id)
        .values({name: getattr(row, name) for name in names})
    )


def rows_for_action(
    connection: sa.Connection, run: int, stage: int, seqs: Sequence[int]
) -> dict[int, sa.Row[*tuple[Any, ...]]]:
    """The rows of these items, by seq."""
    if not seqs:
        return {}
    sqlite = connection.dialect.name == "sqlite"
    statement = _ROWS_SQLITE if sqlite else _ROWS_POSTGRESQL
    wanted: object = orjson.dumps(list(seqs)).decode() if sqlite else list(seqs)
    return {row.seq: row for row in connection.execute(statement, {"run": run, "stage": stage, "seqs": wanted})}


def apply(unit: RunUnit, effects: Effects, action: ActionRow, chunk: Chunk) -> ActionRow:
    """Does the verb to a chunk; answers the action as it is then, which is saved. Raises Conflict when the run can't be
    taken up again. The caller flushes."""
    stage = unit.stages[action.stage]
    verb = Verb(action.verb)
    work = _Work(unit, effects, stage, verb, action.rank)
    chosen = action.chosen
    named = bool(action.seqs) or chosen.asks_for("kind", UNKNOWN)
    within = StageState(stage.state)
    rows = rows_for_action(unit.connection, stage.run, stage.stage, chunk.seqs)
    names = chosen.names
    fresh = never_leased(within)
    counts = dict.fromkeys(Verdict, 0)
    example = action.example
    for seq in chunk.seqs:
        row, item = rows.get(seq), chunk.untouched.get(seq)
        if row is not None:
            held = ItemState(row.state)
            state, kind, left = shown(within, held), row.error_kind or "", held in WAITING_ITEMS
            known = values(row, within, names)
        elif item is not None:
            state, kind, left = left_by(within), "", True
            known = fresh
            if chosen.node:
                fresh["seq"], fresh["key"], fresh["group"], fresh["lane"] = seq, item.key, item.group, item.lane
        else:
            # Without a row, and the verb means nothing for it.
            state, kind, left, known = left_by(within), "", True, {}
            if chosen.node:
                continue
        if chosen.node and not chosen.matches(known):
            continue
        verdict, why = judge(verb, state, kind=kind, named=named, left=left and within in ENDED_STAGES)
        counts[verdict] += 1
        if verdict is Verdict.CHANGE:
            work.add(seq, row, item)
        elif verdict is Verdict.REFUSED and not example:
            example = f"item {seq} of stage {stage.stage}: {why}"
    work.carry_out(action.actor, action.reason)
    after = replace(
        action,
        cursor=chunk.last,
        matched=action.matched + sum(counts.values()),
        changed=action.changed + counts[Verdict.CHANGE],
        already=action.already + counts[Verdict.ALREADY],
        refused=action.refused + counts[Verdict.REFUSED],
        example=example,
        done=chunk.end,
    )
    save(unit.connection, after)
    return after


class _Work:
    """The items of a chunk that change."""

    def __init__(self, unit: RunUnit, effects: Effects, stage: StageRow, verb: Verb, base: int) -> None:
        self._unit = unit
        self._effects = effects
        self._stage = stage
        self._verb = verb
        self._base = base
        self._rows: list[sa.Row[*tuple[Any, ...]]] = []
        self._items: list[common_pb2.Item] = []

    def add(self, seq: int, row: sa.Row[*tuple[Any, ...]] | None, item: common_pb2.Item | None) -> None:
        if row is not None:
            self._rows.append(row)
        elif item is not None:
            self._items.append(item)

    def carry_out(self, actor: str, reason: str) -> None:
        if not self._rows and not self._items:
            return
        unit, stage, verb = self._unit, self._stage, self._verb
        if verb in REOPENS and StageState(stage.state) in ENDED_STAGES:
            why = f"{verb} of items" + (f": {reason}" if reason else "")
            reopen(unit, RunEvent.REOPEN, stages=[stage.stage], actor=actor, reason=why)
        seqs = [row.seq for row in self._rows]
        if verb in (Verb.RETRY, Verb.RERUN):
            self._execute("keep", seqs, now=unit.now_ms)
            self._execute("again", seqs, work=int(Mode.WORK), no=False)
            self._count(ItemState.QUEUED)
            stage.forgiven = min(stage.forgiven, stage.failed)
            stage.healed -= sum(1 for row in self._rows if row.healed and row.state == ItemState.COMPLETED)
        elif verb is Verb.SKIP:
            self._execute("skip", seqs, now=unit.now_ms)
            self._count(ItemState.SKIPPED)
            # What was set aside for a healing that does not come is there for the others.
            stage.heal_micros -= sum(row.promised_micros for row in self._rows)
        elif verb is Verb.RELEASE:
            self._execute("release", seqs)
            self._count(ItemState.QUEUED)
        elif verb is Verb.FRONT:
            self._execute("front", seqs, base=self._base)
        else:
            self._accept()
        self._insert()
        self._make_ready()
        # What could not be paid may no longer be the head.
        unit.look_again(head_moved=True)
        unit.settle_up()

    def _execute(self, name: str, seqs: list[int], **values: object) -> None:
        if not seqs:
            return
        connection = self._unit.connection
        sqlite = connection.dialect.name == "sqlite"
        wanted: object = orjson.dumps(seqs).decode() if sqlite else seqs
        where = {"run": self._stage.run, "stage": self._stage.stage, "seqs": wanted}
        connection.execute(_PREPARED[name, sqlite], {**where, **values})

    def _count(self, new: ItemState) -> None:
        """Moves the stage's counters; queued has none."""
        for row in self._rows:
            self._move(row.state, -1)
            self._move(new, 1)

    def _move(self, state: str, by: int) -> None:
        if state != ItemState.QUEUED:
            setattr(self._stage, state, getattr(self._stage, state) + by)

    def _accept(self) -> None:
        run, stage = self._unit.run, self._stage
        changes = []
        for row in self._rows:
            run.settle_number += 1
            changes.append(
                {"n": stage.run, "s": stage.stage, "q": row.seq, "settle": run.settle_number, "now": self._unit.now_ms}
            )
        self._unit.connection.execute(_ACCEPT, changes)
        self._count(ItemState.COMPLETED)

    def _insert(self) -> None:
        """Rows for what was never leased."""
        if not self._items:
            return
        stage, skip = self._stage, self._verb is Verb.SKIP
        common = {
            "run": stage.run,
            "stage": stage.stage,
            "state": ItemState.SKIPPED if skip else ItemState.QUEUED,
            "end": self._unit.now_ms if skip else None,
            "base": None if skip else self._base,
        }
        connection = self._unit.connection
        if connection.dialect.name == "sqlite":
            rows = orjson.dumps([(item.seq, item.key, item.group, item.lane or None) for item in self._items])
            connection.execute(_INSERT_SQLITE, {**common, "rows": rows.decode()})
        else:
            columns = {
                "seqs": [item.seq for item in self._items],
                "keys": [item.key for item in self._items],
                "groups": [item.group for item in self._items],
                "lanes": [item.lane or None for item in self._items],
            }
            connection.execute(_INSERT_POSTGRESQL, {**common, **columns})
        if skip:
            stage.skipped += len(self._items)

    def _make_ready(self) -> None:
        """Tells Redis of what is startable now, at its rank; a stage that is opened anew finds it by itself."""
        stage, verb = self._stage, self._verb
        if verb in (Verb.SKIP, Verb.ACCEPT) or self._unit.run.state != RunState.RUNNING:
            return
        front = verb is Verb.FRONT
        places = [
            (row.seq, row.lane or "", self._base + row.seq if front else row.seq if row.rank is None else row.rank)
            for row in self._rows
            if not front or row.state == ItemState.QUEUED
        ]
        places += [(item.seq, item.lane, self._base + item.seq) for item in self._items if front]
        if places and stage.state == StageState.RUNNING:
            self._effects.ready.setdefault((stage.run, stage.stage), []).extend(places)
