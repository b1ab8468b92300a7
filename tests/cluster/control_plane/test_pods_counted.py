"""The cap in every instant: two schedulers that die at every call, an API server that dies and hangs, both at once
believing that they lead. Samples each 100 ms."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import scheduler.__main__
from scheduler.backends.kubernetes import backend
from scheduler.backends.kubernetes.api import Api, Unanswered
from tests.cluster.control_plane.pod_bed import PodBed
from tests.cluster.control_plane.sampling import Sampler
from tests.cluster.programs.control_plane import ControlPlane
from tests.integration.backends.bed import MOST, SLOTS, until
from tests.servers.inprocess import Served, serve

MANY = 10 * MOST * SLOTS
BACK_SECONDS = 30.0


class Dying(Api):
    """Dies at its n-th call: before it is sent, or when it was carried out and nobody has heard."""

    at = 0
    sent = False
    calls = 0
    dead = threading.Event()
    released = threading.Event()

    def _request(self, *arguments: Any, **more: Any) -> Any:
        cls = type(self)
        if more.get("stream") or not cls.at or cls.dead.is_set():
            if cls.at and cls.dead.is_set():
                self._wait()
            return super()._request(*arguments, **more)
        cls.calls += 1
        if cls.calls < cls.at:
            return super()._request(*arguments, **more)
        if cls.sent:
            super()._request(*arguments, **more)
        cls.dead.set()
        return self._wait()

    def _wait(self) -> Any:
        """As long as the test: a process that was killed hears nothing more."""
        type(self).released.wait(120)
        raise Unanswered("it is dead")


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Dying]]:
    monkeypatch.setattr(backend, "Api", Dying)
    monkeypatch.setattr(backend, "LEAD_SECONDS", 1.5)
    monkeypatch.setattr(backend, "LEAD_AGAIN_SECONDS", 0.4)
    Dying.at, Dying.calls = 0, 0
    Dying.dead.clear()
    Dying.released.clear()
    yield Dying
    Dying.released.set()


async def until_living(bed: PodBed, count: int, *, seconds: float = BACK_SECONDS) -> None:
    async def there() -> bool:
        return await bed.living() == count

    await until(f"{count} pods", there, seconds=seconds)


def fail_all(bed: PodBed) -> None:
    """Every pod ends at once, as when its node's power fails and comes back."""
    for pod in bed.kubelet.pods():
        bed.kubelet._ended(pod["metadata"]["name"], 137)


async def another(bed: PodBed) -> Served:
    return await serve(scheduler.__main__.build, bed.world.settings)


@pytest.mark.parametrize("sent", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("lead", [True, False], ids=["one-leads", "both-believe-so"])
async def test_two_schedulers_die_at_every_call_and_the_cap_holds(
    tmp_path: Path,
    redis_url: str,
    postgres_url: str,
    control_plane: ControlPlane,
    dying: type[Dying],
    monkeypatch: pytest.MonkeyPatch,
    sent: bool,
    lead: bool,
) -> None:
    bed = PodBed(tmp_path, control_plane, runs=False)
    await bed.start(redis_url, postgres_url)
    if not lead:

        async def believes(self: object, seconds: float) -> bool:
            return True

        monkeypatch.setattr(backend.KubernetesBackend, "_take", believes)
    died = 0
    try:
        await bed.world.run(MANY, concurrency=MANY)
        await until_living(bed, MOST)
        with Sampler(control_plane, bed.namespace, MOST) as samples:
            for at in range(1, 9):
                await bed.world.scheduler.crash()
                dying.at, dying.calls, dying.sent = at, 0, sent
                dying.dead.clear()
                first = await another(bed)
                fail_all(bed)
                # What dies has its time to die; then two others come, and one of them makes up for it.
                for _ in range(60):
                    if dying.dead.is_set():
                        break
                    await asyncio.sleep(0.1)
                died += dying.dead.is_set()
                await first.crash()
                dying.at = 0
                bed.world.scheduler = await another(bed)
                second = await another(bed)
                await until_living(bed, MOST)
                await second.crash()
        assert died >= 6
        assert samples.most <= MOST
        assert len(samples.counts) > 50
    finally:
        dying.at = 0
        dying.released.set()
        await bed.stop()


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_an_api_server_that_goes_away_costs_time_and_no_pod_too_many(
    tmp_path: Path, redis_url: str, sqlite_url: str, control_plane: ControlPlane, how: str
) -> None:
    bed = PodBed(tmp_path, control_plane, runs=False)
    await bed.start(redis_url, sqlite_url)
    server = control_plane.api_server
    try:
        await bed.world.run(MANY, concurrency=MANY)
        await until_living(bed, MOST)
        with Sampler(control_plane, bed.namespace, MOST) as samples:
            fail_all(bed)
            if how == "killed":
                server.kill()
                await asyncio.sleep(3)
                await asyncio.to_thread(server.start)
            else:
                server.freeze()
                await asyncio.sleep(15)
                server.thaw()
            await asyncio.to_thread(control_plane.wait_ready)
            await until_living(bed, MOST)
        assert samples.most <= MOST
    finally:
        await bed.stop()
