"""Settings -> wiring -> serve -> drain.

The one place that knows every part: what is made here is given to those that need it, and closed in the end. Nothing is
decided. Bad settings, a database that another scheduler has (SQLite) or that can't be migrated end the program with one
sentence; Redis and the planner may be away: readiness tells so.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial

import grpc

from penstock.runtime import metrics
from penstock.runtime.blob_place import open_blobs
from penstock.runtime.clock import SharedClock, random_id
from penstock.runtime.diagnosing import NAME, Diagnosing, Probe, blobs_probe
from penstock.runtime.program import Service
from penstock.runtime.program import main as run_program
from penstock.runtime.schema import prepare
from penstock.runtime.settings import Settings
from penstock.runtime.sql import Database
from penstock.runtime.tls import proof_of
from penstock.v1 import diagnosis_pb2_grpc, scheduler_pb2_grpc, workers_pb2_grpc
from scheduler.actions import Actions
from scheduler.archive_file import ArchiveFiles
from scheduler.archives import Archives
from scheduler.archiving import Archiving
from scheduler.backends import Backend
from scheduler.backends.process import ProcessBackend
from scheduler.changes import Changes
from scheduler.cloning import Cloning
from scheduler.commands import Commands
from scheduler.commit import GroupCommit
from scheduler.database_time import follow, started
from scheduler.engine import Engine
from scheduler.explaining import Explainer
from scheduler.following import Following
from scheduler.holding import hold
from scheduler.item_rows import ItemRows
from scheduler.lease_service import LeaseService
from scheduler.limit_service import LimitService
from scheduler.limits import Limits
from scheduler.listing import ItemList
from scheduler.low_water import LowWater
from scheduler.observing import Gauges
from scheduler.plans import Plans
from scheduler.ready import Ready
from scheduler.recovery import Recovery
from scheduler.service import SchedulerService
from scheduler.sweeps import Sweeps
from scheduler.wakes import Hearing, Telling
from scheduler.watching import Moved
from scheduler.windows import Windows
from scheduler.worker_service import WorkerService


async def build(settings: Settings) -> Service:
    section = settings.scheduler
    database = Database.of(settings, "scheduler")
    await asyncio.to_thread(prepare, database, settings.database)
    clock = await started(database)
    name = random_id("scheduler")
    if database.is_sqlite:
        await asyncio.to_thread(hold, database, clock.now_ms())
    ready = Ready(settings.redis_url, settings.redis_prefix, ca_file=settings.redis_ca_file)
    plans = Plans(settings.planner_address, proof_of(settings))
    shared = not database.is_sqlite
    commits = GroupCommit(database, queue_size=section.commit_queue, monotonic=clock.monotonic)
    windows = Windows(
        database,
        plans,
        ready,
        commits,
        shared=shared,
        items=section.window_items,
        byte_limit=section.window_bytes,
        now_ms=clock.now_ms,
    )
    blobs = open_blobs(settings)
    moved = Moved()
    telling = Telling(ready, name=name) if shared else None
    engine = Engine(
        section,
        commits,
        windows,
        ready,
        blobs,
        shared=shared,
        clock=clock,
        jitter=random.random,
        moved=moved.add,
        committed=telling.committed if telling is not None else None,
    )
    following = Following(engine, windows, moved)
    recovery = Recovery(engine, ready, windows, name=name, shared=shared, new_id=random_id)
    commands = Commands(engine, plans, new_id=random_id)
    actions = Actions(engine, database, plans, new_id=random_id)
    low_water = LowWater(database, plans, windows, commits, lag=4 * section.window_items)
    sweeps = Sweeps(engine, database, low_water, windows, ready, name=name, seconds=section.sweep_seconds)
    limits = Limits(engine, database, windows, ready, seconds=section.sweep_seconds, event_hours=section.event_hours)
    files = ArchiveFiles(blobs)
    archiving = Archiving(
        database,
        commits,
        files,
        now_ms=engine.now_ms,
        archive_hours=section.archive_hours,
        event_hours=section.event_hours,
        seconds=10 * section.sweep_seconds,
        leads=lambda: sweeps.led,
    )
    loops: dict[str, Callable[[], Awaitable[None]]] = {
        "commits": partial(commits.serve, engine.apply),
        "rebuild": recovery.serve,
        "follow": following.serve,
        "feed": partial(windows.serve, engine.feeding_lost),
        "fed": following.fed,
        "sweeps": sweeps.serve,
        "marks": sweeps.mark,
        "gaps": sweeps.watch_time,
        "limits": limits.serve,
        "actions": actions.serve,
        "archiving": archiving.serve,
        "gauges": Gauges(database, seconds=5 * section.sweep_seconds).serve,
    }
    if telling is not None:
        hearing = Hearing(engine, ready, windows, name=name)
        loops |= {"tell": telling.serve, "listen": hearing.serve, "poll": hearing.poll}
    if isinstance(clock, SharedClock):
        loops["clock"] = partial(follow, clock, database)
    backend: Backend | None = None
    probes: dict[str, Probe] = {"blobs": blobs_probe(lambda: blobs)}
    rights = None
    if section.backend == "kubernetes":
        from scheduler.backends.kubernetes.backend import KubernetesBackend

        pods = KubernetesBackend(settings, engine, database, blobs, clock=clock, name=name)
        backend, rights = pods, pods.rights
        probes["kubernetes"] = pods.probe
    elif section.backend == "process":
        backend = ProcessBackend(settings, engine, database, blobs, clock=clock, new_id=random_id)
    if backend is not None:
        loops["workers"] = backend.serve
    metrics.expose(section.metrics_port, settings.metrics_host)

    async def check_redis() -> None:
        await ready.check()
        engine.trouble.check()

    async def redis_time() -> float:
        await check_redis()
        return await ready.time_ms()

    probes["redis"] = redis_time

    def register(server: grpc.aio.Server) -> None:
        _register(
            server,
            engine,
            database,
            ready,
            plans,
            files,
            check_redis,
            commands=commands,
            actions=actions,
            limits=limits,
        )
        workers = WorkerService(engine, database, blobs, backend)
        workers_pb2_grpc.add_WorkerServiceServicer_to_server(workers, server)
        diagnosis = Diagnosing("scheduler", database=database, proof=proof_of(settings), probes=probes, rights=rights)
        diagnosis_pb2_grpc.add_DiagnosisServiceServicer_to_server(diagnosis, server)

    async def drain() -> None:
        if backend is not None:
            await backend.drain()

    async def close() -> None:
        commits.close()
        await plans.close()
        await ready.close()
        files.close()
        database.close()

    return Service(
        register=register,
        names=[*(f"penstock.v1.{name}Service" for name in ("Scheduler", "Lease", "Limit", "Worker")), NAME],
        checks={"sql": commits.check, "redis": check_redis},
        loops=loops,
        drain=drain,
        close=close,
    )


def _register(
    server: grpc.aio.Server,
    engine: Engine,
    database: Database,
    ready: Ready,
    plans: Plans,
    files: ArchiveFiles,
    check_redis: Callable[[], Awaitable[None]],
    *,
    commands: Commands,
    actions: Actions,
    limits: Limits,
) -> None:
    """Every method of gRPC, with what it reads by."""
    rows = ItemRows(database, Archives(files))
    explainer = Explainer(
        database,
        plans,
        rows,
        ready.held,
        ready.parked,
        check_redis,
        engine.waiting.has_room,
        now_ms=engine.now_ms,
        term_ms=engine.term_ms,
    )
    runs = SchedulerService(
        engine,
        database,
        commands=commands,
        changes=Changes(commands, engine, database),
        actions=actions,
        cloning=Cloning(commands, database, plans, rows),
        items=ItemList(database, plans, rows),
        rows=rows,
        explainer=explainer,
    )
    scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(runs, server)
    scheduler_pb2_grpc.add_LeaseServiceServicer_to_server(LeaseService(engine), server)
    scheduler_pb2_grpc.add_LimitServiceServicer_to_server(LimitService(limits, engine, database, ready), server)


def main() -> None:
    """The scheduler until SIGTERM, as `python -P -m scheduler` and `penstock-scheduler` start it."""
    run_program("scheduler", build, listen=lambda settings: settings.scheduler.listen)


if __name__ == "__main__":
    main()
