"""PostgreSQL fails over under a running batch: it dies, comes back as one that may not be written, then as one that
may. Nothing is lost, nothing runs twice once it was recorded, and nobody has to be restarted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import psycopg
import pytest

from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.world import HandWorker, World, completed
from tests.servers.postgres import PostgresServer

ITEMS, AT_ONCE = 400, 10
SECONDS = 60.0


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    one = PostgresServer()
    yield one
    one.stop()


@pytest.fixture
async def world(tmp_path: Path, redis_url: str, server: PostgresServer) -> AsyncIterator[World]:
    one = await World.start(tmp_path, redis_url, server.create_database(), lease_term_seconds=5.0)
    try:
        yield one
        one.check()
    finally:
        await one.stop()


def refuse_others(error: grpc.aio.AioRpcError) -> None:
    """While the database is away, that it is away is all that may be said."""
    if error.code() != grpc.StatusCode.UNAVAILABLE:
        raise error


async def work(world: World, worker: HandWorker, run_id: str, recorded: Counter[int], stop_at: int) -> None:
    """As a worker does: what could not be told is told again; what was lost with its lease is granted anew."""
    deadline = time.monotonic() + SECONDS
    while recorded.total() < stop_at:
        assert time.monotonic() < deadline, f"{recorded.total()} of {stop_at} were recorded"
        try:
            leases = await worker.leases(AT_ONCE, wait=0.5)
        except grpc.aio.AioRpcError as error:
            refuse_others(error)
            worker.grant_number -= 1  # the same number again: the same leases, if they were granted
            await asyncio.sleep(0.1)
            continue
        outcomes = [completed(lease) for lease in leases]
        while outcomes:
            try:
                refused = await worker.report(run_id, outcomes)
            except grpc.aio.AioRpcError as error:
                refuse_others(error)
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
                continue
            if not refused:
                recorded.update(lease.seq for lease in leases)
            break


async def test_a_batch_goes_on_through_a_failover(world: World, server: PostgresServer) -> None:
    run_id = await world.run(ITEMS)
    worker, recorded = world.worker(), Counter[int]()
    await work(world, worker, run_id, recorded, ITEMS // 4)

    def demote() -> None:
        """From its next start on."""
        with psycopg.connect(world.settings.scheduler.database_url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")

    await asyncio.to_thread(demote)
    going = asyncio.create_task(work(world, worker, run_id, recorded, ITEMS))
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    check = world.scheduler.service.checks["sql"]

    async def cause() -> str:
        try:
            await check()
        except Exception as error:
            return str(getattr(error, "cause", ""))
        return ""

    deadline = time.monotonic() + SECONDS
    while await cause() != "it is read-only":
        assert time.monotonic() < deadline, "readiness never said what it was"
        await asyncio.sleep(0.05)
    assert not going.done()

    def promote() -> None:
        with psycopg.connect(world.settings.scheduler.database_url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")

    await asyncio.to_thread(promote)
    await going
    ended = await world.until(run_id, lambda run: run.state == pb.RUN_STATE_COMPLETED, seconds=SECONDS)
    assert ended.stages[0].counts.completed == ITEMS
    assert recorded == Counter(range(ITEMS))
    while await cause():
        assert time.monotonic() < deadline, "readiness stays false"
        await asyncio.sleep(0.05)
