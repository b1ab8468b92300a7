"""A world with workers of the real kind in it, and trial processors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from penstock.declared.folder import INSTALLED
from penstock.runtime.blobs import BlobStore
from penstock.runtime.settings import WorkerSection
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import scheduler_pb2_grpc
from tests.integration.scheduler.world import World
from tests.integration.worker.trial import TrialProcessor, install
from worker.agent import Agent
from worker.runner import Runner

MakeAgent = Callable[..., Agent]


@pytest.fixture(autouse=True)
def trial_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "plug-in"
    folder.mkdir()
    install(folder)
    monkeypatch.syspath_prepend(str(folder))
    TrialProcessor.reset()
    _forget_installed()
    yield
    _forget_installed()


def _forget_installed() -> None:
    """What is installed is looked at once in a process; other tests may have looked, or will."""
    vars(INSTALLED).pop("installed", None)


@pytest.fixture
async def world(tmp_path: Path, redis_url: str, sqlite_url: str) -> AsyncIterator[World]:
    # A worker hears of what was taken back when it renews, and some tests wait for leases to end.
    one = await World.start(tmp_path, redis_url, sqlite_url, lease_term_seconds=2.0)
    try:
        yield one
        one.check()
    finally:
        await one.stop()


@pytest.fixture
async def make_agent(world: World) -> AsyncIterator[MakeAgent]:
    """Starts an agent that serves until the test is over."""
    tasks: list[asyncio.Task[None]] = []

    def make(stub: scheduler_pb2_grpc.LeaseServiceAsyncStub | None = None, **settings: object) -> Agent:
        assert world.settings.blobs is not None
        runner = Runner(BlobStore(world.settings.blobs), {})
        session = pb.WorkerSession(
            session=f"session-agent-{len(tasks)}",
            worker=f"agent-{len(tasks)}",
            worker_class="default",
            processors=runner.versions(),
        )
        section = WorkerSection.model_validate({"slots": 8, "poll_seconds": 1.0, "drain_seconds": 2.0, **settings})
        agent = Agent(session, stub or scheduler_pb2_grpc.LeaseServiceStub(world.channel()), runner, section)
        tasks.append(asyncio.create_task(agent.serve()))
        return agent

    yield make
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
