"""A copy of results over a world's planner and scheduler, made and asked by a test itself."""

from __future__ import annotations

from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import SystemClock
from penstock.runtime.parquet_files import ParquetFiles
from penstock.runtime.sql import Database
from planner.estimate_rows import EstimateRows
from planner.results.copying import Results
from planner.results.ends import Ends
from planner.results.history_rows import HistoryRows
from planner.results.outcomes import Outcomes
from planner.results.parts import Parts, latest
from planner.results.rows import ResultRows
from planner.staging import Staging
from planner.store import Store
from tests.integration.scheduler.world import World, completed, failed
from tests.unannounced import unannounced

__all__ = ["Copy", "ended"]


class Copy:
    """A copy of its own over the world's planner and scheduler."""

    def __init__(self, world: World) -> None:
        blobs = BlobStore(world.settings.blob_folder())
        self.database = Database(world.settings.planner.database_url, "planner")
        self.files = ParquetFiles(blobs.folder, memory="256MB", spill=blobs.folder / ".spill", what="the blob store")
        self.rows = ResultRows(self.database)
        self.clock = SystemClock.start()
        self.staging = Staging(blobs, unannounced)
        self.outcomes = Outcomes(world.scheduler.address, None)
        store, self.estimates = Store(self.database), EstimateRows(self.database)
        self.histories = HistoryRows(self.database)
        self.results = Results(
            outcomes=self.outcomes,
            rows=self.rows,
            parts=Parts(self.files),
            files=self.files,
            ends=Ends(database=self.database, rows=self.estimates, files=self.files, store=store, clock=self.clock),
            store=store,
            blobs=blobs,
            staging=self.staging,
            clock=self.clock,
        )

    async def latest(self, columns: str = '"key", state, confidence') -> list[tuple[object, ...]]:
        parts = await self.results.catch_up()
        if not parts:
            return []
        with self.files.cursor() as cursor:
            return cursor.execute(f'SELECT {columns} FROM {latest(parts)} AS r ORDER BY "key"').fetchall()

    async def close(self) -> None:
        await self.outcomes.close()
        self.files.close()
        self.staging.close()
        self.database.close()


async def ended(world: World, count: int, *, wrong: int = 0, confidence: float = 0.5) -> str:
    """A run of `count` items of which the first `wrong` fail for good."""
    run_id = await world.run(count)
    worker = world.worker()
    left = count
    while left:
        leases = await worker.leases(min(500, left))
        outcomes = [
            failed(lease, permanent=True) if lease.seq < wrong else completed(lease, {"confidence": confidence})
            for lease in leases
        ]
        assert not await worker.report(run_id, outcomes)
        left -= len(leases)
    await worker.end()
    return run_id
