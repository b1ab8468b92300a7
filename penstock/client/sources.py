"""Where items come from: uploaded, or read by the planner itself; kept as immutable versions, with names or without.

An upload is sent again as a whole when it breaks off, under the same request id; the planner keeps nothing of a stream
that did not end. Each method is one call, with the retry that is safe for it. A source is meant by its name (its latest
version) or by the id of a version.
"""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from penstock.client.connection import Connection
from penstock.client.filling import filled
from penstock.client.selections import row_query
from penstock.client.uploads import (
    OnBytes,
    PathLike,
    counting,
    document_parts,
    file_parts,
    item_parts,
    listed,
    sent,
    table_files,
)
from penstock.runtime.errors import InvalidInput
from penstock.v1 import planner_pb2, sources_pb2

__all__ = ["SOURCE_KINDS", "Sources", "source_kind_of"]

READING_SECONDS = 1800.0  # the planner reads a whole table, on its machine or from a database, within the call

SOURCE_KINDS = {
    name.removeprefix("SOURCE_KIND_").lower(): planner_pb2.SourceKind.Value(name)
    for name in planner_pb2.SourceKind.keys()[1:]
}

Part = planner_pb2.CreateSourceRequest
Header = planner_pb2.CreateSourceRequest.Header


def source_kind_of(word: str) -> planner_pb2.SourceKind.ValueType:
    """A kind by its word, none for none. Raises InvalidInput that lists the valid ones."""
    if word and word not in SOURCE_KINDS:
        raise InvalidInput(f"no source kind {word!r}: one of {', '.join(SOURCE_KINDS)}", code="bad_kind")
    return SOURCE_KINDS[word] if word else planner_pb2.SOURCE_KIND_UNSPECIFIED


