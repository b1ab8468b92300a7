"""The SQL of plans that are removed: the mark, its end, and drafts that nobody kept.

    kept ──mark──▶ being removed ──remove──▶ gone
                        └──keep──▶ kept

A marked plan is read as before and started no more. Each method is one transaction, but for drafts, which go some at a
time; the files of what goes are noted in it (`dropped_files`). Whoever else removes plans does it by `delete`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import sqlalchemy as sa

from penstock.runtime.sql import Database
from planner.estimate_rows import plan_estimates, started_estimates
from planner.removals.dropped_files import DroppedFiles
from planner.store import PlanRow, plans, refuse_etag

__all__ = ["RemovalRows"]

AT_ONCE = 100


class RemovalRows:
    def __init__(self, database: Database, files: DroppedFiles) -> None:
        self._database = database
        self._files = files

    def mark(self, row: PlanRow, *, change: int | None, force: bool, now_ms: int) -> bool:
        """From now on nobody starts or keeps it; a draft goes at once, which answers False: no run was ever made of
        one. Raises Conflict when its name was changed since `change`."""
        it = sa.and_(plans.c.plan_id == row.plan_id, plans.c.uid == row.uid)
        with self._database.write() as connection:
            found = connection.execute(
                sa.select(plans.c.name, plans.c.change, plans.c.expire_ms).where(it).with_for_update()
            ).first()
            if found is None:
                return False
            if change is not None:
                refuse_etag(row.plan_id, found.name, found.change, change)
            if found.expire_ms is not None:
                self.delete(connection, it)
                return False
            marked = {"remove_ms": sa.func.coalesce(plans.c.remove_ms, now_ms), "remove_force": force}
            connection.execute(sa.update(plans).where(it).values(marked))
        return True

    def keep(self, row: PlanRow) -> None:
        """A run needs it: it is a plan like any other again. It counts as made anew, by its uid: the scheduler may let
        go of the old one yet, on the word of a call that nobody waits for any more."""
        kept = {"remove_ms": None, "remove_force": False, "uid": secrets.token_hex(8)}
        with self._database.write() as connection:
            connection.execute(
                sa.update(plans).where(plans.c.plan_id == row.plan_id, plans.c.uid == row.uid).values(kept)
            )

    def remove(self, row: PlanRow) -> None:
        """With what was told of it; what became of its runs' estimates stays."""
        with self._database.write() as connection:
            self.delete(connection, sa.and_(plans.c.plan_id == row.plan_id, plans.c.uid == row.uid))

    def marked(self) -> Sequence[tuple[str, str]]:
        """(id, uid) of plans whose removal was begun, the oldest first."""
        query = sa.select(plans.c.plan_id, plans.c.uid).where(plans.c.remove_ms.is_not(None))
        with self._database.read() as connection:
            return [(row[0], row[1]) for row in connection.execute(query.order_by(plans.c.remove_ms).limit(AT_ONCE))]

    def sweep_drafts(self, *, now_ms: int) -> int:
        """Removes drafts past their end, some at a time; answers how many."""
        past = sa.select(plans.c.plan_id).where(plans.c.expire_ms <= now_ms).limit(AT_ONCE)
        count = 0
        while True:
            with self._database.write() as connection:
                gone = self.delete(connection, sa.and_(plans.c.plan_id.in_(past), plans.c.expire_ms <= now_ms))
            count += gone
            if gone < AT_ONCE:
                return count

    def delete(self, connection: sa.Connection, which: sa.ColumnElement[bool]) -> int:
        """Deletes rows of plans, with what was told of them, in the transaction of whoever removes them; answers how
        many went."""
        columns = (plans.c.plan_id, plans.c.items_sha256, plans.c.lanes_sha256)
        found = connection.execute(sa.delete(plans).where(which).returning(*columns)).all()
        self._files.drop(connection, (sha256 for row in found for sha256 in row[1:]))
        if found:
            for told in (plan_estimates, started_estimates):
                each = sa.delete(told).where(told.c.plan_id == sa.bindparam("gone"))
                connection.execute(each, [{"gone": row.plan_id} for row in found])
        return len(found)
