"""Rows of items, wherever they are: in SQL while their run is not archived, else in its archive.

Which of the two is decided in the snapshot that reads the rows: a run that is archived meanwhile loses no row for a
reader. Calls block; callers on an event loop go through a thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.filter_sql import condition
from penstock.filters import Filter
from penstock.runtime.sql import Database
from scheduler.archives import Archives
from scheduler.domain.states import ItemState, StageState
from scheduler.store import reads
from scheduler.store.item_fields import columns, values
from scheduler.store.rows import RunRow, StageRow
from scheduler.translate import AnyRow

__all__ = ["ItemRows"]

FILTERED_ROWS = 200_000
ARCHIVED_ROWS = 5_000
"""Looked through for one page of a filter: where it takes few, pages are short."""


class ItemRows:
    def __init__(self, database: Database, archives: Archives) -> None:
        self._database = database
        self._archives = archives

    def between(
        self, run: RunRow, stage: int, *, after_seq: int, up_to_seq: int, seqs: Sequence[int] = ()
    ) -> Sequence[AnyRow]:
        """Rows with after_seq < seq <= up_to_seq in order of seq; of these `seqs` only, where given."""
        limit = up_to_seq - after_seq
        with self._database.read() as connection:
            archive = reads.archive_of(connection, run.number)
            if archive is None:
                return reads.item_rows(
                    connection, run.number, stage, after_seq=after_seq, up_to_seq=up_to_seq, seqs=seqs, limit=limit
                )
        return self._archives.items(archive, stage, after_seq=after_seq, up_to_seq=up_to_seq, seqs=seqs, limit=limit)

    def in_states(
        self, run: RunRow, stage: int, states: Sequence[ItemState], *, after_seq: int, up_to_seq: int, limit: int
    ) -> tuple[Sequence[AnyRow], int]:
        """At most `limit` rows in these states in order of seq, and up to which seq all of them were looked at."""
        with self._database.read() as connection:
            archive = reads.archive_of(connection, run.number)
            if archive is None:
                return reads.rows_in_states(
                    connection, run.number, stage, states, after_seq=after_seq, up_to_seq=up_to_seq, limit=limit
                )
        found = self._archives.items(
            archive, stage, after_seq=after_seq, up_to_seq=up_to_seq, states=states, limit=limit
        )
        return found, found[-1].seq if len(found) == limit else up_to_seq

    def matching(
        self,
        run: RunRow,
        stage: StageRow,
        chosen: Filter,
        states: Sequence[ItemState],
        *,
        after_seq: int,
        limit: int,
    ) -> tuple[Sequence[AnyRow], int]:
        """At most `limit` rows that the filter takes, of items that are shown in one of these states (none: any), in
        order of seq; and up to which seq all were looked at, which is bounded."""
        within = StageState(stage.state)
        up_to = min(after_seq + FILTERED_ROWS, stage.total - 1)
        with self._database.read() as connection:
            archive = reads.archive_of(connection, run.number)
            if archive is None:
                taken = [condition(chosen, columns(within))]
                if states:
                    taken.append(columns(within)["state"].in_(list(states)))
                found = reads.rows_where(
                    connection, run.number, stage.stage, taken, after_seq=after_seq, up_to_seq=up_to, limit=limit
                )
                return found, found[-1].seq if len(found) == limit else up_to
        rows = self._archives.items(archive, stage.stage, after_seq=after_seq, up_to_seq=up_to, limit=ARCHIVED_ROWS)
        looked = rows[-1].seq if len(rows) == ARCHIVED_ROWS else up_to
        kept = [
            row
            for row in rows
            if (known := values(row, within)) and chosen.matches(known) and (not states or known["state"] in states)
        ]
        return (kept[:limit], kept[limit - 1].seq) if len(kept) >= limit else (kept, looked)

    def outcomes(
        self, number: int, stage: int, *, after: int, states: Sequence[ItemState], limit: int
    ) -> Sequence[AnyRow]:
        """Settled rows in commit order after a settle number."""
        with self._database.read() as connection:
            archive = reads.archive_of(connection, number)
            if archive is None:
                return reads.outcome_rows(connection, number, stage, after=after, states=states, limit=limit)
        return self._archives.outcomes(archive, stage, after=after, states=states, limit=limit)

    def events(
        self, number: int, *, after: int, types: Sequence[str] = (), subject: str = "", limit: int
    ) -> Sequence[AnyRow]:
        """Events of a run after a number, in order; those that SQL keeps no more are the archive's."""
        with self._database.read() as connection:
            archive = reads.archive_of(connection, number)
            if archive is None or reads.has_event(connection, number, after + 1):
                return reads.list_events(connection, number, after=after, types=types, subject=subject, limit=limit)
        return self._archives.events(archive, after=after, types=types, subject=subject, limit=limit)

    def ledger(self, number: int, *, after: int, limit: int) -> Sequence[AnyRow]:
        """Batches of a run's ledger after a number, in order."""
        with self._database.read() as connection:
            archive = reads.archive_of(connection, number)
            if archive is None:
                return reads.ledger_rows(connection, number, after=after, limit=limit)
        return self._archives.ledger(archive, after=after, limit=limit)
