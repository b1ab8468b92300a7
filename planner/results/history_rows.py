"""The SQL of histories: one record for each processor, version and parameters, small whatever it has seen.

A record grows in the transaction that moves the cursors of what it counts, so nothing counts twice. Records are JSON
and are read and added to only when there is something to add, or to tell: numpy comes with them.

A record that can't be read (one of another format, after another version of Penstock was here) is as none, and what is
added to it takes its place: a history is worth less than the outcomes that come with it, which it would keep out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from penstock.runtime.logs import get_logger
from penstock.runtime.sql import Database
from planner.store import metadata

if TYPE_CHECKING:
    from planner.domain.history import History, HistoryKey

__all__ = ["HistoryRows", "add_history"]

NOTHING = ""
"""Of a record until the transaction that makes it ends."""

log = get_logger("results")

histories = sa.Table(
    "histories",
    metadata,
    sa.Column("processor", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("parameters", sa.Text, primary_key=True),  # as planner.domain.parameter_names tells them
    sa.Column("item_count", sa.BigInteger, nullable=False),
    sa.Column("history", sa.Text, nullable=False),  # JSON of a History
)


def add_history(connection: sa.Connection, key: HistoryKey, more: History) -> None:
    """Within the caller's transaction."""
    of = {"processor": key.processor, "version": key.version, "parameters": key.parameters}
    # Two planners may both bring the first of a processor: who comes second waits for the row, and adds to it.
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    first = insert(histories).values(**of, item_count=0, history=NOTHING)
    connection.execute(first.on_conflict_do_nothing())
    kept = connection.execute(sa.select(histories.c.history).where(*_same(key)).with_for_update()).scalar_one()
    before = _history(kept, key) if kept != NOTHING else None
    both = before + more if before is not None else more
    values = {"item_count": both.items, "history": orjson.dumps(both.as_json()).decode()}
    connection.execute(sa.update(histories).where(*_same(key)).values(**values))


class HistoryRows:
    """Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sizes(self, processors: Sequence[str]) -> dict[HistoryKey, int]:
        """Of how many items there are records of these processors."""
        from planner.domain.history import HistoryKey

        columns = (histories.c.processor, histories.c.version, histories.c.parameters, histories.c.item_count)
        query = sa.select(*columns).where(histories.c.processor.in_(processors))
        with self._database.read() as connection:
            return {HistoryKey(*row[:3]): row[3] for row in connection.execute(query)}

    def costly(self, processors: Sequence[str]) -> set[HistoryKey]:
        """The records in which any item cost money. Records are not parsed for it: quotes within names are escaped, so
        that only a record of no costs has this text."""
        from planner.domain.history import HistoryKey

        columns = (histories.c.processor, histories.c.version, histories.c.parameters)
        query = sa.select(*columns).where(
            histories.c.processor.in_(processors), histories.c.history.not_like('%"costs":[]%')
        )
        with self._database.read() as connection:
            return {HistoryKey(*row) for row in connection.execute(query)}

    def read(self, keys: Sequence[HistoryKey]) -> dict[HistoryKey, History]:
        """The records of these keys; those that are not there are left out."""
        found = {}
        with self._database.read() as connection:
            for key in keys:
                kept = connection.execute(sa.select(histories.c.history).where(*_same(key))).scalar()
                if kept is not None and (history := _history(kept, key)) is not None:
                    found[key] = history
        return found


def _history(kept: str, key: HistoryKey) -> History | None:
    """The record; None for one that can't be read."""
    from planner.domain.history import History

    try:
        return History.of_json(orjson.loads(kept))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        log.warning("a history can't be read, and is begun anew", processor=key.processor, why=str(error))
        return None


def _same(key: HistoryKey) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        histories.c.processor == key.processor,
        histories.c.version == key.version,
        histories.c.parameters == key.parameters,
    )
