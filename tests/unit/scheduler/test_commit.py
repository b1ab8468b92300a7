"""Group commit: one transaction for many, each call answered for itself, effects in the order of commits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from penstock.runtime.errors import Overloaded, Unavailable
from penstock.runtime.sql import Database
from scheduler.commit import GroupCommit
from scheduler.store.effects import Effects
from scheduler.store.items import Stale
from scheduler.store.schema import metadata, requests
from scheduler.trouble import CALM_SECONDS


@dataclass
class Time:
    now: float = 0.0


@dataclass
class Rig:
    database: Database
    commits: GroupCommit
    time: Time
    applied: list[list[int]] = field(default_factory=list)
    told: list[Effects] = field(default_factory=list)

    async def apply(self, effects: list[Effects]) -> None:
        self.applied.append([number for effect in effects for number in effect.changed])
        self.told += effects

    def count(self) -> int:
        with self.database.read() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(requests)).scalar_one()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    database = Database(f"sqlite:///{tmp_path}/commit.db", "scheduler")
    with database.write() as connection:
        metadata.create_all(connection)
    time = Time()
    made = Rig(database, GroupCommit(database, queue_size=8, monotonic=lambda: time.now), time)
    serving = asyncio.create_task(made.commits.serve(made.apply))
    yield made
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    made.commits.close()
    database.close()


def insert(number: int, *, size: int = 1, fail: bool = False):  # type: ignore[no-untyped-def]  # a Work
    def work(connection: sa.Connection, effects: Effects) -> int:
        connection.execute(
            sa.insert(requests).values(
                request_id=f"r{number}", method="m", digest=b"x" * size, run_id="", changed=False, create_ms=0
            )
        )
        if fail:
            raise ValueError(f"call {number} fails")
        effects.changed.add(number)
        return number

    return work


async def test_calls_that_arrive_together_share_a_transaction(rig: Rig) -> None:
    answers = await asyncio.gather(*(rig.commits.run(insert(i)) for i in range(8)))
    assert answers == list(range(8))
    assert rig.applied == [list(range(8))]


async def test_a_call_that_fails_takes_no_other_with_it(rig: Rig) -> None:
    answers = await asyncio.gather(*(rig.commits.run(insert(i, fail=i == 2)) for i in range(5)), return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, int)] == [0, 1, 3, 4]
    assert isinstance(answers[2], ValueError)
    assert rig.count() == 4


async def test_a_full_queue_refuses_and_nothing_is_begun(rig: Rig) -> None:
    answers = await asyncio.gather(*(rig.commits.run(insert(i)) for i in range(12)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Overloaded)]
    assert len(refused) == 4
    assert rig.count() == 8


@contextmanager
def bounded(rig: Rig, pages: int) -> Iterator[None]:
    """The file takes no more than that."""
    limit = pages

    def bound(connection: object, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count={limit}")  # type: ignore[attr-defined]

    event.listen(rig.database.engine, "checkout", bound)
    try:
        yield
    finally:
        limit = 100_000


async def test_a_full_disk_is_said_plainly_and_recovers_by_itself(rig: Rig) -> None:
    await rig.commits.check()
    with bounded(rig, 40):
        with pytest.raises(Unavailable, match=r"disk .*is full") as failure:
            await rig.commits.run(insert(1, size=1_000_000))
        assert failure.value.code == "disk_full"
        assert rig.count() == 0
        with pytest.raises(Unavailable, match=r"disk .*is full"):
            await rig.commits.check()
    assert await rig.commits.run(insert(1, size=1_000_000)) == 1
    await rig.commits.check()


async def test_what_is_small_may_come_through_a_full_disk_and_readiness_does_not_flap(rig: Rig) -> None:
    with bounded(rig, 100):
        for number in range(30):
            with pytest.raises(Unavailable):
                await rig.commits.run(insert(number, size=1_000_000))
            if number:
                assert await rig.commits.run(insert(100 + number)) == 100 + number
            with pytest.raises(Unavailable, match=r"disk .*is full") as told:
                await rig.commits.check()
            assert told.value.code == "disk_full"
            rig.time.now += 1.0
    for _ in range(int(CALM_SECONDS) - 1):
        with pytest.raises(Unavailable):
            await rig.commits.check()
        rig.time.now += 1.0
    await rig.commits.check()
    assert rig.count() == 29, "probes leave nothing"


async def test_a_failure_between_calls_that_are_recorded_is_over_at_once(rig: Rig) -> None:
    with bounded(rig, 40), pytest.raises(Unavailable):
        await rig.commits.run(insert(1, size=1_000_000))
    assert await rig.commits.run(insert(2)) == 2
    await rig.commits.check()


async def test_what_a_commit_made_ready_is_told_though_its_answer_was_lost(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = rig.database.write

    @contextmanager
    def lost() -> Iterator[sa.Connection]:
        with commit() as connection:
            yield connection
        monkeypatch.undo()
        raise Unavailable("the connection broke", code="sql_unavailable")

    monkeypatch.setattr(rig.database, "write", lost)

    def once(connection: sa.Connection, effects: Effects) -> str:
        there = connection.execute(sa.select(requests.c.request_id)).scalar()
        if there is not None:
            return "known"
        insert(1)(connection, effects)
        effects.ready[1, 0] = [(7, "", 7)]
        effects.forget[1, 0] = [(7, "")]
        effects.limits["provider:x"] = None
        return "done"

    assert await rig.commits.run(once) == "known"
    told = rig.told
    assert [effects.ready for effects in told] == [{(1, 0): [(7, "", 7)]}, {}]
    assert not any(effects.forget for effects in told), "what may still run is not let go"
    first, second = told
    assert not first.limits, "a limit that was perhaps not raised must not be passed"
    assert second.limits == {"provider:x": None}, "nobody hears of it before Redis knows what its row says"
    assert not rig.commits.doubted


async def test_a_call_that_was_remembered_wrongly_again_and_again_is_made_until_it_is_answered(rig: Rig) -> None:
    left = [1, 2, 3]

    def work(connection: sa.Connection, effects: Effects) -> int:
        if left:
            left.pop()
            raise Stale
        answer: int = insert(7)(connection, effects)
        return answer

    assert await rig.commits.run(work) == 7
    assert (rig.count(), rig.applied) == (1, [[7]])
