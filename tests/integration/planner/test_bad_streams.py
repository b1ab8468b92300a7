"""Uploads that the planner refuses by itself, whoever sends them: over gRPC, and nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress

import grpc
import pytest
import sqlalchemy as sa

from penstock.runtime.channel import calling
from penstock.runtime.errors import InvalidInput, Unavailable
from penstock.v1 import planner_pb2
from penstock.v1 import sources_pb2 as sp
from tests.integration.planner.conftest import Planner

Part = planner_pb2.CreateSourceRequest
CATALOG = planner_pb2.SOURCE_KIND_CATALOG
TABLE = planner_pb2.SOURCE_KIND_TABLE
ROWS = b"".join(b'{"id": %d, "n": "%d"}\n' % (n, n * 7) for n in range(20_000))


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """What is refused reaches no table: one kind of database shows it."""
    return sqlite_url


def header(kind: planner_pb2.SourceKind.ValueType = CATALOG, **fields: object) -> planner_pb2.CreateSourceRequest:
    return Part(header=Part.Header(kind=kind, name="wrong", **fields))  # type: ignore[arg-type]


def file(name: str) -> planner_pb2.CreateSourceRequest:
    return Part(file=Part.File(name=name))


def chunk(data: bytes) -> planner_pb2.CreateSourceRequest:
    return Part(chunk=data)


def left(planner: Planner, url: str) -> tuple[list[str], dict[str, int]]:
    """Every file and folder of the store, every table's rows."""
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            names = sa.inspect(connection).get_table_names()
            rows = {name: connection.execute(sa.text(f'SELECT count(*) FROM "{name}"')).scalar_one() for name in names}
    finally:
        engine.dispose()
    walked = os.walk(planner.blobs)  # unlike rglob it takes a folder that goes away meanwhile for an empty one
    return sorted(os.path.join(at, name) for at, folders, files in walked for name in (*folders, *files)), rows


REFUSED: dict[str, tuple[Sequence[planner_pb2.CreateSourceRequest], str, str]] = {
    "no header": ([chunk(b"id\n")], "bad_stream", "header"),
    "nothing at all": ([], "bad_stream", "header"),
    "a chunk of no file": ([header(), chunk(b"id\n")], "bad_stream", "each followed by its chunks"),
    "two headers": ([header(), header()], "bad_stream", "after the header come files"),
    "no file": ([header()], "no_rows", "no file was sent"),
    "a chunk too large": ([header(), file("t.csv"), chunk(bytes(3 << 20))], "bad_stream", "3,145,728 bytes"),
    "a line break in a name": ([header(), file("a\nb.csv"), chunk(b"id\n1\n")], "name_control", "'a\\nb.csv'"),
    "a NUL in a name": ([header(), file("a\0.csv"), chunk(b"id\n1\n")], "name_nul", "has a NUL"),
    "no name": ([header(), file(" "), chunk(b"id\n1\n")], "name_empty", "has no name"),
    "a broken line": ([header(), file("t.jsonl"), chunk(ROWS + b"{")], "bad_rows", "line 20001, column 2"),
    "a format that is none": (
        [header(table=sp.TableOptions(format="xls")), file("t.csv"), chunk(b"id\n1\n")],
        "bad_kind",
        "jsonl, json, csv, tsv, parquet",
    ),
    "two databases": (
        [header(TABLE, origin_table="t"), file("a.db"), chunk(b"x"), file("b.db"), chunk(b"x")],
        "several_files",
        "one database file",
    ),
    "no database": ([header(TABLE, origin_table="t"), file("a.csv"), chunk(b"x")], "bad_kind", "is no database file"),
    "a table and a query": (
        [header(TABLE, origin_table="t", origin_query="SELECT 1"), file("a.db"), chunk(b"x")],
        "bad_origin",
        "one table or one query",
    ),
}


async def test_a_stream_that_says_nonsense_leaves_nothing(planner: Planner, database_url: str) -> None:
    before = left(planner, database_url)
    for what, (parts, code, words) in REFUSED.items():
        with pytest.raises(InvalidInput) as caught:
            await planner.send(parts)
        assert (caught.value.code, words in caught.value.message) == (code, True), f"{what}: {caught.value.message}"
        assert left(planner, database_url) == before, what


SQLITE = b"SQLite format 3\0" + bytes(4_080)
AT_ONCE: dict[str, tuple[Sequence[planner_pb2.CreateSourceRequest], str, str]] = {
    "a database without a table": ([header(TABLE)], "bad_origin", "one table or one query"),
    "no database": ([header(TABLE, origin_table="t"), file("a.csv")], "bad_kind", "is no database file"),
    "a database as a catalog": ([header(), file("a.data"), chunk(SQLITE)], "bad_kind", "a.data is a database"),
    "DuckDB as a catalog": ([header(), file("a"), chunk(bytes(8) + b"DUCK" + SQLITE)], "bad_kind", "a is a database"),
}


@pytest.mark.parametrize("what", AT_ONCE)
async def test_what_is_wrong_is_said_before_the_rest_is_sent(planner: Planner, database_url: str, what: str) -> None:
    """The sender has not said that it is done: it would go on for as long as its file is."""
    parts, code, words = AT_ONCE[what]
    before = left(planner, database_url)
    call = planner.stub.CreateSource()
    async with asyncio.timeout(60):
        with suppress(asyncio.InvalidStateError):
            for part in (*parts, *[chunk(bytes(1 << 20))] * (len(parts) > 1)):
                await call.write(part)
        while not call.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    with pytest.raises(InvalidInput) as caught, calling():
        await call
    assert (caught.value.code, words in caught.value.message) == (code, True), caught.value.message
    assert left(planner, database_url) == before


async def test_a_sender_that_gives_up_leaves_nothing(planner: Planner, database_url: str) -> None:
    before = left(planner, database_url)
    sent = asyncio.Event()

    async def half() -> AsyncIterator[planner_pb2.CreateSourceRequest]:
        yield header()
        yield file("t.jsonl")
        yield chunk(ROWS)
        sent.set()
        await asyncio.Event().wait()

    call = planner.stub.CreateSource(half())
    await sent.wait()
    async with asyncio.timeout(20):
        while left(planner, database_url) == before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        call.cancel()
        while left(planner, database_url) != before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
        await call


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As a disk that takes no more: every file of this process and of its children ends there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_disk_that_takes_no_more_is_told_and_leaves_nothing(planner: Planner, database_url: str) -> None:
    before = left(planner, database_url)
    parts = [header(), file("t.jsonl"), chunk(ROWS), chunk(ROWS.replace(b'{"id": ', b'{"id": 9'))]
    with files_of_at_most(700_000), pytest.raises(Unavailable) as caught:
        await planner.send(parts)
    assert caught.value.code == "blob_store_unavailable"
    assert left(planner, database_url) == before
