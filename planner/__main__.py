"""Starts the planner: settings, wiring, serving, draining."""

from __future__ import annotations

import asyncio
import os

import grpc

from penstock.declared.folder import Processors
from penstock.runtime import metrics
from penstock.runtime.blob_place import open_blobs
from penstock.runtime.clock import Clock, SystemClock
from penstock.runtime.diagnosing import NAME, Diagnosing, blobs_probe
from penstock.runtime.errors import PenstockError
from penstock.runtime.logs import get_logger
from penstock.runtime.parquet_files import ParquetFiles
from penstock.runtime.program import Service
from penstock.runtime.program import main as run_program
from penstock.runtime.schema import prepare
from penstock.runtime.settings import Settings
from penstock.runtime.sql import Database
from penstock.runtime.tls import proof_of
from penstock.v1 import diagnosis_pb2_grpc, planner_pb2_grpc
from planner.choices import Choices
from planner.comparing import Comparing
from planner.deriving import Deriving
from planner.estimate_rows import EstimateRows
from planner.estimating import Estimating
from planner.grid import Grid
from planner.grid_tables import GridTables
from planner.guards import Guards
from planner.limits_seen import LimitsSeen
from planner.naming import NamedSources
from planner.ordered import OrderedPlans
from planner.origins import Origins
from planner.parquet import Parquet
from planner.plan_copies import PlanCopies
from planner.plan_export import PlanExport
from planner.plan_import import PlanImports
from planner.planner_calls import PlannerParts
from planner.planning import Planning
from planner.profiles import Profiles
from planner.reading import PlanReader
from planner.removals.dropped_files import DroppedFiles
from planner.removals.plan_uses import PlanUses
from planner.removals.removing import Removing
from planner.removals.rows import RemovalRows
from planner.results.copying import Results
from planner.results.ends import Ends
from planner.results.history_rows import HistoryRows
from planner.results.outcomes import Outcomes
from planner.results.parts import Parts
from planner.results.recent import Recent
from planner.results.rows import ResultRows
from planner.row_pages import RowPages
from planner.samples import Sampling
from planner.sandbox.sandbox import Sandbox
from planner.service import PlannerService
from planner.sources import Sources
from planner.staging import Staging
from planner.store import Store
from planner.table_planning import TablePlanning
from planner.table_sources import TableSources, table_bounds
from planner.tables.process import TableReader
from planner.worker_classes import WorkerClasses

__all__ = ["build", "main"]

SWEEP_SECONDS = 300.0
WARM_SECONDS = 1.0
RESULTS_MEMORY = "256MB"

log = get_logger("planner")


