"""Workers and classes as operators see them, over local processes: lists, drains, last lines, bad input."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.client.connection import Connection
from penstock.client.discovery import Endpoints
from penstock.client.workers import Workers
from penstock.runtime.errors import InvalidInput, NotFound
from tests.integration.backends.bed import MOST, SLOTS, until
from tests.integration.backends.test_process import ProcessBed

SLOW = {"sleep_seconds": 600}


@pytest.fixture
async def bed(
    tmp_path: Path, redis_url: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ProcessBed]:
    one = ProcessBed(tmp_path, monkeypatch)
    await one.start(redis_url, sqlite_url)
    yield one
    await one.stop()


async def test_operators_see_workers_tell_them_to_leave_and_read_their_last_lines(bed: ProcessBed) -> None:
    address = bed.world.scheduler.address
    endpoints = Endpoints(planner=address, scheduler=address, analyzer=address)
    connection = Connection(endpoints)
    workers = Workers(connection)
    try:
        (one,) = await workers.classes()
        assert (one.name, one.slots, one.most, one.workers, one.wanted) == ("default", SLOTS, MOST, 0, 0)
        run_id = await bed.world.run(2, parameters=SLOW, concurrency=1)
        await bed.world.until(run_id, lambda run: run.counts.running == 1, seconds=40)
        (worker,) = await workers.list()
        assert (worker.state, worker.leases, worker.worker_class) == ("working", 1, "default")
        assert worker.place.startswith("pid ")
        assert worker.started_here
        (of_class,) = await workers.classes()
        assert (of_class.workers, of_class.wanted, of_class.leased, of_class.claimable) == (1, 1, 1, 0)

        with pytest.raises(NotFound, match="there is no worker 'nobody'; there are: "):
            await workers.drain(["nobody"])
        with pytest.raises(InvalidInput, match="one of both"):
            await workers.drain()
        assert await workers.drain(worker_class="default", validate_only=True) == [worker.session]
        assert (await workers.list())[0].state == "working", "a preview tells nobody"
        assert await workers.drain([worker.session], reason="new drivers") == [worker.session]
        assert await workers.drain([worker.session]) == [], "it drains already"
        (draining,) = await workers.list()
        assert draining.state == "draining"
        assert draining.leases == 1, "it finishes what it has"

        async def heard() -> bool:
            return b"asks it to drain" in (await workers.log(worker.session)).tail

        await until("it has heard", heard)
        await bed.kill((await bed.workers())[0])

        async def ended() -> bool:
            found = await workers.list(with_ended=True)
            return any(one.session == worker.session and one.state == "ended" for one in found)

        await until("its end is known", ended)
        last = next(one for one in await workers.list(with_ended=True) if one.session == worker.session)
        assert last.end_kind == "worker_lost"
        assert "died" in last.note
        log = await workers.log(worker.session)
        assert log.ended
        assert b"asks it to drain" in log.tail
        with pytest.raises(NotFound, match="there is no worker 'nobody' that was started here; there are: "):
            await workers.log("nobody")
    finally:
        await connection.close()


async def test_a_class_that_there_is_not_is_told_with_those_that_there_are(bed: ProcessBed) -> None:
    """Rather than an empty list, which is what a class without workers has."""
    address = bed.world.scheduler.address
    connection = Connection(Endpoints(planner=address, scheduler=address, analyzer=address))
    workers = Workers(connection)
    try:
        assert await workers.list(worker_class="default") == []
        with pytest.raises(NotFound, match=r"there is no worker class 'nope'; there are: default$") as no:
            await workers.list(worker_class="nope", with_ended=True)
        assert no.value.code == "class_not_found"
        with pytest.raises(NotFound, match="there is no worker class 'nope'"):
            await workers.drain(worker_class="nope", validate_only=True)
        # One that work waits for is known, though nothing here starts its workers.
        await bed.world.run(1, worker_class="gpu")
        assert await workers.list(worker_class="gpu") == []
        with pytest.raises(NotFound, match=r"there are: default, gpu$"):
            await workers.drain(worker_class="nope")
    finally:
        await connection.close()
