"""Two schedulers on one PostgreSQL and one Redis, wired as their program wires them, called without a network."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from unittest import mock

import orjson

import scheduler.__main__ as program
from penstock.runtime.settings import Settings
from penstock.runtime.sql import Database
from penstock.v1 import common_pb2, planner_pb2
from scheduler.engine import Engine
from scheduler.store.effects import Effects
from scheduler.sweeps import Sweeps
from scheduler.windows import Windows
from tests.interleaved.gate import Gate
from tests.simulator.loop import VirtualLoop
from tests.simulator.planner_side import PlannerWorld, SimPlans

__all__ = ["Calls", "Replica", "plan_of", "planner"]

QUIET_LOOPS = ("sweeps", "marks", "gaps", "workers", "limits")
"""Loops that the tests play by hand."""


class Calls:
    """Takes the servicers of a scheduler, for calls without a socket."""

    def __init__(self) -> None:
        self.methods: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        pass

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        for name, handler in handlers.items():
            self.methods[name] = handler.unary_unary or handler.unary_stream


class Replica:
    """One scheduler. `call` answers as its RPC would; `sweeps` are played by hand."""

    def __init__(self, planner: PlannerWorld) -> None:
        self.planner = planner
        self.calls = Calls()
        self.sweeps: Sweeps
        self.engine: Engine
        self.windows: Windows
        self.gate: Gate
        self.database: Database
        self._service: Any = None
        self._tasks: list[asyncio.Task[Any]] = []

    async def start(self, settings: Settings) -> None:
        opened = Database.of

        def database(settings: Settings, service: str) -> Database:
            self.database = opened(settings, service)
            return self.database

        def sweeps(*args: Any, **kwargs: Any) -> Sweeps:
            self.sweeps = Sweeps(*args, **kwargs)
            return self.sweeps

        with (
            mock.patch.object(Database, "of", database),
            mock.patch.object(program, "Sweeps", sweeps),
            mock.patch.object(program, "Plans", return_value=SimPlans(self.planner)),
        ):
            self._service = await program.build(settings)
        self.engine, self.windows = self.sweeps._engine, self.sweeps._windows
        self.gate = Gate(self.database.engine)
        self._service.register(self.calls)
        loops = {**self._service.loops, "commits": partial(self.engine.commits.serve, self._gated)}
        for name, body in loops.items():
            if name not in QUIET_LOOPS:
                self._tasks.append(asyncio.ensure_future(_run(body)))

    async def _gated(self, effects: list[Effects]) -> None:
        await self.gate.tell_redis()
        await self.engine.apply(effects)

    async def granting(self) -> None:
        """Until Redis is made, or what the other scheduler has made is known."""
        for _ in range(2_000):
            if self.engine.granting:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("nothing is granted")

    async def open(self, number: int) -> None:
        """Opens a run's stages here, and fills their windows."""
        await self.windows.refresh(number)
        for key, stage in list(self.windows.stages.items()):
            if key[0] == number:
                await self.windows._fill(stage)

    async def call(self, method: str, request: Any) -> Any:
        return await self.calls.methods[method](request, None)

    async def stop(self) -> None:
        self.gate.open()
        left = set(self._tasks)
        while left:  # a cancellation that comes together with what a loop waits for may be lost
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=0.5)
        with contextlib.suppress(Exception):
            await self._service.close()


async def _run(body: Callable[[], Awaitable[None]]) -> None:
    await body()


class _Now(VirtualLoop):
    """A planner that answers at once."""

    def __init__(self) -> None:
        self.now = 0.0

    def hop(self) -> float:
        return 0.0


def planner() -> PlannerWorld:
    return PlannerWorld(_Now(), lambda _: None)  # type: ignore[abstract]


def plan_of(count: int, **stage: Any) -> tuple[planner_pb2.Plan, list[list[common_pb2.Item]]]:
    """A plan of one stage."""
    plan = planner_pb2.Plan(name="pair", kind=planner_pb2.SOURCE_KIND_ITEMS)
    settings = {"concurrency": 64, "max_tries": 5, "max_run_seconds": 600} | stage
    plan.stages.add(
        stage=0, processor="noop", processor_version="1", parameters=b"{}", worker_class="default", **settings
    )
    items = [
        common_pb2.Item(seq=seq, key=f"k{seq}", group="g", payload=orjson.dumps({"i": seq})) for seq in range(count)
    ]
    return plan, [items]
