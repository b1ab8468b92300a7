"""The SQL of the copy of results: which runs were copied how far, and the files that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from penstock.runtime.sql import Database
from planner.results.history_rows import add_history
from planner.store import metadata

if TYPE_CHECKING:
    from planner.domain.history import History, HistoryKey

__all__ = ["Move", "Part", "ResultRows"]

DROPPED_MS = 3_600_000
"""A file that was merged into another, or never came to count, stays for so long."""
_FINAL = "final_below"

result_runs = sa.Table(
    "result_runs",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("settle_number", sa.BigInteger, nullable=False),
)

result_marks = sa.Table(
    "result_marks",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)

result_cursors = sa.Table(
    "result_cursors",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("stage", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("settle_number", sa.BigInteger, nullable=False),
)

result_parts = sa.Table(
    "result_parts",
    metadata,
    sa.Column("part", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("level", sa.Integer, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("drop_ms", sa.BigInteger, nullable=True),  # merged into another then, or announced; NULL: it counts
    sqlite_autoincrement=True,
)


@dataclass(frozen=True)
class Part:
    """A file of outcomes; `level`: 0 as it was copied, one more with each merge."""

    part: int
    level: int
    sha256: str
    row_count: int


@dataclass(frozen=True)
class Move:
    """How far a stage of a run is copied: from `after` to `settle_number`, and what lies between for the history of
    `key`."""

    number: int
    stage: int
    after: int
    settle_number: int
    key: HistoryKey
    history: History


class ResultRows:
    """Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert: Any = sqlite.insert if database.is_sqlite else postgresql.insert

    def copied(self, numbers: Sequence[int]) -> dict[int, int]:
        """Up to which settle number these runs are copied; those that are not are left out."""
        query = sa.select(result_runs.c.number, result_runs.c.settle_number).where(result_runs.c.number.in_(numbers))
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def final_below(self) -> int:
        """Runs below this number are copied for good."""
        with self._database.read() as connection:
            return _final(connection)

    def finish(self, final_below: int) -> None:
        """All runs below this number are copied, and change no more: whatever a planner says that is slow."""
        with self._database.write() as connection:
            mark = self._insert(result_marks).values(name=_FINAL, number=final_below)
            connection.execute(_upwards(mark, key="name", value=result_marks.c.number))
            for table in (result_runs, result_cursors):
                connection.execute(sa.delete(table).where(table.c.number < final_below))

    def cursors(self, number: int) -> dict[int, int]:
        """By stage: the last settle number of a run that was copied."""
        query = sa.select(result_cursors.c.stage, result_cursors.c.settle_number).where(
            result_cursors.c.number == number
        )
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def announce(self, *, level: int, sha256: str, row_count: int, now_ms: int) -> int:
        """A file that will be there and does not count yet; its number as a part. Until `keep` or `merged` says that
        it counts it is one to be dropped: so nothing of a planner that dies in between, or can't say it, stays."""
        values = {"level": level, "sha256": sha256, "row_count": row_count, "drop_ms": now_ms}
        with self._database.write() as connection:
            made = connection.execute(sa.insert(result_parts).values(values).returning(result_parts.c.part))
            return int(made.scalar_one())

    def keep(self, part: int, moves: Sequence[Move]) -> None:
        """An announced part counts. How far it goes, and what it adds to histories: only what no other planner has
        moved past."""
        with self._database.write() as connection:
            _counts(connection, part)
            counted = [move for move in sorted(moves, key=_place) if self._moved(connection, move)]
            # Asked after that: a cursor that is gone was removed by who marked its run as copied for good.
            final = _final(connection)
            # In an order that all planners have: none holds a record for which another waits that holds its next.
            for move in sorted(counted, key=lambda one: one.key):
                if move.number >= final:
                    add_history(connection, move.key, move.history)

    def _moved(self, connection: sa.Connection, move: Move) -> bool:
        """Whether the cursor stood where the move begins."""
        cursor = result_cursors.c
        forward = sa.update(result_cursors).where(
            cursor.number == move.number, cursor.stage == move.stage, cursor.settle_number == move.after
        )
        if connection.execute(forward.values(settle_number=move.settle_number)).rowcount:
            return True
        first = self._insert(result_cursors).values(
            number=move.number, stage=move.stage, settle_number=move.settle_number
        )
        # Not by rowcount: of an insert psycopg's is -1.
        made = first.on_conflict_do_nothing().returning(cursor.stage)
        return not move.after and connection.execute(made).first() is not None

    def reached(self, number: int, settled: int) -> None:
        """A run is copied up to here, all stages."""
        with self._database.write() as connection:
            run = self._insert(result_runs).values(number=number, settle_number=settled)
            connection.execute(_upwards(run, key="number", value=result_runs.c.settle_number))

    def parts(self) -> list[Part]:
        """The files that count, in the order in which they were made."""
        with self._database.read() as connection:
            return _parts(connection)

    def merged(self, old: Sequence[Part], part: int, *, now_ms: int) -> None:
        """An announced part counts instead of several."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(result_parts)
                .where(result_parts.c.part.in_([part.part for part in old]))
                .values(drop_ms=now_ms)
            )
            _counts(connection, part)

    def dropped(self, *, now_ms: int) -> tuple[list[Part], set[str]]:
        """Parts that were merged, or announced, long ago; and the files that no other part has. `forget` the parts
        once these are removed."""
        columns = (result_parts.c.part, result_parts.c.level, result_parts.c.sha256, result_parts.c.row_count)
        old = result_parts.c.drop_ms < now_ms - DROPPED_MS
        others = sa.or_(result_parts.c.drop_ms.is_(None), sa.not_(old))
        with self._database.read() as connection:
            found = [Part(*row) for row in connection.execute(sa.select(*columns).where(old))]
            # Who copies the same outcomes again makes the same file, under the same name.
            needed = (
                set(connection.execute(sa.select(result_parts.c.sha256).where(others)).scalars()) if found else set()
            )
        return found, {part.sha256 for part in found} - needed

    def forget(self, parts: Sequence[Part]) -> None:
        with self._database.write() as connection:
            connection.execute(sa.delete(result_parts).where(result_parts.c.part.in_([part.part for part in parts])))


def _place(move: Move) -> tuple[int, int]:
    return move.number, move.stage


def _upwards(insert: Any, *, key: str, value: sa.Column[Any]) -> sa.Executable:
    """A row, or its number where that is higher now."""
    told = insert.excluded[value.name]
    changed: sa.Executable = insert.on_conflict_do_update(
        index_elements=[key], set_={value.name: told}, where=value < told
    )
    return changed


def _final(connection: sa.Connection) -> int:
    query = sa.select(result_marks.c.number).where(result_marks.c.name == _FINAL)
    return int(connection.execute(query).scalar() or 0)


def _counts(connection: sa.Connection, part: int) -> None:
    connection.execute(sa.update(result_parts).where(result_parts.c.part == part).values(drop_ms=None))


def _parts(connection: sa.Connection) -> list[Part]:
    query = (
        sa.select(result_parts.c.part, result_parts.c.level, result_parts.c.sha256, result_parts.c.row_count)
        .where(result_parts.c.drop_ms.is_(None))
        .order_by(result_parts.c.part)
    )
    return [Part(*row) for row in connection.execute(query)]
