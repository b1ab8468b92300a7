"""Starts the planner: settings, wiring, serving, draining."""

from __future__ import annotations

import asyncio

import grpc

from penstock.runtime import metrics
from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import Clock, SystemClock
from penstock.runtime.logs import get_logger
from penstock.runtime.program import Service, main
from penstock.runtime.settings import Settings
from penstock.runtime.sql import Database, migrate
from penstock.v1 import planner_pb2_grpc
from planner.deriving import Deriving
from planner.parquet import Parquet
from planner.planning import Planning
from planner.reading import PlanReader
from planner.service import PlannerService
from planner.sources import Sources
from planner.staging import Staging
from planner.store import Store

__all__ = ["build"]

SWEEP_SECONDS = 300.0
WARM_SECONDS = 1.0

log = get_logger("planner")


async def build(settings: Settings, clock: Clock | None = None) -> Service:
    """All parts of the planner. Raises Unavailable while SQL or the blob folder can't be used."""
    clock = clock or SystemClock.start()
    section = settings.planner
    blobs = BlobStore(settings.blob_folder())
    database = Database(section.database_url, "planner")
    await asyncio.to_thread(migrate, database)
    staging = Staging(blobs)
    removed = await asyncio.to_thread(staging.clean)
    if removed:
        log.info("what killed planners left was removed", sessions=removed)
    metrics.expose(section.metrics_port)
    store = Store(database)
    parquet = Parquet(blobs.folder)
    reader = PlanReader(store=store, blobs=blobs, parquet=parquet, clock=clock)
    service = PlannerService(
        sources=Sources(
            store=store, blobs=blobs, parquet=parquet, staging=staging, limits=section.uploads, clock=clock
        ),
        planning=Planning(store=store, parquet=parquet, staging=staging, draft_hours=section.draft_hours, clock=clock),
        deriving=Deriving(store=store, parquet=parquet, staging=staging, clock=clock),
        reader=reader,
        store=store,
        clock=clock,
    )

    async def sweep() -> None:
        while True:
            drafts = await asyncio.to_thread(store.sweep, now_ms=clock.now_ms())
            if drafts:
                metrics.SWEEP_ITEMS.labels("drafts").inc(drafts)
                reader.forget()
                log.info("drafts past their end were removed", drafts=drafts)
            left = await asyncio.to_thread(blobs.clean)
            if left:
                log.info("what killed writers left was removed", files=left)
            await asyncio.sleep(SWEEP_SECONDS)

    async def warm() -> None:
        # DuckDB takes a tenth of a second to load: not before the planner is ready, and not within the first upload.
        await asyncio.sleep(WARM_SECONDS)
        await asyncio.to_thread(parquet.warm)

    async def close() -> None:
        await asyncio.to_thread(parquet.close)
        await asyncio.to_thread(staging.close)
        await asyncio.to_thread(database.close)

    def register(server: grpc.aio.Server) -> None:
        planner_pb2_grpc.add_PlannerServiceServicer_to_server(service, server)

    return Service(
        register=register,
        names=["penstock.v1.PlannerService"],
        checks={
            "sql": lambda: asyncio.to_thread(database.ping),
            "blobs": lambda: asyncio.to_thread(staging.check),
        },
        loops={"sweep": sweep, "warm": warm},
        close=close,
    )


if __name__ == "__main__":
    metrics.leave_out_schedulers()
    main("planner", build, listen=lambda settings: settings.planner.listen)
