"""Files, folders, archives, tables and JSON lines as the message stream of `PlannerService.CreateSource`.

Every function here gives a stream that can be made anew, so that an upload broken half-way can be sent again as a
whole; the planner keeps nothing of a stream that did not end. At most about 1 MiB is in memory at a time. Dotfiles,
`__MACOSX` and links to folders are left out of a folder, as the planner leaves them out of an archive.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from penstock.runtime.channel import calling
from penstock.runtime.errors import Conflict, InvalidInput, NotFound
from penstock.v1 import planner_pb2

__all__ = [
    "CHUNK_BYTES",
    "OnBytes",
    "counting",
    "document_parts",
    "file_parts",
    "item_parts",
    "listed",
    "packed",
    "table_files",
]

CHUNK_BYTES = 512 << 10
"""Bytes of one chunk message; the planner takes at most 1 MiB."""

_GROUP_FILES = 256

Part = planner_pb2.CreateSourceRequest
PathLike = Path | str
OnBytes = Callable[[int, int], None]
"""Told of an upload under way: bytes sent so far, and of all its files."""


def listed(paths: Sequence[PathLike]) -> list[tuple[str, Path]]:
    """(name, file) of every document: a file by its own name, a folder's files by their path inside it."""
    found = list(_found(paths))
    if not found:
        raise InvalidInput(
            f"there are no documents in {', '.join(map(str, paths)) or 'nothing'}: "
            "give .txt, .md, .pdf, .docx or .html files",
            code="no_documents",
        )
    return found


def table_files(paths: Sequence[PathLike]) -> list[tuple[str, Path]]:
    """The same of a catalog's files; a folder of JSON files is one of many."""
    found = list(_found(paths))
    if not found:
        raise InvalidInput(
            f"there is no file in {', '.join(map(str, paths)) or 'nothing'}: give JSONL, CSV, TSV, Parquet or JSON",
            code="no_files",
        )
    return found


def _found(paths: Sequence[PathLike]) -> Iterator[tuple[str, Path]]:
    for given in paths:
        path = Path(given)
        if path.is_dir():
            yield from _walk(path)
        elif path.is_file():
            yield path.name, path
        else:
            raise NotFound(f"{given}: no such file or folder", code="no_such_file")


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(files):
            path = Path(place, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(folder).as_posix(), path


def document_parts(
    files: Sequence[tuple[str, Path]], *, archive: bool, request_id: str, name: str = "", actor: str = ""
) -> AsyncIterator[Part]:
    """The stream of documents (name, file), or of the one archive."""
    kind = planner_pb2.SOURCE_KIND_DOCUMENTS
    return file_parts(Part.Header(kind=kind, zip=archive, request_id=request_id, name=name, actor=actor), files)


async def file_parts(header: Part.Header, files: Sequence[tuple[str, Path]]) -> AsyncIterator[Part]:
    """A header, then files (name, file) with their chunks."""
    yield Part(header=header)
    position = 0
    while position < len(files):
        group, large = await asyncio.to_thread(_read_group, files, position)
        for name, data in group:
            yield Part(file=Part.File(name=name))
            if data:
                yield Part(chunk=data)
        position += len(group)
        if large is not None:
            name, path = files[position]
            yield Part(file=Part.File(name=name))
            async for chunk in chunks_of(path):
                yield Part(chunk=chunk)
            position += 1


def _read_group(files: Sequence[tuple[str, Path]], start: int) -> tuple[list[tuple[str, bytes]], Path | None]:
    """The next small files, up to about a chunk together; and the next one if it is too large to be read whole."""
    group: list[tuple[str, bytes]] = []
    size = 0
    for name, path in files[start : start + _GROUP_FILES]:
        try:
            length = path.stat().st_size
            if length > CHUNK_BYTES:
                return group, path
            if group and size + length > CHUNK_BYTES:
                break
            data = path.read_bytes()
        except OSError as error:
            raise InvalidInput(f"{path} can't be read: {error.strerror}", code="unreadable_file") from error
        if len(data) > CHUNK_BYTES:  # it grew meanwhile
            return group, path
        group.append((name, data))
        size += len(data)
    return group, None


async def chunks_of(path: Path) -> AsyncIterator[bytes]:
    """Raises Conflict for a file that was written to meanwhile: what was read stood in it at no time."""
    try:
        with path.open("rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk
            after = os.fstat(file.fileno())
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file", code="no_such_file") from None
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}", code="unreadable_file") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise Conflict(f"{path} changed while it was sent: nothing of it is kept; send it again", code="file_changed")


def packed(items: Iterable[Mapping[str, object]]) -> Iterator[bytes]:
    """Items as JSON lines, in chunks."""
    lines = bytearray()
    for item in items:
        lines += orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE)
        if len(lines) >= CHUNK_BYTES:
            yield from (bytes(lines[at : at + CHUNK_BYTES]) for at in range(0, len(lines), CHUNK_BYTES))
            lines.clear()
    if lines:
        yield bytes(lines)


async def counting(parts: AsyncIterator[Part], total_bytes: int, on_bytes: OnBytes) -> AsyncIterator[Part]:
    """The same stream, telling of each chunk once it was taken."""
    sent = 0
    async for part in parts:
        yield part
        if part.HasField("chunk"):
            sent += len(part.chunk)
            on_bytes(sent, max(total_bytes, sent))


async def item_parts(
    items: PathLike | Sequence[Mapping[str, object]], *, request_id: str, name: str = "", actor: str = ""
) -> AsyncIterator[Part]:
    """The stream of plain items: a JSONL file, or mappings with `key`, and optionally `group` and `payload`."""
    kind = planner_pb2.SOURCE_KIND_ITEMS
    yield Part(header=Part.Header(kind=kind, request_id=request_id, name=name, actor=actor))
    if isinstance(items, (str, Path)):
        path = Path(items)
        yield Part(file=Part.File(name=path.name))
        async for chunk in chunks_of(path):
            yield Part(chunk=chunk)
        return
    yield Part(file=Part.File(name="items.jsonl"))
    for chunk in packed(items):
        yield Part(chunk=chunk)


async def sent(call: Any, parts: AsyncIterator[object]) -> Any:
    """The answer to one stream, sent once. When `parts` raises, the call is cancelled and nothing of it is kept."""
    try:
        with calling():
            # A write after the service has answered raises InvalidStateError: its answer says why.
            with contextlib.suppress(asyncio.InvalidStateError):
                async for part in parts:
                    if call.done():
                        break
                    await call.write(part)
                else:
                    await call.done_writing()
            return await call
    finally:
        call.cancel()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes its place once all of it is there. Raises InvalidInput where there is none."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.absolute().parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                yield cast("BinaryIO", file)
                file.close()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise InvalidInput(f"{path} can't be written: {error.strerror or error}", code="bad_path") from error
