"""A planner, a scheduler with a backend, and what a test does to them, whichever backend it is."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import planner.__main__
import scheduler.__main__
from penstock.runtime.errors import Unavailable
from penstock.runtime.settings import Settings
from scheduler.backends import Backend, WorkerNow
from scheduler.backends.kubernetes.backend import KubernetesBackend
from scheduler.backends.process import ProcessBackend
from tests.integration.scheduler.world import World
from tests.servers.inprocess import serve
from tests.servers.ports import free_port

__all__ = ["MOST", "SLOTS", "Bed"]

SLOTS, MOST = 2, 3
TERM_SECONDS = 60.0
"""No test outlives a lease: what returns sooner has returned because its worker's end was seen."""


class Bed(ABC):
    """Workers of class `default`: `SLOTS` leases each, `MOST` at most, none kept warm."""

    world: World

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.backends: list[Backend] = []

    @abstractmethod
    def scheduler_settings(self) -> dict[str, object]:
        """Of the section `scheduler`."""

    @abstractmethod
    async def kill(self, worker: WorkerNow) -> None:
        """Its process, at once."""

    @abstractmethod
    async def living(self) -> int:
        """Workers that the machine, or the API server, says there are."""

    def worker_environment(self, settings: Settings) -> dict[str, str]:
        return {
            "PENSTOCK_BLOBS": str(settings.blobs),
            "PENSTOCK_PLANNER_ADDRESS": settings.planner_address,
            "PENSTOCK_SCHEDULER_ADDRESS": settings.scheduler_address,
            "PENSTOCK_WORKER__SLOTS": str(SLOTS),
        }

    async def start(self, redis_url: str, database_url: str) -> None:
        port = free_port()
        settings = Settings.model_validate(
            {
                "data": self.folder / "data",
                "blobs": self.folder / "blobs",
                "redis_url": redis_url,
                "planner": {"database_url": f"sqlite:///{self.folder}/planner.db"},
                "scheduler_address": f"127.0.0.1:{port}",
                "worker": {"slots": SLOTS},
                "scheduler": {
                    "database_url": database_url,
                    "lease_term_seconds": TERM_SECONDS,
                    "sweep_seconds": 0.05,
                    "retry_first_seconds": 0.1,
                    "idle_seconds": 0.5,
                    "warm_workers": 0,
                    "workers": MOST,
                    **self.scheduler_settings(),
                },
            }
        )
        (self.folder / "data").mkdir(exist_ok=True)
        planned = await serve(planner.__main__.build, settings)
        settings = settings.model_copy(update={"planner_address": planned.address})
        await self.prepare(settings)
        scheduled = await serve(scheduler.__main__.build, settings, address=f"127.0.0.1:{port}")
        self.world = World(settings, planned, scheduled)

    @abstractmethod
    async def prepare(self, settings: Settings) -> None:
        """Before the scheduler starts."""

    async def stop(self) -> None:
        await self.world.stop()

    @property
    def backend(self) -> ProcessBackend | KubernetesBackend:
        """Of the scheduler that runs now."""
        loop = self.world.scheduler.service.loops["workers"]
        found: ProcessBackend | KubernetesBackend = loop.__self__  # type: ignore[attr-defined]
        return found

    async def workers(self) -> Sequence[WorkerNow]:
        """Those that live, as the backend sees them."""
        return [worker for worker in await self.backend.workers() if worker.state in ("working", "starting")]

    async def until_workers(self, count: int, *, seconds: float = 40.0) -> Sequence[WorkerNow]:
        async def there() -> Sequence[WorkerNow] | None:
            try:
                found = await self.workers()
            except Unavailable:  # it has not asked yet
                return None
            return found if len(found) == count else None

        found: Sequence[WorkerNow] = await until(f"{count} workers", there, seconds=seconds)
        return found


async def until(what: str, look: Callable[[], Awaitable[Any]], *, seconds: float = 40.0) -> Any:
    """The first answer that is not None, nor False."""
    deadline = time.monotonic() + seconds
    while True:
        found = await look()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        await asyncio.sleep(0.1)
