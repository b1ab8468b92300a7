"""What a plan of a table asks for, on the wire, as what `planner.selecting` understands.

Some selections need to know what runs recorded, or run a SELECT of the user: those are made into a file of keys first,
in the upload's folder. A digest of each such file is part of the plan's id: the same results give the same plan. What
the first stage's processor has completed already, with the same payload, version and parameters, is left out and
counted, unless the selection says `again` or asks by itself for what was done.

Nothing here is kept. Raises InvalidInput for what is wrong with a selection, NotFound for a plan that is none,
Unavailable while results can't be read.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from penstock.filter_names import name_read
from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import Clock
from penstock.runtime.errors import InvalidInput
from penstock.runtime.parquet_files import ParquetFiles, literal
from penstock.v1 import sources_pb2
from planner.domain.objections import Objection
from planner.domain.ordering import Ordering, SortColumn
from planner.domain.schema import Schema
from planner.domain.selection import Flags, Selection
from planner.domain.stages import StageSettings
from planner.references import selection_by_ids
from planner.results.asked import Asked, Done, Found
from planner.results.copying import Results, parameters_hash
from planner.sandbox.sandbox import Sandbox
from planner.sandbox.tables import Table, key_columns
from planner.selecting import CUSTOM_SQL, Ready, Wanted, problems_of
from planner.staging import Upload
from planner.store import Store

__all__ = ["Choices", "Chooser", "Chosen", "ordering_of", "problems_as_asked", "sort_columns"]

DONE_ALREADY = "done already"
_PLAIN = ("all", "keys", "filter")
"""Selections for which nothing but the source is read."""
_BY_ITSELF = ("missing", "reprocess", "failed_of_run")
"""Selections that say by themselves what of the done is meant."""


@dataclass(frozen=True)
class Chooser:
    """Whose rows are chosen, and for whom. name: of the source, or its version's id where it has none.
    processors: those that there are now."""

    name: str
    snapshot: Path
    item_count: int
    schema: Schema
    stage: StageSettings
    processors: Sequence[str]


@dataclass(frozen=True)
class Chosen:
    """asked: the selection, with the ids of the plan and of the run that it names; identity: what the plan's id says
    of it; notices: what a person should know."""

    asked: sources_pb2.Selection
    wanted: Wanted
    identity: Mapping[str, object]
    notices: Sequence[Objection] = ()


@dataclass
class _Read:
    """What was read for a selection so far. run: the one that it names, as it was named."""

    run: str
    identity: dict[str, object] = field(default_factory=dict)
    notices: list[Objection] = field(default_factory=list)
    parts: list[Path] | None = None


class Choices:
    def __init__(
        self,
        *,
        results: Results,
        sandbox: Sandbox,
        files: ParquetFiles,
        store: Store,
        blobs: BlobStore,
        clock: Clock,
    ) -> None:
        self._results = results
        self._sandbox = sandbox
        self._files = files
        self._store = store
        self._blobs = blobs
        self._clock = clock

    async def chosen(
        self,
        chooser: Chooser,
        asked: sources_pb2.Selection,
        ordering: sources_pb2.Ordering,
        upload: Upload,
    ) -> Chosen:
        order = ordering_of(ordering)
        read = _Read(run=asked.failed_of_run)
        asked = await selection_by_ids(asked, self._store, lambda: self._asked(read))
        which = asked.WhichOneof("include") or "all"
        ready = await self._ready(which, chooser, asked, upload, read)
        if which not in _PLAIN:
            # Others may find the same keys; the plan tells of this one.
            read.identity["asked"] = _asked_for(which, asked)
        selection = _selection(which, asked)
        left_out = {}
        if not asked.again and which not in _BY_ITSELF:
            done = await self._done(chooser, upload, read)
            if done.count:
                left_out[DONE_ALREADY] = done.file
                read.identity["done"] = done.digest
        wanted = Wanted(
            snapshot=chooser.snapshot,
            schema=chooser.schema,
            selection=selection,
            ordering=order,
            ready=ready,
            left_out=left_out,
        )
        identity = {
            "name": chooser.name,
            "selection": selection.identity(ordered=order.as_selected),
            "ordering": order.identity(),
            **read.identity,
        }
        return Chosen(asked, wanted, identity, read.notices)

    async def _ready(
        self, which: str, chooser: Chooser, asked: sources_pb2.Selection, upload: Upload, read: _Read
    ) -> Ready | None:
        place, snapshot, name = upload.path("ready"), chooser.snapshot, chooser.name
        if which in _PLAIN:
            return None
        if which == "sql":
            return await self._custom(chooser, asked.sql, upload, read)
        if which == "changed_since_plan":
            plan = await asyncio.to_thread(self._store.plan, asked.changed_since_plan, now_ms=self._clock.now_ms())
            file = await asyncio.to_thread(self._blobs.path, plan.items_sha256)
            results = Asked(self._files, ())
            found = await asyncio.to_thread(results.changed, snapshot, place, plan=file)
            return self._kept(found, f"changed since {plan.name or plan.plan_id}", which, read)
        results = await self._asked(read)
        if which == "missing":
            found = await asyncio.to_thread(
                results.missing, snapshot, place, source=name, processor=_processor("missing", asked.missing)
            )
            if found.count == chooser.item_count and asked.missing not in chooser.processors:
                # A name that was mistyped has no results either, and would take everything.
                raise InvalidInput(
                    f"no processor named {asked.missing!r}, and no result of one; "
                    f"there are: {', '.join(chooser.processors)}",
                    code="processor_not_found",
                )
            return self._kept(found, f"no result of {asked.missing}", which, read)
        if which == "failed_of_run":
            found = await asyncio.to_thread(results.failed, snapshot, place, run_id=asked.failed_of_run)
            if not found.count:
                raise InvalidInput(
                    f"no row of {name} failed in run {read.run!r}, or there is no such run",
                    code="selection_empty",
                )
            return self._kept(found, f"failed in {asked.failed_of_run}", which, read)
        processor = _processor("reprocess.processor", asked.reprocess.processor)
        threshold = _threshold(asked.reprocess.threshold)
        found, without = await asyncio.to_thread(
            results.below, snapshot, place, source=name, processor=processor, threshold=threshold
        )
        if without:
            told = f"{without:,} results of {processor} have no confidence, so they are below no threshold"
            read.notices.append(Objection("no_confidence", told))
        return self._kept(found, f"confidence of {processor} below {threshold:g}", which, read)

    def _kept(self, found: Found, rule: str, which: str, read: _Read) -> Ready:
        read.identity[which] = found.digest
        return Ready(found.file, rule)

    async def _custom(self, chooser: Chooser, sql: str, upload: Upload, read: _Read) -> Ready:
        schema = chooser.schema
        items = Table.of(chooser.snapshot, schema)
        results = await self._asked(read)
        place = upload.path("results")
        columns = await asyncio.to_thread(results.table, place, source=chooser.name)
        tables = {"items": items, chooser.name: items, "results": Table(place, columns)}
        lines, keys = upload.path("selected"), upload.path("ready")
        await self._sandbox.select(sql, tables, keys_of=key_columns(schema), into=lines)

        def file_of_keys() -> str:
            told = (
                "read_json($lines, format = 'newline_delimited', columns = {key: 'VARCHAR'}, "
                "maximum_object_size = 67108864)"
            )
            with self._files.cursor() as cursor:
                cursor.execute(
                    f"COPY (SELECT key FROM {told}) TO {literal(keys.resolve())} (FORMAT parquet)",
                    {"lines": str(lines.resolve())},
                )
                (digest,) = cursor.execute(
                    "SELECT md5(coalesce(string_agg(md5(key), ''), '')) FROM read_parquet($keys)",
                    {"keys": str(keys.resolve())},
                ).fetchall()[0]
            return str(digest)

        read.identity["sql"] = await asyncio.to_thread(file_of_keys)
        return Ready(keys, CUSTOM_SQL)

    async def _done(self, chooser: Chooser, upload: Upload, read: _Read) -> Found:
        results = await self._asked(read)
        what = Done(
            source=chooser.name,
            processor=chooser.stage.processor,
            version=chooser.stage.processor_version,
            parameters=parameters_hash(chooser.stage.parameters),
        )
        return await asyncio.to_thread(results.done, chooser.snapshot, upload.path("done"), what)

    async def _asked(self, read: _Read) -> Asked:
        """The results, caught up once for a selection."""
        if read.parts is None:
            read.parts = await self._results.catch_up()
        return Asked(self._files, read.parts)


def problems_as_asked(
    schema: Schema, asked: sources_pb2.Selection, ordering: sources_pb2.Ordering
) -> list[InvalidInput]:
    """What is wrong with a selection in an order, as far as nothing need be read for it."""
    which = asked.WhichOneof("include") or "all"
    try:
        order = ordering_of(ordering)
    except InvalidInput as error:
        return [error]
    ready = None if which in _PLAIN else Ready((), which)
    return problems_of(
        Wanted(snapshot=Path(), schema=schema, selection=_selection(which, asked), ordering=order, ready=ready)
    )


def _asked_for(which: str, asked: sources_pb2.Selection) -> list[object]:
    if which == "reprocess":
        return [which, asked.reprocess.processor, asked.reprocess.threshold]
    return [which, getattr(asked, which)]


def _selection(which: str, asked: sources_pb2.Selection) -> Selection:
    return Selection(
        ids=list(asked.keys.keys) if which == "keys" else None,
        filter=asked.filter if which == "filter" else None,
        everything=which == "all",
        exclude_ids=list(asked.exclude_keys),
        exclude_filter=asked.exclude_filter,
        flags=Flags(asked.org, asked.repo, asked.state),
        limit=asked.limit,
    )


def ordering_of(asked: sources_pb2.Ordering) -> Ordering:
    """Raises InvalidInput for a sort column that is none."""
    return Ordering(
        pinned=tuple(asked.pinned),
        group_order=tuple(asked.groups),
        sort=sort_columns(asked.sort) if asked.sort else None,
        as_selected=asked.as_selected,
    )


def sort_columns(texts: Sequence[str]) -> tuple[SortColumn, ...]:
    """From `price desc`, `name`, each with its direction; odd names in backticks, as in filters."""
    found = []
    for text in texts:
        name, _, direction = text.strip().rpartition(" ")
        if direction.lower() not in ("asc", "desc") or not name:
            name, direction = text.strip(), "asc"
        if not name:
            raise InvalidInput("a sort column is empty: write it like `price desc`", code="bad_order")
        found.append(SortColumn(name_read(name.strip()), direction.lower() == "desc"))
    return tuple(found)


def _processor(field: str, name: str) -> str:
    if not name:
        raise InvalidInput(f"selection.{field} names no processor", code="bad_selection")
    return name


def _threshold(number: float) -> float:
    if not math.isfinite(number):
        raise InvalidInput(f"selection.reprocess.threshold is a number, and this is {number}", code="bad_selection")
    return number
