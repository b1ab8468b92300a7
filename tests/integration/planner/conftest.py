"""A planner in this process behind a real gRPC server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from penstock.runtime.channel import calling, open_channel
from penstock.runtime.interceptors import CallInterceptor
from penstock.runtime.program import Service
from penstock.runtime.settings import PlannerSection, Settings, UploadLimits
from penstock.v1 import planner_pb2, planner_pb2_grpc
from planner.__main__ import build
from tests.integration.planner.copied import Copy
from tests.integration.planner.planned import Plans, rows
from tests.integration.scheduler.world import World

CHUNK = 1 << 20


@dataclass
class FakeClock:
    ms: int = 1_700_000_000_000
    seconds: float = 0.0

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)
        self.seconds += seconds


@dataclass
class Planner:
    """What tests ask of the planner, errors as our own classes."""

    stub: planner_pb2_grpc.PlannerServiceAsyncStub
    service: Service
    blobs: Path
    clock: FakeClock
    limits: UploadLimits = field(default_factory=UploadLimits)

    async def send(
        self, parts: Iterable[planner_pb2.CreateSourceRequest] | AsyncIterable[planner_pb2.CreateSourceRequest]
    ) -> planner_pb2.Source:
        with calling():
            return await self.stub.CreateSource(aiter(parts) if isinstance(parts, AsyncIterable) else iter(parts))

    async def files(self, files: Sequence[tuple[str, bytes]], request_id: str = "") -> planner_pb2.Source:
        return await self.send(_parts(planner_pb2.SOURCE_KIND_DOCUMENTS, files, request_id=request_id))

    async def archive(self, data: bytes) -> planner_pb2.Source:
        return await self.send(_parts(planner_pb2.SOURCE_KIND_DOCUMENTS, [("a.zip", data)], archive=True))

    async def items(self, data: bytes, request_id: str = "") -> planner_pb2.Source:
        return await self.send(_parts(planner_pb2.SOURCE_KIND_ITEMS, [("i.jsonl", data)], request_id=request_id))

    async def plan(self, source_id: str, **fields: object) -> planner_pb2.Plan:
        with calling():
            return await self.stub.CreatePlan(
                planner_pb2.CreatePlanRequest(source_id=source_id, **fields)  # type: ignore[arg-type]
            )

    async def keep(self, plan_id: str) -> planner_pb2.Plan:
        with calling():
            return await self.stub.KeepPlan(planner_pb2.KeepPlanRequest(plan_id=plan_id))

    async def items_plan(self, data: bytes) -> planner_pb2.Plan:
        source = await self.items(data)
        return await self.plan(source.source_id, stages=[planner_pb2.StageSpec(processor="noop")])

    async def read(self, plan_id: str, **fields: object) -> planner_pb2.ReadPlanItemsResponse:
        with calling():
            return await self.stub.ReadPlanItems(
                planner_pb2.ReadPlanItemsRequest(plan_id=plan_id, **{"after_seq": -1, **fields})  # type: ignore[arg-type]
            )

    def left_behind(self) -> set[str]:
        """Every file in the blob folder, but for the session's lock."""
        walked = os.walk(self.blobs)  # unlike rglob it takes a folder that goes away meanwhile for an empty one
        return {
            os.path.relpath(Path(at, name), self.blobs) for at, _, files in walked for name in files if name != "lock"
        }


def _parts(
    kind: planner_pb2.SourceKind.ValueType,
    files: Sequence[tuple[str, bytes]],
    *,
    archive: bool = False,
    request_id: str = "",
) -> Iterable[planner_pb2.CreateSourceRequest]:
    header = planner_pb2.CreateSourceRequest.Header(kind=kind, zip=archive, request_id=request_id)
    yield planner_pb2.CreateSourceRequest(header=header)
    for name, data in files:
        yield planner_pb2.CreateSourceRequest(file=planner_pb2.CreateSourceRequest.File(name=name))
        for at in range(0, len(data), CHUNK):
            yield planner_pb2.CreateSourceRequest(chunk=data[at : at + CHUNK])


@pytest.fixture
def limits() -> UploadLimits:
    """The bounds of uploads; tests of bounds give their own by `parametrize`."""
    return UploadLimits()


@pytest.fixture
def more_settings() -> dict[str, object]:
    """Settings as a file has them; tests of settings give their own by `parametrize`."""
    return {}


@pytest_asyncio.fixture
async def planner(
    tmp_path: Path, database_url: str, limits: UploadLimits, more_settings: dict[str, Any]
) -> AsyncIterator[Planner]:
    blobs = tmp_path / "blobs"
    clock = FakeClock()
    section = PlannerSection.model_validate(
        {"database_url": database_url, "uploads": limits, **more_settings.get("planner", {})}
    )
    settings = Settings.model_validate({**more_settings, "blobs": blobs, "planner": section})
    service = await build(settings, clock)
    server = grpc.aio.server(interceptors=[CallInterceptor(None)])
    service.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = open_channel(f"127.0.0.1:{port}", None)
    try:
        yield Planner(planner_pb2_grpc.PlannerServiceStub(channel), service, blobs, clock, limits)
    finally:
        await channel.close()
        await server.stop(None)
        await service.close()


@pytest.fixture
def knows_scheduler() -> bool:
    """Whether the planner does; modules whose tests copy results themselves say no."""
    return True


@pytest.fixture
async def world(tmp_path: Path, redis_url: str, knows_scheduler: bool) -> AsyncIterator[World]:
    """Planner and scheduler that know each other."""
    # Hand workers renew nothing: what they hold outlasts a machine that stands still for a moment.
    one = await World.start(
        tmp_path,
        redis_url,
        f"sqlite:///{tmp_path}/scheduler.db",
        knows_scheduler=knows_scheduler,
        lease_term_seconds=10.0,
    )
    try:
        yield one
    finally:
        await one.stop()


@pytest.fixture
async def copy(world: World) -> AsyncIterator[Copy]:
    one = Copy(world)
    yield one
    await one.close()


@pytest.fixture
async def plans(world: World) -> Plans:
    found = Plans(world)
    await found.catalog(rows())
    return found
