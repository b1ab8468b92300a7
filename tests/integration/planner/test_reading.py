"""Windows come from blocks that are loaded once and kept in bounded memory."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import SystemClock
from penstock.runtime.sql import Database
from planner import reading
from planner.domain.stages import StageSettings
from planner.parquet import BLOCK_ROWS, ItemTuple, Parquet
from planner.reading import PlanReader
from planner.spool import RowSpool
from planner.staging import Staging
from planner.store import PlanRow, SourceRow, StageRow, Store
from tests.servers.schemas import prepared
from tests.unannounced import unannounced

COUNT = 3 * BLOCK_ROWS + 7


class CountingParquet(Parquet):
    loads = 0

    def read_items(self, plan: Path, *, stage: int, first: int, end: int, laned: bool = False) -> list[ItemTuple]:
        self.loads += 1
        return super().read_items(plan, stage=stage, first=first, end=end, laned=laned)


@pytest.fixture
def parquet(tmp_path: Path) -> CountingParquet:
    return CountingParquet(tmp_path / "blobs")


@pytest.fixture
def reader(tmp_path: Path, parquet: CountingParquet) -> PlanReader:
    """A plan `p` of COUNT items, made without the wire."""
    blobs = BlobStore(tmp_path / "blobs")
    database = Database(f"sqlite:///{tmp_path / 'planner.db'}", "planner")
    prepared(database)
    store = Store(database)
    with Staging(blobs, unannounced).upload() as upload:
        spool = RowSpool(upload, "items 1")
        spool.add([(i + 1, f"k{i}", "", json.dumps({"n": i}).encode()) for i in range(COUNT)])
        spool.finish()
        parquet.write_snapshot(spool.place, upload.path("snapshot"))
        parquet.write_plan(upload.path("snapshot"), upload.path("plan"), [])
        ref = blobs.put(upload.path("plan").read_bytes())
    source = SourceRow("s", 2, COUNT, 0, 0, "0" * 64, 0, tuple(spool.blocks), 0)
    store.keep_source(source, request_id="", now_ms=0)
    stage = StageRow(StageSettings("noop", "1", {}, 64, 5, 600, "default"), COUNT, tuple(spool.blocks))
    store.keep_plan(
        PlanRow("p", "s", 2, "", "", (stage,), ref.sha256, ref.size_bytes, 0, None), request_id="", now_ms=0
    )
    return PlanReader(store=store, blobs=blobs, parquet=parquet, clock=SystemClock.start())


async def test_a_block_is_loaded_once(reader: PlanReader, parquet: CountingParquet) -> None:
    windows = await asyncio.gather(
        *(reader.window("p", stage=0, after_seq=100 * i - 1, limit=2_000) for i in range(50))
    )
    assert parquet.loads == 1
    assert [window.items[0][0] for window in windows] == [100 * i for i in range(50)]
    await reader.window("p", stage=0, after_seq=BLOCK_ROWS - 10, limit=2_000)
    assert parquet.loads == 2


async def test_blocks_that_were_not_read_for_long_go_first(
    reader: PlanReader, parquet: CountingParquet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_CACHE_BYTES", 2 * BLOCK_ROWS * 430)
    for seq in (0, BLOCK_ROWS, 0, 2 * BLOCK_ROWS, 0, BLOCK_ROWS):
        window = await reader.window("p", stage=0, after_seq=seq - 1, limit=1)
        assert window.items[0][0] == seq
    assert parquet.loads == 4


async def test_a_caller_that_gives_up_does_not_take_the_load_from_others(
    reader: PlanReader, parquet: CountingParquet
) -> None:
    first = asyncio.create_task(reader.window("p", stage=0, after_seq=-1, limit=10))
    second = asyncio.create_task(reader.window("p", stage=0, after_seq=-1, limit=10))
    for _ in range(1_000):
        if reader._loading:
            break
        await asyncio.sleep(0.001)
    first.cancel()
    assert len((await second).items) == 10
    assert parquet.loads == 1


async def test_every_item_is_in_one_window_whatever_its_size(reader: PlanReader) -> None:
    for limit in (1, 999, 10_000):
        after, seen = -1, 0
        while True:
            window = await reader.window("p", stage=0, after_seq=after, limit=limit)
            assert [item[0] for item in window.items] == list(range(after + 1, after + 1 + len(window.items)))
            seen += len(window.items)
            after = window.items[-1][0]
            if window.end or (limit == 1 and seen == 50):
                break
        assert seen == (50 if limit == 1 else COUNT)


async def test_few_items_of_many_are_read_by_themselves(reader: PlanReader, parquet: CountingParquet) -> None:
    sparse = list(range(5, COUNT, 501))
    window = await reader.exactly("p", stage=0, seqs=sparse)
    assert [(item[0], item[1]) for item in window.items] == [(seq, f"k{seq}") for seq in sparse]
    assert parquet.loads == 0
    mixed = [9, 8, 8, COUNT - 1, *range(100, 4_000), 3 * BLOCK_ROWS, 7]
    window = await reader.exactly("p", stage=0, seqs=mixed)
    assert [item[0] for item in window.items] == mixed
    assert parquet.loads == 2, "many of a block are read with it, and its last few too"
    for _ in range(5):
        await reader.exactly("p", stage=0, seqs=[BLOCK_ROWS])
    assert parquet.loads == 3, "and what is asked for again and again"


async def test_a_cached_window_of_2000_items_takes_less_than_5_ms(reader: PlanReader) -> None:
    await reader.window("p", stage=0, after_seq=-1, limit=2_000)
    started = time.process_time()
    for i in range(20):
        await reader.window("p", stage=0, after_seq=i, limit=2_000)
    assert (time.process_time() - started) / 20 < 0.005
