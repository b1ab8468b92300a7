"""A disk that is full while the planner gathers results, registers and plans: said plainly, and nothing is left."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import orjson
import pytest

from penstock.runtime.errors import Unavailable
from penstock.v1 import planner_pb2
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import sources_pb2 as sp
from tests.integration.planner.planned import Plans
from tests.integration.scheduler.world import World, completed

ROWS = 800
FREE = (0, 20_000, 150_000, 600_000)
"""Bytes that are left: so it is full at another step each time."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system can't be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
async def plans(tmp_path: Path, small_disk: Path, redis_url: str) -> AsyncIterator[Plans]:
    """The planner's database and blobs on the small disk, the scheduler's on another."""
    url = f"sqlite:///{tmp_path}/scheduler.db"
    world = await World.start(small_disk, redis_url, url, knows_scheduler=True, lease_term_seconds=60.0)
    try:
        found = Plans(world)
        await found.catalog(catalog("first"))
        yield found
    finally:
        await world.stop()


def noise(text: str, count: int) -> str:
    return "".join(hashlib.sha256(f"{text}{number}".encode()).hexdigest() for number in range(count))


def catalog(salt: str) -> bytes:
    lines = ({"product_id": f"p{n}", "price": n, "text": noise(f"{salt} {n}", 16)} for n in range(ROWS))
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)


async def refused_while_full(small_disk: Path, call: Callable[[], Awaitable[object]]) -> None:
    """With a little space, and a little more: refused, nothing left; and done as soon as there is space."""
    for free in FREE:
        before = files(small_disk)
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(max(0, shutil.disk_usage(small_disk).free - free)))
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"the disk of .* is full: free some space") as told:
                await call()
            assert told.value.code == "disk_full"
        assert files(small_disk) == before
        ballast.unlink()
    await call()


def files(folder: Path) -> set[str]:
    """Of blobs and what becomes one."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("lock", "ballast") and "planner.db" not in path.name
    }


async def test_while_results_are_gathered(plans: Plans, small_disk: Path) -> None:
    plan = await plans.plan(stages=[planner_pb2.StageSpec(processor="noop", concurrency=ROWS)])
    started = await plans.world.runs.StartRun(pb.StartRunRequest(plan_id=plan.plan_id, actor="ann", confirm=True))
    worker = plans.world.worker()
    leases = await worker.leases(300)
    outcomes = [completed(lease, noise(str(lease.seq), 60)) for lease in leases]
    assert not await worker.report(started.run_id, outcomes)

    async def missing() -> None:
        assert (await plans.plan(sp.Selection(missing="noop"), validate_only=True)).item_count == ROWS - len(leases)

    await refused_while_full(small_disk, missing)


async def test_while_a_source_is_registered(plans: Plans, small_disk: Path) -> None:
    async def register() -> None:
        assert (await plans.catalog(catalog("second"), name="more")).item_count == ROWS

    await refused_while_full(small_disk, register)


async def test_while_a_plan_is_written(plans: Plans, small_disk: Path) -> None:
    async def create() -> None:
        assert (await plans.plan(sp.Selection(filter="price > 3"))).item_count == ROWS - 4

    await refused_while_full(small_disk, create)
