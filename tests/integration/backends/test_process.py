"""The conformance suite over local processes."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.runtime.settings import Settings
from scheduler.backends import WorkerNow
from tests.integration.backends.bed import Bed
from tests.integration.backends.conformance import *  # noqa: F403


class ProcessBed(Bed):
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder)
        self._monkeypatch = monkeypatch

    def scheduler_settings(self) -> dict[str, object]:
        return {"backend": "process"}

    async def prepare(self, settings: Settings) -> None:
        for name, value in self.worker_environment(settings).items():
            self._monkeypatch.setenv(name, value)

    async def kill(self, worker: WorkerNow) -> None:
        os.kill(int(worker.place.removeprefix("pid ")), signal.SIGKILL)

    async def living(self) -> int:
        return len(await self.backend.workers())


@pytest.fixture
async def bed(
    tmp_path: Path, redis_url: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ProcessBed]:
    one = ProcessBed(tmp_path, monkeypatch)
    await one.start(redis_url, sqlite_url)
    yield one
    await one.stop()
