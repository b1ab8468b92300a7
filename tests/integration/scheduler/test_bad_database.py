"""Bad days of the database: no connection is left, nothing may be written. It is said plainly, the scheduler is not
ready, nothing that was acknowledged is lost, and it goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc
import psycopg
import pytest
import sqlalchemy as sa

import scheduler.__main__
from penstock.runtime.errors import Unavailable
from penstock.runtime.program import Check
from penstock.runtime.sql import Database
from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.world import World, completed
from tests.servers.postgres import PostgresServer

SECONDS = 20.0
R = TypeVar("R")


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """One of its own: others are not to have a bad day."""
    one = PostgresServer()
    yield one
    one.stop()


@pytest.fixture
async def world(tmp_path: Path, redis_url: str, server: PostgresServer) -> AsyncIterator[World]:
    one = await World.start(tmp_path, redis_url, server.create_database(), lease_term_seconds=30.0)
    try:
        yield one
        one.check()
    finally:
        await one.stop()


@contextlib.contextmanager
def nothing_may_be_written(url: str) -> Iterator[None]:
    name = url.partition("?")[0].rsplit("/", 1)[1]
    with psycopg.connect(url, autocommit=True) as raw:
        raw.execute("SET default_transaction_read_only = off")
        _let(raw, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        try:
            yield
        finally:
            _let(raw, f'ALTER DATABASE "{name}" RESET default_transaction_read_only')


def _let(raw: psycopg.Connection[tuple[object, ...]], statement: str) -> None:
    """From now on, for those that are connected too: they have to connect again."""
    raw.execute(statement)
    raw.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "
                "datname = current_database()")  # fmt: skip


@contextlib.contextmanager
def no_connection_is_left(url: str) -> Iterator[None]:
    """Every place that the server has is taken, those of the scheduler too."""
    taken: list[psycopg.Connection[tuple[object, ...]]] = []
    with psycopg.connect(url, autocommit=True) as raw:
        ((places,),) = raw.execute("SELECT setting::int FROM pg_settings WHERE name = 'max_connections'").fetchall()
        while len(taken) + 1 < places:  # one that was ended keeps its place for a moment
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    taken.append(psycopg.connect(url, autocommit=True))
            mine = [raw.info.backend_pid, *(one.info.backend_pid for one in taken)]
            raw.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND NOT pid = ANY(%s)",
                [mine],
            )
        try:
            yield
        finally:
            for one in taken:
                one.close()
            while raw.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)", [mine]).fetchone() != (1,):
                time.sleep(0.01)


@contextlib.contextmanager
def a_read_only_file(database: Database) -> Iterator[None]:
    """As SQLite sees one whose file system was mounted anew: every connection may read alone."""
    word = ["ON"]

    def tell(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA query_only = {word[0]}")

    sa.event.listen(database.engine, "checkout", tell)
    try:
        yield
    finally:
        word[0] = "OFF"


@pytest.mark.parametrize(
    ("trouble", "says", "cause"),
    [
        (nothing_may_be_written, "read-only", "it is read-only"),
        (
            no_connection_is_left,
            "too many clients|remaining connection slots",
            "PostgreSQL has too many clients",
        ),
    ],
)
async def test_postgresql_is_in_trouble_and_all_goes_on_by_itself(
    world: World, trouble: Any, says: str, cause: str
) -> None:
    await _have(world, partial(trouble, world.settings.scheduler.database_url), says, cause)


async def test_sqlite_may_not_be_written_and_all_goes_on_by_itself(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Database] = []

    class Seen(Database):
        def __init__(self, *values: Any, **named: Any) -> None:
            super().__init__(*values, **named)
            made.append(self)

    monkeypatch.setattr(scheduler.__main__, "Database", Seen)
    url = f"sqlite:///{tmp_path / 'scheduler.db'}"
    world = await World.start(tmp_path, redis_url, url, lease_term_seconds=30.0)
    try:
        await _have(world, partial(a_read_only_file, made[0]), "readonly", "it is read-only")
        world.check()
    finally:
        await world.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system can't be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


async def test_readiness_stays_false_while_the_disk_is_full(tmp_path: Path, redis_url: str, small_disk: Path) -> None:
    url = f"sqlite:///{small_disk / 'scheduler.db'}"
    world = await World.start(tmp_path, redis_url, url, lease_term_seconds=30.0)
    big = "x" * 60_000
    try:
        run_id = await world.run(2_000, concurrency=2_000)
        worker, check = world.worker(), world.scheduler.service.checks["sql"]
        leases = await worker.leases(500)
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 300_000))
        said = []
        for first in range(0, 200, 10):
            outcomes = [completed(lease, big) for lease in leases[first : first + 10]]
            with pytest.raises(grpc.aio.AioRpcError, match=r"disk .*is full"):
                await worker.report(run_id, outcomes)
            with contextlib.suppress(grpc.aio.AioRpcError):  # what is small may come through
                await worker.report(run_id, [completed(leases[499 - first])])
            said.append(await _problem(check))
            await asyncio.sleep(0.1)
        # A first failure, after which a call is recorded, may be the only one; a second one is not.
        assert all("is full" in word for word in said[1:]), said
        ballast.unlink()
        assert set(await worker.report(run_id, [completed(lease) for lease in leases])) <= {"different"}
        deadline = time.monotonic() + SECONDS
        while await _problem(check):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        assert len(await worker.leases(100)) == 100
        world.check()
    finally:
        await world.stop()


async def _problem(check: Check) -> str:
    try:
        await check()
    except Unavailable as error:
        return error.message
    return ""


async def _have(
    world: World, trouble: Callable[[], contextlib.AbstractContextManager[None]], says: str, cause: str
) -> None:
    run_id = await world.run(20)
    worker = world.worker()
    leases = await worker.leases(5)
    assert await worker.report(run_id, [completed(lease) for lease in leases[:2]]) == []
    check = world.scheduler.service.checks["sql"]
    await check()
    with contextlib.ExitStack() as stack:
        # In a thread: the scheduler lives in this one.
        await asyncio.to_thread(stack.enter_context, trouble())
        command = pb.RunCommand(run_id=run_id, actor="ann")
        await _refused(partial(world.runs.PauseRun, command, timeout=15), says)
        await _refused(partial(worker.report, run_id, [completed(leases[2])]), says)
        assert (await _refused(check, says)).cause == cause
        await asyncio.to_thread(stack.close)
    await _served(partial(world.runs.ResumeRun, command, timeout=15))  # a pause may have come through
    assert await _served(partial(worker.report, run_id, [completed(lease) for lease in leases])) == []
    await _served(check)  # what came and went is trusted after a while
    assert [lease.seq for lease in await _served(partial(worker.leases, 3))] == [5, 6, 7]
    assert (await _served(partial(world.get, run_id))).stages[0].counts.completed == 5


async def _refused(call: Callable[[], Awaitable[object]], says: str) -> Unavailable:
    """UNAVAILABLE, for this reason. What is under way when it begins may still come through, and a connection that had
    rested is found to be gone by the call that takes it."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            await call()
            assert time.monotonic() < deadline, "it was not refused"
        except (grpc.aio.AioRpcError, Unavailable) as error:
            refusal = _unavailable(error)
            if re.search(says, refusal.message):
                return refusal
            if time.monotonic() > deadline:
                raise


async def _served(call: Callable[[], Awaitable[R]]) -> R:
    """As those ask who are told that it is unavailable: again."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return await call()
        except (grpc.aio.AioRpcError, Unavailable) as error:
            _unavailable(error)
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


def _unavailable(error: grpc.aio.AioRpcError | Unavailable) -> Unavailable:
    if isinstance(error, Unavailable):
        return error
    assert error.code() == grpc.StatusCode.UNAVAILABLE, error
    return Unavailable(error.details() or "")
