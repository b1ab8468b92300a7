"""Results and exports as bytes, written page by page: 100,000 rows pass through a few megabytes.

CSV: one line a document, an empty line, then the job's summary as `name,value` lines. Text that a spreadsheet would
take for a formula gets a leading apostrophe. JSON: an object of `job`, `documents`, `clusters`, `summary`. Each
stream's first piece is made before it is handed on by the gateway, so that what fails at the start is still an error
and not a broken file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import orjson

from penstock.client.collection_views import matrix_rows
from penstock.client.documents import Documents, Row, cluster_row
from penstock.client.jobs import COMPLETED, FAILED, job_status
from penstock.runtime.errors import InvalidInput
from penstock.v1 import analyzer_pb2, scheduler_pb2

__all__ = ["COLUMNS", "FORMATS", "csv_export", "export", "json_export", "results_json"]

COLUMNS = (
    "id",
    "filename",
    "word_count",
    "ai_probability",
    "confidence_level",
    "high",
    "medium",
    "low",
    "uncertain",
    "cluster_id",
    "status",
    "error",
)
FORMULA_BEGINS = ("=", "+", "-", "@")
MATRIX_ROWS = 50  # in one piece of the stream

Cell = str | int | float | None


def guarded(value: Cell) -> Cell:
    """The cell as a spreadsheet may see it: text is text."""
    if isinstance(value, str) and value.startswith(FORMULA_BEGINS):
        return f"'{value}"
    return value


@dataclass
class Totals:
    """What the summary says of the rows; filled in as they pass."""

    completed: int = 0
    failed: int = 0
    judged: int = 0
    probability: float = 0.0

    def add(self, row: Row) -> None:
        self.completed += row.status == COMPLETED
        self.failed += row.status == FAILED
        if row.ai_probability is not None:
            self.judged += 1
            self.probability += row.ai_probability


def _summary(
    run: scheduler_pb2.Run, totals: Totals, collection: analyzer_pb2.Collection | None
) -> dict[str, str | int | float | None]:
    return {
        **job_status(run),  # type: ignore[dict-item]  # a TypedDict of just these types
        "completed_documents": totals.completed,
        "failed_documents": totals.failed,
        "clusters": len(collection.clusters) if collection else None,
        "unclustered_documents": collection.unclustered_count if collection else None,
        "avg_ai_probability": round(totals.probability / totals.judged, 3) if totals.judged else None,
        "embedding_provider": collection.embedding_provider if collection else None,
        "embedding_model": collection.embedding_model if collection else None,
    }


async def csv_export(documents: Documents, run: scheduler_pb2.Run) -> AsyncIterator[bytes]:
    collection = await documents.collection(run)
    totals = Totals()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")

    def taken() -> bytes:
        data = text.getvalue().encode()
        text.seek(0)
        text.truncate()
        return data

    writer.writerow(COLUMNS)
    async for page in documents.pages(run):
        for row in page:
            totals.add(row)
            writer.writerow(
                (
                    row.id,
                    guarded(row.filename),
                    row.word_count,
                    row.ai_probability,
                    row.confidence_level,
                    *(row.distribution or (None, None, None, None)),
                    row.cluster_id,
                    row.status,
                    guarded(row.error),
                )
            )
        yield taken()
    text.write("\n")
    for name, value in _summary(run, totals, collection).items():
        writer.writerow((name, guarded(value)))
    yield taken()


def _joined(rows: list[bytes], *, first: bool) -> bytes:
    return (b"" if first or not rows else b",") + b",".join(rows)


async def json_export(documents: Documents, run: scheduler_pb2.Run) -> AsyncIterator[bytes]:
    collection = await documents.collection(run)
    totals = Totals()

    def line(row: Row) -> bytes:
        totals.add(row)
        return b"\n" + orjson.dumps({**row.brief(), "confidence_distribution": row.confidence_distribution()})

    async for piece in _rows(documents, run, line):
        yield piece
    clusters = [cluster_row(cluster) for cluster in collection.clusters] if collection else []
    yield b'],"clusters":%b,"summary":%b}\n' % (
        orjson.dumps(clusters),
        orjson.dumps(_summary(run, totals, collection)),
    )


async def results_json(documents: Documents, run: scheduler_pb2.Run) -> AsyncIterator[bytes]:
    """`Documents.results` as it is written to the wire."""
    collection = await documents.collection(run)
    async for piece in _rows(documents, run, lambda row: orjson.dumps(row.brief())):
        yield piece
    yield b'],"clusters":%b' % orjson.dumps([cluster_row(cluster) for cluster in (collection or NOTHING).clusters])
    for name, matrix in (
        ("similarity_matrix", (collection or NOTHING).similarity_matrix),
        ("cluster_matrix", (collection or NOTHING).cluster_matrix),
    ):
        yield b',"%b":' % name.encode()
        async for piece in _matrix(matrix):
            yield piece
    yield b"}"


NOTHING = analyzer_pb2.Collection()


async def _rows(documents: Documents, run: scheduler_pb2.Run, line: Callable[[Row], bytes]) -> AsyncIterator[bytes]:
    start = b'{"job":%b,"documents":[' % orjson.dumps(job_status(run))
    first = True
    async for page in documents.pages(run):
        rows = [line(row) for row in page]
        yield start + _joined(rows, first=first)
        start = b""
        first = first and not rows
    yield start


async def _matrix(matrix: analyzer_pb2.Matrix) -> AsyncIterator[bytes]:
    if not matrix.size:
        yield b"null"
        return
    rows: list[bytes] = []
    before = b"["
    for row in matrix_rows(matrix):
        rows.append(orjson.dumps(row))
        if len(rows) == MATRIX_ROWS:
            yield before + b",".join(rows)
            before = b","
            rows.clear()
    yield (before + b",".join(rows) if rows else b"") + b"]"


Export = Callable[[Documents, scheduler_pb2.Run], AsyncIterator[bytes]]
FORMATS: dict[str, tuple[str, Export]] = {
    "csv": ("text/csv; charset=utf-8", csv_export),
    "json": ("application/json", json_export),
}


def export(name: str) -> tuple[str, Export]:
    """(media type, writer) of an export format. Raises InvalidInput that lists them."""
    if name not in FORMATS:
        raise InvalidInput(f"format is {name!r}; it must be one of {', '.join(FORMATS)}", code="bad_format")
    return FORMATS[name]