async def build(settings: Settings, clock: Clock | None = None) -> Service:
    """All parts of the planner. Raises Unavailable while SQL or the blob folder can't be used."""
    clock = clock or SystemClock.start()
    section = settings.planner
    blobs = open_blobs(settings)
    database = Database.of(settings, "planner")
    await asyncio.to_thread(prepare, database, settings.database)
    dropped = DroppedFiles(database, blobs, clock)
    staging = Staging(blobs, dropped.announce)
    await asyncio.to_thread(blobs.check_writing)
    removed = await asyncio.to_thread(staging.clean)
    if removed:
        log.info("what killed planners left was removed", sessions=removed)
    metrics.expose(section.metrics_port, settings.metrics_host)
    store = Store(database)
    parquet = Parquet(blobs.folder)
    reader = PlanReader(store=store, blobs=blobs, parquet=parquet, clock=clock)
    processors = Processors(settings.processor_folder(), disabled=section.disabled_processors)
    if unknown := sorted(processors.disabled - {*processors.installed, *(one.name for one in processors.declared())}):
        log.warning("processors are disabled that are not there", names=unknown)
    classes = WorkerClasses.of(settings, os.environ)
    profiles = Profiles(section.profiles)
    profiles.check(processors, classes)
    removals = RemovalRows(database, dropped)
    names = NamedSources(database, removals)
    spill = blobs.folder / ".planner" / "results-spill"
    files = ParquetFiles(blobs.folder, memory=RESULTS_MEMORY, spill=spill, what="the blob store")
    address = settings.scheduler_address
    proof = proof_of(settings)
    outcomes = Outcomes(address, proof) if address else None
    limits = LimitsSeen(address, proof) if address else None
    uses = PlanUses(address, proof) if address else None
    estimates = EstimateRows(database)
    results = Results(
        outcomes=outcomes,
        rows=ResultRows(database),
        parts=Parts(files),
        files=files,
        ends=Ends(database=database, rows=estimates, files=files, store=store, clock=clock),
        store=store,
        blobs=blobs,
        staging=staging,
        clock=clock,
    )
    recent = Recent(results, clock)
    removing = Removing(rows=removals, uses=uses, results=results, store=store, clock=clock)
    planning = Planning(
        store=store,
        parquet=parquet,
        staging=staging,
        draft_hours=section.draft_hours,
        clock=clock,
        processors=processors,
        profiles=profiles,
        classes=classes,
    )
    deriving = Deriving(store=store, parquet=parquet, clock=clock)
    ordered = OrderedPlans(blobs.folder)
    tables = GridTables(blobs.folder)
    table_sources = TableSources(
        reader=TableReader(table_bounds(section.tables)), store=store, limits=section.tables, clock=clock
    )
    parts = PlannerParts(
        sources=Sources(store=store, parquet=parquet, limits=section.uploads, clock=clock),
        table_sources=table_sources,
        origins=Origins(folders=section.source_folders, databases=section.databases),
        planning=planning,
        table_planning=TablePlanning(
            planning=planning,
            choices=Choices(results=results, sandbox=Sandbox(), files=files, store=store, blobs=blobs, clock=clock),
            ordered=ordered,
            parquet=parquet,
            staging=staging,
            store=store,
            clock=clock,
            confirm_above_items=section.confirm_above_items,
        ),
        deriving=deriving,
        sampling=Sampling(
            deriving=deriving,
            parquet=parquet,
            store=store,
            clock=clock,
            draft_hours=section.draft_hours,
            confirm_above_items=section.confirm_above_items,
        ),
        guards=Guards(processors, classes),
        comparing=Comparing(files, blobs),
        estimating=Estimating(
            rows=estimates,
            histories=HistoryRows(database),
            results=results,
            limits=limits,
            parquet=parquet,
            blobs=blobs,
            clock=clock,
            slots=_slots(settings),
        ),
        estimates=estimates,
        export=PlanExport(files, blobs),
        imports=PlanImports(
            planning=planning,
            tables=table_sources,
            names=names,
            files=files,
            parquet=parquet,
            store=store,
            clock=clock,
        ),
        copies=PlanCopies(planning=planning, parquet=parquet, staging=staging, store=store, clock=clock),
        removing=removing,
        reader=reader,
        names=names,
        pages=RowPages(grid=Grid(tables), recent=recent, processors=processors, blobs=blobs),
        processors=processors,
        staging=staging,
        store=store,
        clock=clock,
    )
    service = PlannerService(parts)

    async def sweep_plans() -> None:
        drafts = await asyncio.to_thread(removals.sweep_drafts, now_ms=clock.now_ms())
        gone = await removing.sweep()
        if drafts or gone:
            reader.forget()
        if drafts:
            metrics.SWEEP_ITEMS.labels("drafts").inc(drafts)
            log.info("drafts past their end were removed", drafts=drafts)

    async def sweep_rows() -> None:
        await asyncio.to_thread(store.sweep, now_ms=clock.now_ms())
        await asyncio.to_thread(estimates.sweep)

    async def sweep_files() -> None:
        if files := await asyncio.to_thread(dropped.sweep):
            log.info("files of plans that are gone were removed", files=files)
        if left := await asyncio.to_thread(blobs.clean):
            log.info("what killed writers left was removed", files=left)

    async def sweep() -> None:
        """What one of them meets keeps none of the others waiting."""
        while True:
            for part in (sweep_plans, sweep_rows, sweep_files, results.sweep):
                try:
                    await part()
                except PenstockError as error:
                    log.warning("a sweep could not be done now", sweep=part.__name__, error=error.message)
            await asyncio.sleep(SWEEP_SECONDS)

    async def warm() -> None:
        # DuckDB takes a tenth of a second to load: not before the planner is ready, and not within the first upload.
        await asyncio.sleep(WARM_SECONDS)
        try:
            await asyncio.to_thread(parquet.warm)
        except (OSError, PenstockError) as error:  # it needs a folder, which the blobs' check misses too
            log.warning("DuckDB is loaded when it is needed", error=str(error))

    async def close() -> None:
        await recent.close()
        for seen in (outcomes, limits, uses):
            if seen is not None:
                await seen.close()
        for part in (ordered, tables, files, parquet):
            await asyncio.to_thread(part.close)
        await asyncio.to_thread(staging.close)
        await asyncio.to_thread(database.close)

    def register(server: grpc.aio.Server) -> None:
        planner_pb2_grpc.add_PlannerServiceServicer_to_server(service, server)
        probes = {"blobs": blobs_probe(lambda: blobs)}
        diagnosis = Diagnosing("planner", database=database, proof=proof, probes=probes)
        diagnosis_pb2_grpc.add_DiagnosisServiceServicer_to_server(diagnosis, server)

    return Service(
        register=register,
        names=["penstock.v1.PlannerService", NAME],
        checks={
            "sql": lambda: asyncio.to_thread(database.ping),
            "blobs": lambda: asyncio.to_thread(staging.check),
        },
        loops={"sweep": sweep, "warm": warm},
        close=close,
    )


def _slots(settings: Settings) -> dict[str, int]:
    """Of all workers of a class, as far as it is known here who starts them."""
    if settings.scheduler.backend != "process":
        return {}
    return {settings.worker.worker_class: settings.scheduler.workers * settings.worker.slots}


def main() -> None:
    """The planner until SIGTERM, as `python -P -m planner` and `penstock-planner` start it."""
    metrics.leave_out_schedulers()
    run_program("planner", build, listen=lambda settings: settings.planner.listen)


if __name__ == "__main__":
    main()
