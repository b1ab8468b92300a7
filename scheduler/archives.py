"""Archived runs as they are read: the same rows that SQL had, from Parquet.

The index of an archive is read once and kept for a while; of its parts only those are opened that may hold what is
asked for. It may not change anything. Raises Unavailable when the blob store can't be read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from scheduler.archive_file import ArchiveFiles, Index, Part
from scheduler.domain.states import ItemState

__all__ = ["Archives"]

KEPT = 32


class Archives:
    """Reads archives by the hash of their index. Calls block; callers on an event loop go through a thread."""

    def __init__(self, files: ArchiveFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._indexes: OrderedDict[str, Index] = OrderedDict()

    def items(
        self,
        archive: str,
        stage: int,
        *,
        after_seq: int = -1,
        up_to_seq: int | None = None,
        states: Sequence[ItemState] = (),
        seqs: Sequence[int] = (),
        limit: int,
    ) -> list[SimpleNamespace]:
        """Rows of a stage in order of seq, after `after_seq` and up to `up_to_seq`."""
        where = ["stage = $stage", "seq > $after"]
        values: dict[str, object] = {"stage": stage, "after": after_seq}
        first, last = after_seq + 1, up_to_seq
        if up_to_seq is not None:
            where.append("seq <= $last")
            values["last"] = up_to_seq
        if seqs:
            where.append("seq IN (SELECT unnest($seqs))")
            values["seqs"] = list(seqs)
            first, last = max(first, min(seqs)), max(seqs) if last is None else min(last, max(seqs))
        if states:
            where.append("state IN (SELECT unnest($states))")
            values["states"] = [str(state) for state in states]
        parts = [part for part in self._parts(archive, "items", stage) if part.last >= first]
        found: list[SimpleNamespace] = []
        # Part after part, in order of seq: a page is found in the first ones.
        for part in parts:
            if len(found) >= limit or (last is not None and part.first > last):
                break
            rows = self._files.read("items", [part], " AND ".join(where), values, order="seq", limit=limit - len(found))
            found += [_item(row) for row in rows]
        return found

    def outcomes(
        self, archive: str, stage: int, *, after: int, states: Sequence[ItemState], limit: int
    ) -> list[SimpleNamespace]:
        """Settled rows of a stage in commit order after a settle number."""
        parts = [part for part in self._parts(archive, "items", stage) if part.settled_to > after]
        parts.sort(key=lambda part: part.settled_from)
        found: list[dict[str, Any]] = []
        # Items end about in their order: once a page is full, only parts that begin below its end may have more of it.
        for part in parts:
            if len(found) >= limit and part.settled_from > found[-1]["settle_number"]:
                break
            found += self._files.read(
                "items",
                [part],
                "settle_number > $after AND state IN (SELECT unnest($states))",
                {"after": after, "states": [str(state) for state in states]},
                order="settle_number",
                limit=limit,
            )
            found = sorted(found, key=lambda row: row["settle_number"])[:limit]
        return [_item(row) for row in found]

    def events(
        self, archive: str, *, after: int, types: Sequence[str] = (), subject: str = "", limit: int
    ) -> list[SimpleNamespace]:
        """Events with a number > `after`, in order; of these types and this subject where given."""
        where, values = ["number > $after"], dict[str, object](after=after)
        if types:
            where.append("type IN (SELECT unnest($types))")
            values["types"] = list(types)
        if subject:
            where.append("subject = $subject")
            values["subject"] = subject
        parts = [part for part in self._parts(archive, "events") if part.last > after]
        rows = self._files.read("events", parts, " AND ".join(where), values, order="number", limit=limit)
        return [SimpleNamespace(**{**row, "data": row["data"].encode()}) for row in rows]

    def ledger(self, archive: str, *, after: int, limit: int) -> list[SimpleNamespace]:
        """Batches of the ledger with a number > `after`, in order."""
        parts = [part for part in self._parts(archive, "ledger") if part.last > after]
        rows = self._files.read("ledger", parts, "number > $after", {"after": after}, order="number", limit=limit)
        return [SimpleNamespace(**row) for row in rows]

    def _parts(self, archive: str, table: str, stage: int | None = None) -> list[Part]:
        with self._lock:
            index = self._indexes.get(archive)
            if index is not None:
                self._indexes.move_to_end(archive)
        if index is None:
            index = self._files.index(archive)
            with self._lock:
                self._indexes[archive] = index
                while len(self._indexes) > KEPT:
                    self._indexes.popitem(last=False)
        return [part for part in index.parts.get(table, ()) if stage is None or part.stage == stage]


def _item(row: dict[str, Any]) -> SimpleNamespace:
    result = row["result"]
    return SimpleNamespace(
        **{
            **row,
            "grp": row["group"],
            "session": row["worker"],
            "result": result.encode() if result is not None else None,
        }
    )
