"""Files of plans that are gone: an hour later, unless somebody has them again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from penstock.runtime.blobs import BlobStore
from penstock.runtime.channel import calling
from penstock.runtime.sql import Database
from penstock.v1 import planner_pb2
from penstock.v1 import sources_pb2 as sp
from planner.removals.dropped_files import KEPT_MS, DroppedFiles
from planner.removals.rows import RemovalRows
from tests.integration.planner.conftest import Planner
from tests.integration.planner.planned import NOOP, Plans
from tests.integration.planner.removals.asking import BOTH, Files, Killed, remove


@BOTH
async def test_a_file_goes_with_the_last_plan_that_has_it(plans: Plans, files: Files) -> None:
    plan = await plans.plan()
    with calling():
        copied = await plans.stub.CopyPlan(
            planner_pb2.CopyPlanRequest(plan_id=plan.plan_id, changes=planner_pb2.StageSpec(concurrency=3))
        )
    place = files.of(plan)
    assert files.of(copied) == place
    await remove(plans, plan)
    assert files.sweep() == 0
    assert place.exists()
    assert len(await plans.keys(copied)) == copied.item_count
    await remove(plans, copied)
    assert place.exists(), "who reads it now reads on"
    assert files.sweep() == 1
    assert not place.exists()
    assert files.sweep() == 0


async def test_a_file_that_a_new_plan_has_stays(plans: Plans, files: Files) -> None:
    plan = await plans.plan()
    place = files.of(plan)
    await remove(plans, plan)
    again = await plans.plan()
    assert files.of(again) == place
    assert files.sweep() == 0
    assert place.exists()
    assert len(await plans.keys(again)) == again.item_count


async def test_a_file_that_is_written_while_it_is_removed_stays(
    plans: Plans, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await plans.plan()
    place = files.of(plan)
    await remove(plans, plan)
    later = place.stat().st_mtime_ns + 1
    rename, data = os.rename, place.read_bytes()

    def written(one: Path, other: Path) -> None:
        """Somebody writes the same bytes between the look and the removal, and names them a moment later."""
        if one == place:
            place.write_bytes(data)
            os.utime(place, ns=(later, later))
        rename(one, other)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", written)
        assert files.sweep() == 0
    assert place.read_bytes() == data


async def test_a_file_that_was_written_since_stays_an_hour_more(plans: Plans, files: Files) -> None:
    plan = await plans.plan()
    place = files.of(plan)
    await remove(plans, plan)
    assert files.dropped.sweep() == 0, "it is seen"
    later = place.stat().st_mtime_ns + 1
    os.utime(place, ns=(later, later))
    assert files.sweep() == 0, "it is not what was seen"
    assert files.dropped.sweep() == 0, "it is seen again"
    files.clock.ms += KEPT_MS - 1
    assert files.dropped.sweep() == 0
    assert place.exists()
    files.clock.ms += 1
    assert files.dropped.sweep() == 1
    assert not place.exists()


async def test_an_hour_in_which_nobody_looked_does_not_count(plans: Plans, files: Files) -> None:
    """Whoever swept was away: a plan that was made since may be about to name the file."""
    plan = await plans.plan()
    place = files.of(plan)
    await remove(plans, plan)
    files.clock.ms += 10 * KEPT_MS
    assert files.dropped.sweep() == 0
    assert place.exists()
    assert files.sweep() == 1


async def test_a_file_that_was_noted_and_is_not_there_yet_is_not_forgotten(plans: Plans, files: Files) -> None:
    """Who writes it may die before any row names it."""
    plan = await plans.plan()
    place = files.of(plan)
    await remove(plans, plan)
    data = place.read_bytes()
    place.unlink()
    files.clock.ms = int(time.time() * 1000) + KEPT_MS // 2
    assert files.dropped.sweep() == 0
    place.write_bytes(data)
    assert files.sweep() == 1
    assert not place.exists()


async def test_a_file_that_never_came_is_forgotten_after_its_hour(plans: Plans, files: Files) -> None:
    plan = await plans.plan()
    files.of(plan).unlink()
    await remove(plans, plan)
    before = files.count("dropped_files")
    assert files.dropped.sweep() == 0, "long after"
    assert files.count("dropped_files") == before - 1


async def test_of_many_files_those_go_that_nobody_has(plans: Plans, files: Files) -> None:
    every = [await plans.plan(sp.Selection(limit=count)) for count in range(1, 8)]
    places = [files.of(plan) for plan in every]
    for plan in every:
        await remove(plans, plan)
    kept = await plans.plan(sp.Selection(limit=4))
    places[5].unlink()
    assert files.sweep() == 5
    assert [place.exists() for place in places] == [count == 4 for count in range(1, 8)]
    assert len(await plans.keys(kept)) == 4
    assert files.sweep() == 0


async def test_what_was_written_while_all_was_removed_is_looked_at_again(
    plans: Plans, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await plans.plan()
    place = files.of(plan)
    await remove(plans, plan)
    monkeypatch.setattr(DroppedFiles, "_remove", lambda self, note: False)
    assert files.sweep() == 0
    monkeypatch.undo()
    assert files.sweep() == 1
    assert not place.exists()


async def test_a_planner_that_dies_within_a_sweep_sweeps_again(
    plans: Plans, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await plans.plan()
    place = files.of(plan)
    await remove(plans, plan)

    def dies(self: Path, missing_ok: bool = False) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", dies)
        with pytest.raises(Killed):
            files.sweep()
    assert files.sweep() == 0
    assert not place.exists()
    (aside,) = (files.blobs.folder / ".tmp").iterdir()
    os.utime(aside, (0, 0))
    assert files.blobs.clean() == 1


async def test_files_of_drafts_past_their_end_go(planner: Planner, database_url: str) -> None:
    source = await planner.items(b'{"key": "a"}\n')
    before = planner.left_behind()
    await planner.plan(source.source_id, stages=NOOP, validate_only=True)
    assert planner.left_behind() > before
    database = Database(database_url, "planner")
    try:
        dropped = DroppedFiles(database, BlobStore(planner.blobs), planner.clock)
        assert RemovalRows(database, dropped).sweep_drafts(now_ms=planner.clock.now_ms() + 25 * 3_600_000) == 1
        assert dropped.sweep() == 0
        planner.clock.ms += KEPT_MS
        assert dropped.sweep() == 1
    finally:
        database.close()
    assert planner.left_behind() == before
