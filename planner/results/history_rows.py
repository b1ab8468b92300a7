"""The SQL of histories: one record for each processor, version and parameters, small whatever it has seen.

A record grows in the transaction that moves the cursors of what it counts, so nothing counts twice. Records are JSON
and are read and added to only when there is something to add, or to tell: numpy comes with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson
import sqlalchemy as sa

from penstock.runtime.sql import Database
from planner.store import metadata

if TYPE_CHECKING:
    from planner.domain.history import History, HistoryKey

__all__ = ["HistoryRows", "add_history"]

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
    from planner.domain.history import History

    query = sa.select(histories.c.history).where(*_same(key)).with_for_update()
    kept = connection.execute(query).scalar()
    both = History.of_json(orjson.loads(kept)) + more if kept is not None else more
    values = {"item_count": both.items, "history": orjson.dumps(both.as_json()).decode()}
    if kept is not None:
        connection.execute(sa.update(histories).where(*_same(key)).values(**values))
    else:
        of = {"processor": key.processor, "version": key.version, "parameters": key.parameters}
        connection.execute(sa.insert(histories).values(**of, **values))


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

    def read(self, keys: Sequence[HistoryKey]) -> dict[HistoryKey, History]:
        """The records of these keys; those that are not there are left out."""
        from planner.domain.history import History

        found = {}
        with self._database.read() as connection:
            for key in keys:
                kept = connection.execute(sa.select(histories.c.history).where(*_same(key))).scalar()
                if kept is not None:
                    found[key] = History.of_json(orjson.loads(kept))
        return found


def _same(key: HistoryKey) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        histories.c.processor == key.processor,
        histories.c.version == key.version,
        histories.c.parameters == key.parameters,
    )
