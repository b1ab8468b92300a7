"""The planner's copy of what runs recorded: complete, once, and behind by nothing that settled before it was asked."""

from __future__ import annotations

import asyncio

import pytest

from penstock.runtime.clock import SystemClock
from penstock.runtime.errors import Unavailable
from penstock.v1 import scheduler_pb2 as pb
from planner.results import copying
from planner.results.copying import confidence_of
from planner.results.rows import DROPPED_MS, ResultRows
from tests.integration.planner.copied import Copy, ended
from tests.integration.scheduler.world import World, completed


@pytest.fixture
def knows_scheduler() -> bool:
    """No: the planner copies nothing by itself."""
    return False


async def test_what_settled_before_the_call_stands_in_it_once(world: World, copy: Copy) -> None:
    assert await copy.latest() == []
    await ended(world, 5, wrong=2)
    assert await copy.latest() == [
        ("k0", "failed", None),
        ("k1", "failed", None),
        ("k2", "completed", 0.5),
        ("k3", "completed", 0.5),
        ("k4", "completed", 0.5),
    ]
    parts = copy.rows.parts()
    assert await copy.latest() == await copy.latest()
    assert copy.rows.parts() == parts, "nothing new is nothing copied"
    await ended(world, 5, wrong=1, confidence=0.9)
    assert [row[2] for row in await copy.latest()] == [None, 0.9, 0.9, 0.9, 0.9], "the latest by its end wins"


async def test_a_retried_item_is_its_last_outcome(world: World, copy: Copy) -> None:
    run_id = await ended(world, 4, wrong=1)
    assert (await copy.latest())[0][:2] == ("k0", "failed")
    await world.runs.ActOnItems(pb.ActOnItemsRequest(run_id=run_id, verb=pb.ITEM_VERB_RETRY, seqs=[0], actor="ann"))
    worker = world.worker()
    (lease,) = await worker.leases(1)
    await worker.report(run_id, [completed(lease)])
    assert (await copy.latest())[0][:2] == ("k0", "completed")


async def test_rows_tell_whose_and_of_what_they_are(world: World, copy: Copy) -> None:
    run_id = await ended(world, 2, wrong=1)
    columns = "run_id, stage, seq, processor, version, kind, error, result, payload, start_ms <= end_ms, length(source)"
    first, second = await copy.latest(columns)
    assert first[:7] == (run_id, 0, 0, "noop", "1", "item", "it broke")
    assert second[:8] == (run_id, 0, 1, "noop", "1", None, None, '{"confidence":0.5}')
    assert first[8] != second[8], "a hash of each payload"
    assert first[9:] == second[9:] == (True, len("source-") + 32)


async def test_many_parts_become_few_and_lose_nothing(
    world: World, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "PART_ROWS", 500)
    monkeypatch.setattr(copying, "MERGED", 3)
    await ended(world, 4_250, wrong=50)
    found = await copy.latest()
    assert len(found) == 4_250
    assert sum(state == "failed" for _, state, _ in found) == 50
    assert len(copy.rows.parts()) < 6
    assert await copy.results.sweep() == 0, "who reads them still may"
    copy.clock = SystemClock(copy.clock.wall_at_start_ms + DROPPED_MS + 60_000, copy.clock.monotonic_at_start)
    copy.results._clock = copy.clock
    assert await copy.results.sweep() > 5
    assert await copy.latest() == found


async def test_a_copy_that_was_cut_off_goes_on(world: World, copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PART_ROWS", 500)
    await ended(world, 2_450)
    original, calls = ResultRows.keep, 0

    def dying(self: ResultRows, *args: object, **fields: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Unavailable("the disk is full", code="disk_full")
        original(self, *args, **fields)  # type: ignore[arg-type]

    monkeypatch.setattr(ResultRows, "keep", dying)
    with pytest.raises(Unavailable):
        await copy.results.catch_up()
    assert len(await copy.latest()) == 2_450
    assert sum(part.row_count for part in copy.rows.parts()) < 2_500, "what was kept is not read again"


async def test_callers_at_one_time_share_a_copy(world: World, copy: Copy) -> None:
    await ended(world, 50)
    found = await asyncio.gather(*(copy.results.catch_up() for _ in range(20)))
    assert copy.results._begun <= 2
    assert all(len(parts) == 1 for parts in found)


async def test_archived_runs_are_copied_and_never_asked_for_again(world: World, copy: Copy) -> None:
    run_id = await ended(world, 20)
    other = world.settings.model_copy(
        update={"scheduler": world.settings.scheduler.model_copy(update={"archive_hours": 0.0})}
    )
    world.settings = other
    await world.restart_scheduler()
    for _ in range(200):
        if (await world.get(run_id)).archived:
            break
        await asyncio.sleep(0.05)
    assert (await world.get(run_id)).archived
    assert len(await copy.latest()) == 20


async def test_without_the_scheduler_nothing_is_told(world: World, copy: Copy) -> None:
    await world.scheduler.crash()
    with pytest.raises(Unavailable):
        await copy.results.catch_up()
    await world.start_scheduler()
    assert await copy.latest() == []


@pytest.mark.parametrize(
    ("result", "confidence"),
    [
        (b'{"confidence": 0.25, "x": 1}', 0.25),
        (b'{"confidence": 1}', 1.0),
        (b'{"confidence": true}', None),
        (b'{"confidence": "high"}', None),
        (b'{"a": {"confidence": 0.5}}', None),
        (b'["confidence"]', None),
        (b"", None),
        (b'{"confidence"', None),
    ],
)
def test_only_a_top_level_number_is_a_confidence(result: bytes, confidence: float | None) -> None:
    assert confidence_of(result) == confidence
