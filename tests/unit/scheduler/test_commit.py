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
from scheduler.store.schema import metadata, requests


@dataclass
class Rig:
    database: Database
    commits: GroupCommit
    applied: list[list[int]] = field(default_factory=list)

    async def apply(self, effects: list[Effects]) -> None:
        self.applied.append([number for effect in effects for number in effect.changed])

    def count(self) -> int:
        with self.database.read() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(requests)).scalar_one()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    database = Database(f"sqlite:///{tmp_path}/commit.db", "scheduler")
    with database.write() as connection:
        metadata.create_all(connection)
    made = Rig(database, None)  # type: ignore[arg-type]  # the two know each other
    made.commits = GroupCommit(database, made.apply, queue_size=8)
    serving = asyncio.create_task(made.commits.serve())
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


async def test_a_full_disk_is_said_plainly_and_recovers_by_itself(rig: Rig) -> None:
    await rig.commits.check()
    limit = 40

    @event.listens_for(rig.database.engine, "checkout")
    def bound(connection: object, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count={limit}")  # type: ignore[attr-defined]

    with pytest.raises(Unavailable, match=r"disk .*is full") as failure:
        await rig.commits.run(insert(1, size=1_000_000))
    assert failure.value.code == "disk_full"
    assert rig.count() == 0
    limit = 100_000
    await rig.commits.check()
    assert await rig.commits.run(insert(1, size=1_000_000)) == 1


async def test_what_a_commit_made_ready_is_told_though_its_answer_was_lost(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Effects] = []

    async def apply(effects: list[Effects]) -> None:
        told.extend(effects)

    rig.commits._apply = apply
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
        return "done"

    assert await rig.commits.run(once) == "known"
    assert [effects.ready for effects in told] == [{}, {(1, 0): [(7, "", 7)]}]
    assert not any(effects.forget for effects in told), "what may still run is not let go"
