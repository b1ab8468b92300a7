"""The analyzer's SQL: collections, and one row for each of their documents.

A collection's summary (clusters, matrix, groups, pairs, passages) and a document's summary are protobuf messages as
they will be answered; neighbours are packed numbers: seq (i64) and similarity (f32) each, their names looked up when
they are read. A collection is replaced as a whole, in one transaction; a reader sees the old one or the new one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import sqlalchemy as sa

from penstock.runtime.errors import NotFound
from penstock.runtime.sql import Database

__all__ = ["CollectionRow", "DocumentRow", "Store", "metadata", "pack_neighbours", "unpack_neighbours"]

CHUNK_ROWS = 2_000
CHUNK_NAMES = 500
T = TypeVar("T")
_PACKED = struct.Struct("<qf")

metadata = sa.MetaData()

collections = sa.Table(
    "collections",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("document_count", sa.Integer, nullable=False),
    sa.Column("unclustered_count", sa.Integer, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("summary", sa.LargeBinary, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
)

documents = sa.Table(
    "collection_documents",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),  # in cluster order
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("cluster_id", sa.Integer, nullable=True),
    sa.Column("summary", sa.LargeBinary, nullable=False),
    sa.Column("neighbours", sa.LargeBinary, nullable=False),
    sa.Index("collection_documents_seq", "run_id", "seq", unique=True),
)


@dataclass(frozen=True, slots=True)
class CollectionRow:
    run_id: str
    document_count: int
    unclustered_count: int
    provider: str
    model: str
    summary: bytes
    create_ms: int


@dataclass(frozen=True, slots=True)
class DocumentRow:
    position: int
    seq: int
    filename: str
    cluster_id: int | None
    summary: bytes
    neighbours: bytes


def pack_neighbours(pairs: Iterable[tuple[int, float]]) -> bytes:
    return b"".join(_PACKED.pack(seq, similarity) for seq, similarity in pairs)


def unpack_neighbours(data: bytes) -> list[tuple[int, float]]:
    return [(seq, similarity) for seq, similarity in _PACKED.iter_unpack(data)]


class Store:
    def __init__(self, database: Database) -> None:
        self._database = database

    def replace(self, row: CollectionRow, rows: Iterable[DocumentRow]) -> None:
        """Keeps a collection under its run id. One that was there keeps its create time and loses the rest."""
        with self._database.write() as connection:
            # The time of the first execution: a second one changes nothing.
            before = connection.execute(
                sa.select(collections.c.create_ms).where(collections.c.run_id == row.run_id).with_for_update()
            ).scalar()
            connection.execute(documents.delete().where(documents.c.run_id == row.run_id))
            connection.execute(collections.delete().where(collections.c.run_id == row.run_id))
            connection.execute(
                collections.insert(),
                {
                    "run_id": row.run_id,
                    "document_count": row.document_count,
                    "unclustered_count": row.unclustered_count,
                    "provider": row.provider,
                    "model": row.model,
                    "summary": row.summary,
                    "create_ms": row.create_ms if before is None else before,
                },
            )
            for chunk in _chunks(rows, CHUNK_ROWS):
                connection.execute(
                    documents.insert(),
                    [
                        {
                            "run_id": row.run_id,
                            "position": each.position,
                            "seq": each.seq,
                            "filename": each.filename,
                            "cluster_id": each.cluster_id,
                            "summary": each.summary,
                            "neighbours": each.neighbours,
                        }
                        for each in chunk
                    ],
                )

    def collection(self, run_id: str) -> CollectionRow:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(collections).where(collections.c.run_id == run_id)).one_or_none()
        if row is None:
            raise NotFound(f"run {run_id!r} has no collection (yet)", code="collection_not_found")
        return CollectionRow(*row)

    def page(self, run_id: str, *, after: int, limit: int) -> tuple[list[DocumentRow], dict[int, str]]:
        """Up to `limit` documents after position `after`, and the names of their neighbours. Raises NotFound."""
        return self._read(
            run_id,
            [sa.select(*_document_columns())
             .where(documents.c.run_id == run_id, documents.c.position > after)
             .order_by(documents.c.position)
             .limit(limit)],
        )  # fmt: skip

    def chosen(self, run_id: str, seqs: Sequence[int]) -> tuple[list[DocumentRow], dict[int, str]]:
        """The documents with these seqs, in cluster order; unknown seqs are left out. Raises NotFound."""
        return self._read(
            run_id,
            [sa.select(*_document_columns()).where(documents.c.run_id == run_id, documents.c.seq.in_(chunk))
             for chunk in _chunks(sorted(set(seqs)), CHUNK_NAMES)],
        )  # fmt: skip

    def _read(
        self, run_id: str, statements: Sequence[sa.Select[int, int, str, int | None, bytes, bytes]]
    ) -> tuple[list[DocumentRow], dict[int, str]]:
        with self._database.read() as connection:
            known = connection.execute(sa.select(collections.c.run_id).where(collections.c.run_id == run_id)).scalar()
            if known is None:
                raise NotFound(f"run {run_id!r} has no collection (yet)", code="collection_not_found")
            rows = [DocumentRow(*row) for statement in statements for row in connection.execute(statement)]
            rows.sort(key=lambda row: row.position)
            return rows, _names(connection, run_id, rows)


def _document_columns() -> tuple[
    sa.Column[int], sa.Column[int], sa.Column[str], sa.Column[int | None], sa.Column[bytes], sa.Column[bytes]
]:
    c = documents.c
    return c.position, c.seq, c.filename, c.cluster_id, c.summary, c.neighbours


def _names(connection: sa.Connection, run_id: str, rows: Sequence[DocumentRow]) -> dict[int, str]:
    """Filenames of all neighbours of these rows: those of the page itself, then the others by seq."""
    names = {row.seq: row.filename for row in rows}
    missing = {seq for row in rows for seq, _ in unpack_neighbours(row.neighbours)} - names.keys()
    for chunk in _chunks(sorted(missing), CHUNK_NAMES):
        statement = sa.select(documents.c.seq, documents.c.filename).where(
            documents.c.run_id == run_id, documents.c.seq.in_(chunk)
        )
        names.update((seq, name) for seq, name in connection.execute(statement))
    return names


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
