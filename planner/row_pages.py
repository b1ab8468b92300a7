"""Pages of rows, of a source or of a plan's order: from the question on the wire to the answer.

The results of a processor are told beside the rows where they are asked for; a copy of them that can't be brought up to
date is told as it stands, and says so, since who looks at rows wants to see them also while the scheduler is away.
Raises InvalidInput for what is wrong with a question, Unavailable for a file that can't be read.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson

from penstock.declared.folder import Processors
from penstock.filter_names import listed
from penstock.filter_places import nearest
from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import to_timestamp
from penstock.runtime.errors import InvalidInput
from penstock.runtime.plain_text import plain_text
from penstock.v1 import sources_pb2
from planner.choices import sort_columns
from planner.domain.schema import Column
from planner.grid import Grid, GridPage, GridQuery
from planner.grid_results import Beside, ResultsOf, RowResult
from planner.results.recent import Known, Recent
from planner.store import SourceRow
from planner.translate import column_message, schema_of, table_page

__all__ = ["RowPages"]


class RowPages:
    def __init__(self, *, grid: Grid, recent: Recent, processors: Processors, blobs: BlobStore) -> None:
        self._grid = grid
        self._recent = recent
        self._processors = processors
        self._blobs = blobs

    async def page(
        self, source: SourceRow, name: str, asked: sources_pb2.RowQuery, *, plan: Path | None = None
    ) -> sources_pb2.RowPage:
        """name: of the source, under which outcomes know it; plan: the file of a plan of it."""
        schema = schema_of(source)
        processor = plain_text(asked.result_of, "result_of")
        known = await self._recent.known() if processor else Known((), 0)
        query = GridQuery(
            plan=plan,
            filter=asked.filter,
            search=asked.search,
            sort=sort_columns(listed(asked.order_by)) if asked.order_by.strip() else (),
            offset=asked.skip,
            limit=asked.page_size or 100,
            groups=asked.with_groups,
            results=ResultsOf(processor, name, known.parts) if processor else None,
        )

        def read() -> sources_pb2.RowPage:
            found = self._grid.page(self._blobs.path(source.snapshot_sha256), schema, query)
            page = table_page(schema, found)
            if found.beside is not None:
                self._check(found.beside, known)
                _tell(page, found, found.beside, known)
            return page

        return await asyncio.to_thread(read)

    def _check(self, beside: Beside, known: Known) -> None:
        """A processor that nobody knows and that left no result is a mistake."""
        if beside.count or known.problem:
            return
        names = self._processors.names()
        if beside.asked.processor not in names:
            raise InvalidInput(
                f"result_of: there is no processor {beside.asked.processor!r}, and no result of one; "
                f"{nearest(beside.asked.processor, names)}",
                code="no_such_processor",
            )


def _tell(page: sources_pb2.RowPage, found: GridPage, beside: Beside, known: Known) -> None:
    processor = beside.asked.processor
    page.results.processor, page.results.problem = processor, known.problem
    if known.read_ms:
        page.results.read_time.FromMilliseconds(known.read_ms)
    page.results.columns.extend(column_message(Column(name, one.kind)) for name, one in beside.columns.items())
    page.results.states.extend(sources_pb2.StateCount(state=state, count=count) for state, count in found.states)
    for message, row in zip(page.rows, found.rows, strict=True):
        if row.result is not None:
            message.result.CopyFrom(_result(processor, row.result))


def _result(processor: str, result: RowResult) -> sources_pb2.RowResult:
    return sources_pb2.RowResult(
        processor=processor,
        version=result.version,
        state=result.state,
        confidence=result.confidence,
        cost_micros=result.cost_micros,
        error=result.error,
        run_id=result.run_id,
        end_time=to_timestamp(result.end_ms) if result.end_ms is not None else None,
        run_number=result.run,
        kind=result.kind,
        seconds=result.seconds,
        tries=result.tries,
        healed=result.healed,
        value=_value(result.value),
    )


def _value(text: str) -> bytes:
    """As JSON; what was cut is a text."""
    try:
        orjson.loads(text or "null")
    except ValueError:
        return orjson.dumps(text)
    return text.encode()