class Sources:
    """Where items come from, kept as immutable snapshots."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def documents(
        self,
        paths: Sequence[PathLike],
        *,
        zip: bool = False,  # noqa: A002
        name: str = "",
        on_bytes: OnBytes | None = None,
        request_id: str = "",
    ) -> planner_pb2.Source:
        """Uploads files and folders, or the one archive when `zip`. Raises InvalidInput, TooLarge, NotFound."""
        files = listed(paths)
        if zip and len(files) != 1:
            raise InvalidInput(f"zip means one archive; {len(files)} files were given", code="one_archive")
        actor = self._connection.actor
        total = _bytes_of(files) if on_bytes else 0

        def parts(chosen: str) -> AsyncIterator[Part]:
            made = document_parts(files, archive=zip, request_id=chosen, name=name, actor=actor)
            return counting(made, total, on_bytes) if on_bytes else made

        return await self._connection.idempotent(lambda chosen: self.create(parts(chosen)), request_id)

    async def items(
        self, items: PathLike | Sequence[Mapping[str, object]], *, name: str = "", request_id: str = ""
    ) -> planner_pb2.Source:
        """Uploads plain items: a JSONL file, or mappings with `key`, and optionally `group` and `payload`."""
        actor = self._connection.actor
        return await self._connection.idempotent(
            lambda chosen: self.create(item_parts(items, request_id=chosen, name=name, actor=actor)), request_id
        )

    async def catalog(
        self,
        paths: Sequence[PathLike],
        *,
        name: str = "",
        format: str = "",  # noqa: A002
        key: Sequence[str] = (),
        group: str = "",
        sort: Sequence[str] = (),
        skip_bad: bool = False,
        on_bytes: OnBytes | None = None,
        request_id: str = "",
    ) -> planner_pb2.Source:
        """Uploads a catalog: JSONL, CSV, TSV, Parquet or JSON files, packed or not, and folders of them.

        key: columns, or `hash` alone; group: a column, `-` for none; sort: the columns of its own order. What is not
        given is guessed, by well-known names. Under a name that exists it is that source's next version.
        """
        options = _options(format=format, key=key, group=group, sort=sort, skip_bad=skip_bad)
        header = filled(Header, kind=SOURCE_KINDS["catalog"], name=name, table=options, actor=self._connection.actor)
        return await self._upload(header, table_files(paths), on_bytes, request_id)

    async def table(
        self,
        path: PathLike,
        *,
        table: str = "",
        query: str = "",
        name: str = "",
        key: Sequence[str] = (),
        group: str = "",
        sort: Sequence[str] = (),
        skip_bad: bool = False,
        on_bytes: OnBytes | None = None,
        request_id: str = "",
    ) -> planner_pb2.Source:
        """Uploads a table, or what one SELECT answers, of a DuckDB or SQLite file."""
        header = filled(
            Header,
            kind=SOURCE_KINDS["table"],
            name=name,
            table=_options(format="", key=key, group=group, sort=sort, skip_bad=skip_bad),
            origin_table=table,
            origin_query=query,
            actor=self._connection.actor,
        )
        return await self._upload(header, table_files([path]), on_bytes, request_id)

    async def tasks(
        self,
        path: PathLike,
        *,
        name: str = "",
        each_task: bool = False,
        batch_size: int = 0,
        request_id: str = "",
    ) -> planner_pb2.Source:
        """Uploads a task file: an item a section of open tasks, or with `each_task` an item a task."""
        header = filled(
            Header,
            kind=SOURCE_KINDS["tasks"],
            name=name,
            tasks=filled(sources_pb2.TaskOptions, each_task=each_task, batch_size=batch_size),
            actor=self._connection.actor,
        )
        return await self._upload(header, table_files([path]), None, request_id)

    async def _upload(
        self, header: Header, files: Sequence[tuple[str, Path]], on_bytes: OnBytes | None, request_id: str
    ) -> planner_pb2.Source:
        total = _bytes_of(files) if on_bytes else 0

        async def call(chosen: str) -> planner_pb2.Source:
            header.request_id = chosen
            parts = file_parts(header, files)
            return await self.create(counting(parts, total, on_bytes) if on_bytes else parts)

        return await self._connection.idempotent(call, request_id)

    async def create(self, parts: AsyncIterator[Part]) -> planner_pb2.Source:
        """Sends one stream, once. When `parts` raises, the call is cancelled and the planner keeps nothing of it."""
        source: planner_pb2.Source = await sent(self._connection.planner.CreateSource(), parts)
        return source

    async def add(
        self,
        name: str,
        *,
        server_path: str = "",
        database: str = "",
        table: str = "",
        query: str = "",
        kind: str = "",
        format: str = "",  # noqa: A002
        key: Sequence[str] = (),
        group: str = "",
        sort: Sequence[str] = (),
        skip_bad: bool = False,
        each_task: bool = False,
        batch_size: int = 0,
        request_id: str = "",
    ) -> planner_pb2.Source:
        """Registers what the planner reads itself: a path on its machine, or a database by its name in the settings.

        kind: catalog, table or tasks; empty: table where a database, a table or a query is named, else catalog. Raises
        AlreadyExists for a name that is taken, InvalidInput for a path outside the folders that settings allow.
        """
        chosen_kind = kind or ("table" if database or table or query else "catalog")
        request = filled(
            planner_pb2.AddSourceRequest,
            name=name,
            kind=source_kind_of(chosen_kind),
            origin=filled(sources_pb2.Origin, server_path=server_path, database=database, table=table, query=query),
            actor=self._connection.actor,
        )
        if chosen_kind == "tasks":
            request.tasks.CopyFrom(filled(sources_pb2.TaskOptions, each_task=each_task, batch_size=batch_size))
        else:
            request.table.CopyFrom(_options(format=format, key=key, group=group, sort=sort, skip_bad=skip_bad))

        async def call(chosen: str) -> planner_pb2.Source:
            request.request_id = chosen
            return await self._connection.planner.AddSource(request, timeout=READING_SECONDS)

        return await self._connection.idempotent(call, request_id)

    async def refresh(self, name: str, *, request_id: str = "") -> planner_pb2.Source:
        """Reads an added source again: its next version with what changed, or the same one where nothing did."""
        request = filled(planner_pb2.RefreshSourceRequest, name=name, actor=self._connection.actor)

        async def call(chosen: str) -> planner_pb2.Source:
            request.request_id = chosen
            return await self._connection.planner.RefreshSource(request, timeout=READING_SECONDS)

        return await self._connection.idempotent(call, request_id)

    async def get(self, source: str) -> planner_pb2.Source:
        request = filled(planner_pb2.GetSourceRequest, source_id=source)
        return await self._connection.read(lambda: self._connection.planner.GetSource(request))

    async def describe(self, source: str) -> planner_pb2.SourceDescription:
        """The source, and what each of its columns holds."""
        request = filled(planner_pb2.GetSourceRequest, source_id=source)
        return await self._connection.read(lambda: self._connection.planner.DescribeSource(request))

    async def list_page(
        self, *, search: str = "", kind: str = "", page_size: int = 50, page_token: str = ""
    ) -> planner_pb2.ListSourcesResponse:
        request = filled(
            planner_pb2.ListSourcesRequest,
            search=search,
            kind=source_kind_of(kind),
            page_size=page_size,
            page_token=page_token,
        )
        return await self._connection.read(lambda: self._connection.planner.ListSources(request))

    async def list(self, *, search: str = "", kind: str = "", limit: int = 50) -> builtins.list[planner_pb2.Source]:
        """Named sources by name, each with its latest version."""
        return list((await self.list_page(search=search, kind=kind, page_size=limit)).sources)

    async def versions_page(
        self, name: str, *, page_size: int = 50, page_token: str = ""
    ) -> planner_pb2.ListSourceVersionsResponse:
        request = filled(planner_pb2.ListSourceVersionsRequest, name=name, page_size=page_size, page_token=page_token)
        return await self._connection.read(lambda: self._connection.planner.ListSourceVersions(request))

    async def versions(self, name: str, *, limit: int = 50) -> builtins.list[planner_pb2.Source]:
        """The versions of a name, the latest first. Raises NotFound."""
        return list((await self.versions_page(name, page_size=limit)).sources)

    async def rows(
        self,
        source: str,
        *,
        filter: str = "",  # noqa: A002
        search: str = "",
        order_by: str = "",
        skip: int = 0,
        page_size: int = 100,
        with_groups: bool = False,
        result_of: str = "",
    ) -> sources_pb2.RowPage:
        """A page of the rows of a catalog or table: filtered, searched, sorted and counted where they lie. result_of: a
        processor, whose latest results stand beside the rows; `result.state` and so on are fields then, too."""
        query = row_query(
            filter=filter,
            search=search,
            order_by=order_by,
            skip=skip,
            page_size=page_size,
            with_groups=with_groups,
            result_of=result_of,
        )
        request = filled(planner_pb2.ReadSourceRowsRequest, source_id=source, query=query)
        return await self._connection.read(lambda: self._connection.planner.ReadSourceRows(request))

    async def remove(self, name: str, *, validate_only: bool = False) -> planner_pb2.DeleteSourceResponse:
        """Removes a name with all its versions and their drafts; how many of each. validate_only: it refuses what it
        would refuse, tells what would go, and removes nothing.

        Raises Conflict that names the plans that need them. Sent once: a second try could not tell its own success from
        a name that never was.
        """
        request = filled(
            planner_pb2.DeleteSourceRequest, name=name, actor=self._connection.actor, validate_only=validate_only
        )
        return await self._connection.once(lambda: self._connection.planner.DeleteSource(request))


def _options(
    *,
    format: str,  # noqa: A002
    key: Sequence[str],
    group: str,
    sort: Sequence[str],
    skip_bad: bool,
) -> sources_pb2.TableOptions:
    for name, given in (("key", key), ("sort", sort)):
        if isinstance(given, str):
            raise InvalidInput(f"{name} is a list of columns, not one text: [{given!r}]", code="bad_value")
    return filled(sources_pb2.TableOptions, format=format, key=key, group=group, sort=sort, skip_bad=skip_bad)


def _bytes_of(files: Sequence[tuple[str, Path]]) -> int:
    total = 0
    for _, path in files:
        with contextlib.suppress(OSError):  # told once it is read
            total += path.stat().st_size
    return total
