"""gRPC of sources: validate, call, translate. What blocks runs in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any

from google.protobuf import json_format

from penstock.runtime.errors import InvalidInput
from penstock.runtime.logs import get_logger
from penstock.runtime.paging import page_position
from penstock.runtime.plain_text import plain_text
from penstock.v1 import planner_pb2, sources_pb2
from penstock.words import source_name_problem
from planner.naming import Version
from planner.planner_calls import Context, PlannerCalls, page_size
from planner.sources import CATALOG, TABLE, TASKS
from planner.store import SourceRow
from planner.table_sources import wanted_of
from planner.translate import source_message, statistics_messages
from planner.uploads import batches, header_of, in_thread

__all__ = ["SourceCalls"]

log = get_logger("planner")


class SourceCalls(PlannerCalls):
    """The methods of PlannerService about sources."""

    async def CreateSource(
        self, request_iterator: AsyncIterator[planner_pb2.CreateSourceRequest], context: Context
    ) -> planner_pb2.Source:
        header = await header_of(request_iterator)
        plain_text(header.request_id, "request_id")
        name = _name(header.name)
        async with self._turns.one():
            with self._parts.staging.upload() as folder:
                upload = (
                    self._parts.table_sources.begin(
                        folder,
                        kind=header.kind,
                        options=header.table,
                        table=header.origin_table,
                        query=header.origin_query,
                    )
                    if header.kind in (CATALOG, TABLE)
                    else self._parts.sources.begin(folder, kind=header.kind, archive=header.zip, tasks=header.tasks)
                )
                async for batch in batches(request_iterator):
                    await in_thread(lambda batch=batch: upload.feed(batch))  # type: ignore[misc]
                row = await in_thread(lambda: upload.finish(header.request_id), stop=upload.stop)
                reading = planner_pb2.AddSourceRequest(kind=header.kind, table=header.table, tasks=header.tasks)
                version = await self._named(row, name, reading, header.actor) if name else None
        log.info("a source was made", source=row.source_id, name=name, items=row.item_count, bytes=row.size_bytes)
        return source_message(row, version)

    async def AddSource(self, request: planner_pb2.AddSourceRequest, context: Context) -> planner_pb2.Source:
        name = _name(request.name)
        if not name:
            raise InvalidInput("a source that the planner reads itself has a name", code="bad_name")
        latest = await asyncio.to_thread(self._parts.names.latest, name)
        if latest is None:
            return await self._read(name, request, request.request_id)
        if latest.version > 1 or latest.reading != _kept(request):
            raise self._parts.names.taken(name)
        # The same once more: its answer was lost.
        return source_message(await asyncio.to_thread(self._parts.store.source, latest.source_id), latest)

    async def RefreshSource(self, request: planner_pb2.RefreshSourceRequest, context: Context) -> planner_pb2.Source:
        name = plain_text(request.name, "name")
        latest = await asyncio.to_thread(self._parts.names.known, name)
        reading = json_format.ParseDict(dict(latest.reading), planner_pb2.AddSourceRequest())
        if not reading.HasField("origin"):
            raise InvalidInput(
                f"source {name!r} was uploaded, so there is nothing to read again: upload it under its name",
                code="no_origin",
            )
        reading.actor = request.actor
        return await self._read(name, reading, request.request_id)

    async def _read(self, name: str, reading: planner_pb2.AddSourceRequest, request_id: str) -> planner_pb2.Source:
        """The next version of a name from where the planner itself reads it."""
        plain_text(request_id, "request_id")
        actor = plain_text(reading.actor, "actor")
        stop = threading.Event()
        async with self._turns.one():
            with self._parts.staging.upload() as folder:

                def read() -> SourceRow:
                    if reading.kind == TASKS:
                        upload = self._parts.sources.begin(folder, kind=TASKS, archive=False, tasks=reading.tasks)
                        upload.feed(self._parts.origins.task_file(reading.origin))
                        return upload.finish(request_id)
                    found = self._parts.origins.table(reading.kind, reading.origin)
                    return self._parts.table_sources.read(
                        found, wanted_of(reading.table), folder, kind=reading.kind, request_id=request_id, stop=stop
                    )

                row = await in_thread(read, stop=stop)
                version = await self._named(row, name, reading, actor)
        log.info("a source was read", source=row.source_id, name=name, items=row.item_count)
        return source_message(row, version)

    async def _named(self, row: SourceRow, name: str, reading: planner_pb2.AddSourceRequest, actor: str) -> Version:
        """The version as it stands under a name: a new one, or the latest where it is the same."""
        latest = await asyncio.to_thread(self._parts.names.latest, name)
        change = await self._change(latest, row) if latest is not None else {}
        return await asyncio.to_thread(
            lambda: self._parts.names.add(
                name,
                row.kind,
                row.source_id,
                before=latest.version if latest is not None else 0,
                reading=_kept(reading),
                change=change,
                actor=plain_text(actor, "actor"),
                now_ms=self._parts.clock.now_ms(),
            )
        )

    async def _change(self, latest: Version, row: SourceRow) -> Mapping[str, Any]:
        if latest.source_id == row.source_id or row.kind != latest.kind:
            return {}
        before = await asyncio.to_thread(self._parts.store.source, latest.source_id)
        change = sources_pb2.SourceChange(from_source_id=before.source_id)
        with self._parts.staging.upload() as folder:
            found = await in_thread(
                lambda: self._parts.table_sources.difference(
                    folder.blobs.path(before.snapshot_sha256), folder.blobs.path(row.snapshot_sha256), folder
                )
            )
        change.added_count, change.changed_count, change.removed_count = found.added, found.changed, found.removed
        change.added.extend(found.first_added)
        change.changed.extend(found.first_changed)
        change.removed.extend(found.first_removed)
        return json_format.MessageToDict(change, preserving_proto_field_name=True)

    async def GetSource(self, request: planner_pb2.GetSourceRequest, context: Context) -> planner_pb2.Source:
        row, version = await asyncio.to_thread(self._find, plain_text(request.source_id, "source_id"))
        return source_message(row, version)

    async def DescribeSource(
        self, request: planner_pb2.GetSourceRequest, context: Context
    ) -> planner_pb2.SourceDescription:
        row, version = await asyncio.to_thread(self._find, plain_text(request.source_id, "source_id"))
        columns = statistics_messages(row) if row.table_schema else ()
        return planner_pb2.SourceDescription(source=source_message(row, version), columns=columns)

    async def ListSources(
        self, request: planner_pb2.ListSourcesRequest, context: Context
    ) -> planner_pb2.ListSourcesResponse:
        limit = page_size(request.page_size, 50, 1_000)
        after, search = plain_text(request.page_token, "page_token"), plain_text(request.search, "search")

        def read() -> planner_pb2.ListSourcesResponse:
            found = self._parts.names.names(after=after, search=search, kind=request.kind, limit=limit + 1)
            sources = [source_message(self._parts.store.source(one.source_id), one) for one in found[:limit]]
            token = found[limit - 1].name if len(found) > limit else ""
            return planner_pb2.ListSourcesResponse(sources=sources, next_page_token=token)

        return await asyncio.to_thread(read)

    async def ListSourceVersions(
        self, request: planner_pb2.ListSourceVersionsRequest, context: Context
    ) -> planner_pb2.ListSourceVersionsResponse:
        limit = page_size(request.page_size, 50, 1_000)
        name, before = plain_text(request.name, "name"), page_position(request.page_token)

        def read() -> planner_pb2.ListSourceVersionsResponse:
            found = self._parts.names.versions(name, before=before, limit=limit + 1)
            sources = [source_message(self._parts.store.source(one.source_id), one) for one in found[:limit]]
            token = str(found[limit - 1].version) if len(found) > limit else ""
            return planner_pb2.ListSourceVersionsResponse(sources=sources, next_page_token=token)

        return await asyncio.to_thread(read)

    async def ReadSourceRows(self, request: planner_pb2.ReadSourceRowsRequest, context: Context) -> sources_pb2.RowPage:
        row, version = await asyncio.to_thread(self._find, plain_text(request.source_id, "source_id"))
        return await self._parts.pages.page(row, version.name if version is not None else row.source_id, request.query)

    async def DeleteSource(
        self, request: planner_pb2.DeleteSourceRequest, context: Context
    ) -> planner_pb2.DeleteSourceResponse:
        name = plain_text(request.name, "name")
        if request.validate_only:
            count, drafts = await asyncio.to_thread(self._parts.names.removable, name)
            return planner_pb2.DeleteSourceResponse(version_count=count, draft_count=drafts)
        count, drafts = await asyncio.to_thread(self._parts.names.remove, name)
        actor = plain_text(request.actor, "actor")
        log.info("a source was removed", name=name, versions=count, drafts=drafts, actor=actor)
        if drafts:
            self._parts.reader.forget()
        return planner_pb2.DeleteSourceResponse(version_count=count, draft_count=drafts)


def _name(name: str) -> str:
    if name and (problem := source_name_problem(name)):
        raise InvalidInput(problem, code="bad_name")
    return name


def _kept(reading: planner_pb2.AddSourceRequest) -> dict[str, Any]:
    """What a name remembers of where it is read, and how."""
    kept = planner_pb2.AddSourceRequest()
    kept.CopyFrom(reading)
    for field in ("name", "actor", "request_id"):
        kept.ClearField(field)
    return json_format.MessageToDict(kept, preserving_proto_field_name=True)
