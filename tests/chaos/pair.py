"""A real planner and a real scheduler of which one, or their database, is killed in the midst of a call, and started
again. What must be so at once after that is asserted here: no process and no half-written folder is left."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import sqlalchemy as sa

from penstock.runtime.blobs import BlobStore
from penstock.runtime.channel import OPTIONS, calling
from penstock.runtime.errors import Unavailable
from penstock.runtime.sql import Database
from penstock.v1 import planner_pb2 as p
from penstock.v1 import planner_pb2_grpc, scheduler_pb2_grpc
from planner.results.rows import result_parts
from planner.store import plans, sources
from tests.chaos.cluster import Program
from tests.servers.postgres import PostgresServer

__all__ = ["START_SECONDS", "Pair", "killed"]

START_SECONDS = 60.0
CHILDREN_SECONDS = 10.0


@dataclass
class Pair:
    """A planner and a scheduler as programs; the planner is killed and started again."""

    folder: Path
    planner: Program
    scheduler: Program
    port: int
    scheduler_port: int
    database_url: str
    postgres: PostgresServer | None
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)
    """To each program, since it was started last."""

    async def start(self, program: Program, port: int) -> None:
        program.start()
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert program.alive(), f"{program.name} does not serve:\n{program.tail()}"
            assert time.monotonic() < deadline, f"{program.name} does not serve:\n{program.tail()}"
            await asyncio.sleep(0.02)
        if program.name in self.channels:
            await self.channels[program.name].close()
        self.channels[program.name] = grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=[*OPTIONS, ("grpc.initial_reconnect_backoff_ms", 50)]
        )

    async def start_planner(self) -> None:
        await self.start(self.planner, self.port)

    def program(self, name: str) -> Program:
        return {"planner": self.planner, "scheduler": self.scheduler}[name]

    def victims(self, *, gathers: bool = False) -> list[str]:
        """Whom an act needs, each of which is killed by turns."""
        return ["planner", *(["database"] if self.postgres else []), *(["scheduler"] if gathers else [])]

    async def answers(self) -> None:
        """Once its database is there again, without being started itself."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(Unavailable), calling():
                await self.stub.ListPlans(p.ListPlansRequest())
                return
            assert self.planner.alive(), self.planner.tail()
            assert time.monotonic() < deadline, self.planner.tail()
            await asyncio.sleep(0.05)

    async def scheduler_answers(self) -> None:
        """The planner reaches it again: a channel that lost its server waits before it tries another time."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            with calling():
                found = await self.stub.ListEstimates(p.ListEstimatesRequest())
            if not found.notes:
                return
            assert time.monotonic() < deadline, found.notes
            await asyncio.sleep(0.05)

    @property
    def stub(self) -> planner_pb2_grpc.PlannerServiceAsyncStub:
        return planner_pb2_grpc.PlannerServiceStub(self.channels["planner"])

    @property
    def runs(self) -> scheduler_pb2_grpc.SchedulerServiceAsyncStub:
        return scheduler_pb2_grpc.SchedulerServiceStub(self.channels["scheduler"])

    @contextlib.contextmanager
    def sql(self) -> Iterator[Database]:
        database = Database(self.database_url, "planner")
        try:
            yield database
        finally:
            database.close()

    def children(self) -> list[int]:
        """Pids of what the planner has started and runs."""
        found, left = [], [self.planner.pid]
        while left:
            for place in Path(f"/proc/{left.pop()}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    left += map(int, place.read_text().split())
            found += left
        return sorted(set(found))

    def orphans(self) -> set[str]:
        """Files of the blob store that no row names, and none says that they are to go."""
        store = BlobStore(self.folder / "blobs").folder
        there = {path.parent.name + path.name for path in store.glob("[0-9a-f][0-9a-f]/*")}
        rows = (plans.c.items_sha256, plans.c.lanes_sha256, sources.c.snapshot_sha256, result_parts.c.sha256)
        questions: list[sa.Executable] = [*map(sa.select, rows), sa.text("SELECT sha256 FROM dropped_files")]
        with self.sql() as database, database.read() as connection:
            named = {one for question in questions for (one,) in connection.execute(question)}
        return there - named

    def sessions(self) -> int:
        """Folders of planners in which something may lie that is not kept yet."""
        return len(list((self.folder / "blobs" / ".planner").glob("*-*")))

    async def stop(self) -> None:
        for channel in self.channels.values():
            await channel.close()
        for program in (self.planner, self.scheduler):
            program.kill()


def lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def killed(pair: Pair, act: Callable[[], Awaitable[object]], delay: float, victim: str = "planner") -> bool:
    """Kills someone `delay` seconds into an act, and starts them again; whether the act had ended well by then."""
    task = asyncio.ensure_future(act())
    await asyncio.wait({task}, timeout=delay)
    children = pair.children()
    if victim == "database":
        assert pair.postgres is not None
        await asyncio.to_thread(pair.postgres.kill)
    else:
        pair.program(victim).kill()
    over = False
    with contextlib.suppress(Unavailable):
        await task
        over = True
    if victim == "database":
        assert pair.postgres is not None
        await asyncio.to_thread(pair.postgres.start)
        await pair.answers()
        return over
    if victim == "planner":
        # What works for a planner dies with it, and writes nothing beside the next one.
        deadline = time.monotonic() + CHILDREN_SECONDS
        while alive := [pid for pid in children if lives(pid)]:
            assert time.monotonic() < deadline, f"these live on without their planner: {alive}"
            await asyncio.sleep(0.02)
    await pair.start(pair.program(victim), pair.port if victim == "planner" else pair.scheduler_port)
    if victim == "planner":
        assert pair.sessions() == 1, "what the dead planner was writing lies there still"
    return over
