"""Loops of the scheduler that meet an error: each goes on, and none stands in the way of another."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import scheduler.__main__ as program
from penstock.runtime.errors import NotFound, Overloaded, Unavailable
from penstock.v1 import scheduler_pb2 as pb
from scheduler import sweeps
from scheduler.ready import Lost
from scheduler.sweeps import Sweeps
from tests.integration.scheduler.world import World, completed


class Parts:
    """Of the scheduler that serves."""

    sweeps: Sweeps

    @property
    def engine(self) -> Any:
        return self.sweeps._engine

    @property
    def windows(self) -> Any:
        return self.sweeps._windows


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    """Caught when the world is built, so before it."""
    found = Parts()

    def made(*arguments: Any, **named: Any) -> Sweeps:
        found.sweeps = Sweeps(*arguments, **named)
        return found.sweeps

    monkeypatch.setattr(program, "Sweeps", made)
    return found


async def until(what: Any, *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.02)


async def leased(world: World, run_id: str) -> None:
    """One more item is leased and done."""
    worker = world.worker()
    (lease,) = await worker.leases(1, wait=20)
    assert await worker.report(run_id, [completed(lease)]) == []


async def test_leases_are_made_anew_although_the_first_attempt_met_a_full_queue(world: World, parts: Parts) -> None:
    run_id = await world.run(3)
    await until(lambda: parts.engine.granting)
    real = parts.engine.commits.run
    failed: list[int] = []

    async def once(*arguments: Any) -> Any:
        if not failed and not parts.engine.granting:
            failed.append(1)
            raise Overloaded("too many calls wait")
        return await real(*arguments)

    parts.engine.commits.run = once
    parts.engine.redis_lost(Lost("it is away, says the test"))
    await until(lambda: failed and parts.engine.granting)
    await leased(world, run_id)


async def test_a_plan_that_was_unreadable_a_thousand_times_stands_in_no_other_s_way(world: World, parts: Parts) -> None:
    blocked = await world.run(3)
    await until(lambda: len(parts.windows.stages) == 1)
    (older,) = parts.windows.stages.values()
    older.failures, tried = 5_000, []
    real = parts.windows._fill

    async def fill(stage: Any) -> None:
        if stage is older:
            tried.append(1)
            raise NotFound("no such plan", code="plan_not_found")
        await real(stage)

    parts.windows._fill = fill
    before = (await world.get(blocked)).number
    younger = await world.run(2_000)

    def looked() -> bool:
        parts.windows._hungry.set()
        return len(tried) > 0

    await until(looked)
    await world.until_ready(before + 1, 2_000)
    assert (await world.get(younger)).state == pb.RUN_STATE_RUNNING


async def test_a_sweep_that_fails_stands_in_no_other_s_way(hasty: World, parts: Parts) -> None:
    ran: list[str] = []

    def failing(name: str) -> Any:
        async def work() -> int:
            ran.append(name)
            raise Unavailable("the planner is away, says the test")

        return work

    for name in ("due", "marks", "gates", "timed_out", "ended", "adopted", "untold", "expired"):
        setattr(parts.sweeps, name, failing(name))
    await until(lambda: len(set(ran)) == 8)


async def test_a_turn_that_takes_long_is_no_gap_in_which_nobody_served(hasty: World, parts: Parts) -> None:
    await until(lambda: parts.engine.granting)
    begun, looks, over = asyncio.Event(), [0], asyncio.Event()
    real = parts.sweeps._note_gap

    async def slow() -> int:
        begun.set()
        await over.wait()
        return 0

    def note_gap() -> None:
        looks[0] += begun.is_set()
        real()

    parts.sweeps.gates = slow  # type: ignore[method-assign]
    parts.sweeps._note_gap = note_gap  # type: ignore[method-assign]
    await until(lambda: looks[0] > 20)  # all of it while one turn goes on
    over.set()


async def test_all_that_is_due_is_ready_at_once(world: World, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waited for one moment is not given out a batch a turn."""
    monkeypatch.setattr(sweeps, "LIMIT", 50)
    run_id = await world.run(175, concurrency=200)
    number = (await world.get(run_id)).number
    await world.until_ready(number, 175)
    worker = world.worker()
    leases = await worker.leases(200)
    outcomes = [pb.Outcome(seq=lease.seq, attempt=lease.attempt, kind=pb.OUTCOME_KIND_DEFERRED) for lease in leases]
    due_ms = int((time.time() + 4.0) * 1000)
    for outcome in outcomes:
        outcome.until_time.FromMilliseconds(due_ms)
    counts: list[int] = []
    real = parts.sweeps.due

    async def due() -> int:
        counts.append(await real())
        return counts[-1]

    parts.sweeps.due = due  # type: ignore[method-assign]
    assert await worker.report(run_id, outcomes) == []
    await until(lambda: sum(counts) == 175, seconds=30)
    assert (await world.get(run_id)).counts.queued == 175
    assert [count for count in counts if count] == [175]
