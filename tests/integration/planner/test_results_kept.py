"""Parts of results: what a merge must not lose, what a planner that dies leaves, and results past its memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import SystemClock
from penstock.runtime.errors import Unavailable
from penstock.runtime.parquet_files import ParquetFiles
from penstock.v1 import scheduler_pb2 as pb
from planner.results import copying
from planner.results.asked import Asked
from planner.results.parts import Parts
from planner.results.rows import DROPPED_MS, ResultRows
from tests.integration.planner.copied import Copy, ended
from tests.integration.scheduler.world import World, completed


@pytest.fixture
def knows_scheduler() -> bool:
    """No: the planner copies nothing by itself."""
    return False


async def failed_of(copy: Copy, run_id: str, folder: Path) -> list[str]:
    """As `plans create --failed-of RUN` has it, of the source with k0, k1, …"""
    snapshot, place = folder / "blobs" / "snapshot", folder / "blobs" / "keys"
    duckdb.execute(f"COPY (SELECT 'k' || i AS key FROM range(10) AS t(i)) TO '{snapshot}' (FORMAT parquet)")
    Asked(copy.files, await copy.results.catch_up()).failed(snapshot, place, run_id=run_id)
    return [row[0] for row in duckdb.execute(f"SELECT key FROM read_parquet('{place}')").fetchall()]


async def test_what_failed_in_a_run_is_known_however_often_it_ran_and_parts_were_merged_since(
    world: World, copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "MERGED", 2)
    first = await ended(world, 10, wrong=4)
    assert await failed_of(copy, first, tmp_path) == ["k0", "k1", "k2", "k3"]
    await world.runs.ActOnItems(pb.ActOnItemsRequest(run_id=first, verb=pb.ITEM_VERB_RETRY, seqs=[0], actor="ann"))
    worker = world.worker()
    (lease,) = await worker.leases(1)
    await worker.report(first, [completed(lease)])
    assert await failed_of(copy, first, tmp_path) == ["k1", "k2", "k3"], "one was completed since"
    for wrong in (3, 0, 2, 0):
        again = await ended(world, 10, wrong=wrong)
        assert await failed_of(copy, again, tmp_path) == [f"k{number}" for number in range(wrong)]
        assert await failed_of(copy, first, tmp_path) == ["k1", "k2", "k3"], "whatever became of them elsewhere"
    assert max(part.level for part in copy.rows.parts()) > 1


def blobs_of(folder: Path) -> set[Path]:
    return set(folder.glob("blobs/[0-9a-f][0-9a-f]/*"))


class Killed(BaseException):
    """Nobody hears of it: what comes after does not happen."""


@pytest.mark.parametrize("step", ["before announce", "after announce", "before keep", "after keep", "before merged"])
async def test_a_planner_that_is_killed_leaves_no_file_for_good_and_nothing_twice(
    world: World, copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(copying, "MERGED", 2)
    await ended(world, 10)
    assert len(await copy.latest()) == 10
    await ended(world, 10, wrong=2, confidence=0.9)
    when, name = step.split()
    original = getattr(ResultRows, name)

    def dying(self: ResultRows, *args: object, **fields: object) -> object:
        answer = original(self, *args, **fields) if when == "after" else None
        raise Killed(answer)

    with monkeypatch.context() as patch:
        patch.setattr(ResultRows, name, dying)
        with pytest.raises(Killed):
            await copy.results.catch_up()
    found = await copy.latest()
    assert [row[2] for row in found] == [None, None, *[0.9] * 8]
    copy.results._clock = SystemClock(copy.clock.wall_at_start_ms + DROPPED_MS + 60_000, copy.clock.monotonic_at_start)
    await copy.results.sweep()
    assert await copy.latest() == found
    parts = {path for path in blobs_of(tmp_path) if b"settle_number" in path.read_bytes()}
    assert {f"{path.parent.name}{path.name}" for path in parts} == {part.sha256 for part in copy.rows.parts()}


async def test_a_database_that_takes_no_more_leaves_no_part_each_time_it_is_tried(
    world: World, copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise Unavailable("the disk of the planner's database is full: free some space", code="disk_full")

    stored = blobs_of(tmp_path)
    run_id = await world.run(30)
    worker = world.worker()
    with monkeypatch.context() as patch:
        patch.setattr(ResultRows, "announce", full)
        patch.setattr(ResultRows, "keep", full)
        for _ in range(3):
            await worker.report(run_id, [completed(lease) for lease in await worker.leases(10)])
            with pytest.raises(Unavailable, match="is full"):
                await copy.results.catch_up()
    left = blobs_of(tmp_path) - stored
    assert len(left) == 2, "the source and the plan"
    assert len(await copy.latest()) == 30


async def test_a_file_that_another_part_has_too_stays(copy: Copy, tmp_path: Path) -> None:
    now_ms = copy.clock.now_ms()
    data = b"of two parts"
    ref = BlobStore(tmp_path / "blobs").put(data)
    for age_ms in (2 * DROPPED_MS, 0):
        part = copy.rows.announce(level=0, sha256=ref.sha256, row_count=1, now_ms=now_ms - age_ms)
    assert await copy.results.sweep() == 0
    copy.rows.keep(part, [])
    assert await copy.results.sweep() == 0
    assert BlobStore(tmp_path / "blobs").get(ref.sha256) == data
    assert [one.part for one in copy.rows.parts()] == [part]


RESULT_BYTES, ITEMS = 4_000, 8_000


@pytest.fixture
def little(tmp_path: Path) -> Iterator[ParquetFiles]:
    """DuckDB with a third of the memory that the results of the tests have."""
    files = ParquetFiles(tmp_path, memory="80MB", spill=tmp_path / "spill", what="a test")
    yield files
    files.close()


def long_results(folder: Path, parts: int) -> list[Path]:
    """Each item has a result in every second part."""
    places = [folder / f"part{number}" for number in range(parts)]
    for number, place in enumerate(places):
        duckdb.execute(
            f"COPY (SELECT 'mice' AS source, 'p' AS processor, '1' AS version, '' AS parameters, "
            f"'run-{number}' AS run_id, {number}::BIGINT AS number, 0 AS stage, i AS seq, "
            f"i + 1 AS settle_number, 'key ' || i AS key, "
            "'' AS \"group\", 'completed' AS state, NULL::VARCHAR AS kind, NULL::VARCHAR AS error, "
            "NULL::VARCHAR AS fingerprint, 0.5::DOUBLE AS confidence, "
            f"left(repeat(md5(i || ' {number}'), {RESULT_BYTES // 32 + 1}), {RESULT_BYTES}) AS result, "
            "NULL::VARCHAR AS result_blob, 0::BIGINT AS cost_micros, 1 AS tries, false AS healed, "
            f"{number}::BIGINT AS start_ms, {number + 1}::BIGINT AS end_ms, '' AS payload "
            f"FROM range({number % 2 * ITEMS}, {(number % 2 + 1) * ITEMS}) AS t(i)) TO '{place}' "
            "(FORMAT parquet, ROW_GROUP_SIZE 2048)"
        )
    return places


def test_parts_past_memory_are_merged_and_each_keeps_the_latest(tmp_path: Path, little: ParquetFiles) -> None:
    parts, merged = long_results(tmp_path, 4), tmp_path / "merged"
    assert Parts(little).merge(parts, merged, beside=parts) == 2 * ITEMS
    kept = duckdb.execute(
        f"SELECT count(DISTINCT key), min(number), sum(length(result)) FROM read_parquet('{merged}')"
    ).fetchall()
    assert kept == [(2 * ITEMS, 2, 2 * ITEMS * RESULT_BYTES)]


def test_results_past_memory_are_a_table_in_order_wherever_they_were_merged(
    tmp_path: Path, little: ParquetFiles
) -> None:
    parts, place, again = long_results(tmp_path, 4), tmp_path / "table", tmp_path / "again"
    columns = Asked(little, parts).table(place, source="mice")
    Asked(little, parts[::-1]).table(again, source="mice")
    for found in (place, again):
        listed = duckdb.execute(f"SELECT key, result FROM read_parquet('{found}')").fetchall()
        assert [key for key, _ in listed] == sorted(f"key {number}" for number in range(2 * ITEMS))
        wanted = duckdb.execute(
            f"SELECT md5(i || ' ' || (2 + i // {ITEMS})) FROM range({2 * ITEMS}) AS t(i)"
        ).fetchall()
        assert all(result[:32] == wanted[int(key[4:])][0] for key, result in listed), "the latest of each"
    told = duckdb.execute(f"DESCRIBE SELECT * FROM read_parquet('{place}')").fetchall()
    assert [name for name, *_ in told] == [name for name, _ in columns]
    Asked(little, parts).table(again, source="others")
    assert [row[:2] for row in duckdb.execute(f"DESCRIBE SELECT * FROM read_parquet('{again}')").fetchall()] == [
        row[:2] for row in told
    ], "an empty table is one of the same kinds"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "spill") == sorted(
        ["again", "table", *(part.name for part in parts)]
    )


def test_too_little_memory_is_no_defect_of_ours(tmp_path: Path, little: ParquetFiles) -> None:
    with pytest.raises(Unavailable, match="80MB of memory are too little") as told, little.cursor() as cursor:
        cursor.execute("SELECT list(repeat(i::VARCHAR, 10000)) FROM range(10000) AS t(i)").fetchall()
    assert told.value.code == "too_little_memory"
