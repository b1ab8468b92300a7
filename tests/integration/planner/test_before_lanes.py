"""Databases and plan files of version 0.1 go on working: they have no lanes, no rules, and the ids that they had."""

from __future__ import annotations

from pathlib import Path

import duckdb
import orjson
import sqlalchemy as sa

from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import SystemClock
from penstock.runtime.schema import migrate
from penstock.runtime.sql import Database
from planner.deriving import Deriving
from planner.domain.stages import plan_id
from planner.parquet import LaneFilter, Parquet
from planner.reading import PlanReader
from planner.staging import Staging
from planner.store import Store
from tests.unannounced import unannounced

SETTINGS = {
    "processor": "noop",
    "processor_version": "1",
    "parameters": {"sleep_seconds": 0.0},
    "concurrency": 64,
    "max_tries": 5,
    "max_run_seconds": 600,
    "worker_class": "default",
}
COUNT = 300
KEPT = "plan-5ce4b7fb910ff6a170f342d88d0ddd68"


def plan_of_version_1(database: Database, blobs: BlobStore, folder: Path) -> None:
    """A plan as 0.1 wrote it: its row, and its file without lanes."""
    migrate(database, "0001")
    place = folder / "old.parquet"
    duckdb.execute(
        "COPY (SELECT 0::INTEGER AS stage, i AS seq, 'k' || i AS key, '' AS \"group\", "
        f"'{{\"limits\": [\"domain:a\"]}}' AS payload FROM range({COUNT}) AS r(i)) TO '{place}' (FORMAT parquet)"
    )
    ref = blobs.put(place.read_bytes())
    stages = orjson.dumps([{"settings": SETTINGS, "item_count": COUNT, "blocks": [0]}]).decode()
    with database.write() as connection:
        connection.execute(
            sa.text("INSERT INTO sources VALUES ('source-1', 2, :count, 0, 0, :sha, 0, '[0]', 1)"),
            {"count": COUNT, "sha": "0" * 64},
        )
        connection.execute(
            sa.text("INSERT INTO plans VALUES (:plan, 'source-1', 2, 'old', '', :stages, :sha, :size, 1, NULL)"),
            {"plan": KEPT, "stages": stages, "sha": ref.sha256, "size": ref.size_bytes},
        )


async def test_a_plan_of_version_1_is_read_and_derived_from(tmp_path: Path, empty_database_url: str) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    database = Database(empty_database_url, "planner")
    plan_of_version_1(database, blobs, tmp_path)
    migrate(database)
    store, parquet, clock = Store(database), Parquet(blobs.folder), SystemClock.start()
    reader = PlanReader(store=store, blobs=blobs, parquet=parquet, clock=clock)
    try:
        row = store.plan(KEPT, now_ms=2)
        settings = row.stages[0].settings
        assert (settings.rules, settings.paid, settings.repeatable, row.laned) == ({}, False, True, False)
        assert plan_id(row.source_id, "", [settings]) == KEPT
        window = await reader.window(KEPT, stage=0, after_seq=99, limit=50)
        assert [(item[0], item[1], item[4]) for item in window.items] == [(i, f"k{i}", "") for i in range(100, 150)]
        assert (await reader.window(KEPT, stage=0, after_seq=-1, limit=9, only=["domain:a"])).items == ()
        assert len((await reader.window(KEPT, stage=0, after_seq=-1, limit=9, without=["domain:a"])).items) == 9
        assert await reader.lanes(KEPT, stage=0, after=-1, limit=10) == [("", COUNT, 0)]
        staging = Staging(blobs, unannounced)
        with staging.upload() as upload:
            derivation = Deriving(store=store, parquet=parquet, clock=clock).begin(upload, KEPT, 0)
            derivation.feed([7, 9])
            derived = derivation.finish(actor="ann", name="", request_id="")
        window = await reader.window(derived.plan_id, stage=0, after_seq=-1, limit=9)
        assert [item[:2] for item in window.items] == [(0, "k7"), (1, "k9")]
    finally:
        parquet.close()
        database.close()


def test_a_filter_of_lanes_is_parameters_alone() -> None:
    values: dict[str, object] = {}
    condition = LaneFilter(("a'b", "c"), without=True).sql(values)
    assert (condition, values) == ("lane NOT IN ($lane0, $lane1)", {"lane0": "a'b", "lane1": "c"})
