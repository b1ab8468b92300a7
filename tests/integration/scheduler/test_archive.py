"""Archives: an ended run's rows move into Parquet whole, read as they did, and leave SQL in bites."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
import sqlalchemy as sa

from penstock.runtime.blobs import BlobStore
from penstock.runtime.errors import Conflict
from penstock.runtime.sql import Database
from scheduler import archiving
from scheduler.archive_file import ArchiveFiles, Index
from scheduler.archives import Archives
from scheduler.archiving import HOUR_MS, Archiving
from scheduler.commit import GroupCommit
from scheduler.domain.states import ItemState
from scheduler.store import reads
from scheduler.store.archive import Due
from scheduler.store.effects import Effects
from scheduler.store.locking import lock
from scheduler.store.reopening import refuse_read_only
from scheduler.store.schema import attempts, events, failures, items, ledger, runs, stages
from scheduler.translate import event_message, item_message, ledger_messages
from tests.servers.schemas import prepared

NOW = 1_700_000_000_000
COUNT = 700


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    one = Database(database_url, "scheduler")
    prepared(one)
    yield one
    one.close()


@dataclass
class Shelf:
    """Archiving over a real database and blob store; `now_ms` is the test's."""

    database: Database
    commits: GroupCommit
    files: ArchiveFiles
    now_ms: int = NOW

    def archiving(self) -> Archiving:
        return Archiving(
            self.database,
            self.commits,
            self.files,
            now_ms=lambda: self.now_ms,
            archive_hours=24,
            event_hours=48,
            seconds=1,
        )

    def count(self, table: sa.Table, run: int = 1) -> int:
        with self.database.read() as connection:
            query = sa.select(sa.func.count()).select_from(table).where(table.c.run == run)
            return int(connection.execute(query).scalar_one())

    def archive(self, run: int = 1) -> str | None:
        with self.database.read() as connection:
            found: str | None = connection.execute(sa.select(runs.c.archive).where(runs.c.number == run)).scalar()
            return found


@pytest.fixture
async def shelf(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shelf]:
    monkeypatch.setattr(archiving, "CHUNK", 100)
    monkeypatch.setattr(archiving, "PART_ROWS", 300)
    monkeypatch.setattr(archiving, "PURGE_ROWS", 150)
    monkeypatch.setattr(archiving, "PURGES", 2)

    async def apply(effects: list[Effects]) -> None:
        return None

    commits = GroupCommit(database, queue_size=100)
    files = ArchiveFiles(BlobStore(tmp_path / "blobs"))
    writer = asyncio.create_task(commits.serve(apply))
    yield Shelf(database, commits, files)
    writer.cancel()
    await asyncio.wait([writer])
    commits.close()
    files.close()


def fill(database: Database, number: int = 1, *, end_ms: int | None = NOW - 25 * HOUR_MS) -> None:
    """A run of COUNT items, each tenth failed, with attempts, events and a ledger."""
    with database.write() as connection:
        connection.execute(
            sa.insert(runs).values(
                number=number, run_id=f"run-{number}", plan_id="plan-1", source_id="source-1", kind=1, name="",
                granularity="", state="running" if end_ms is None else "completed_with_failures", epoch=0,
                event_number=COUNT, settle_number=COUNT, error="", create_ms=1, start_ms=2, end_ms=end_ms,
            )
        )  # fmt: skip
        connection.execute(
            sa.insert(stages).values(
                run=number, stage=0, processor="noop", processor_version="1", parameters=b"{}", concurrency=4,
                max_tries=5, max_run_seconds=60, worker_class="default", state="completed", total=COUNT, running=0,
                completed=COUNT - COUNT // 10, failed=COUNT // 10, cursor=COUNT, error="",
            )
        )  # fmt: skip
        connection.execute(
            sa.insert(items),
            [
                {
                    "run": number, "stage": 0, "seq": seq, "key": f"k{seq}", "grp": f"gröup {seq % 3}",
                    "state": "failed" if seq % 10 == 0 else "completed", "attempt": 2, "tries": 1, "suspect": 0,
                    "session": "s", "grant_number": 1, "start_ms": 5, "end_ms": 6,
                    "settle_number": COUNT - seq, "error_kind": "item" if seq % 10 == 0 else None,
                    "error": 'it "broke"\n\t€' if seq % 10 == 0 else None, "lane": "domain:a project:b",
                    "result": orjson.dumps({"n": seq, "t": "ü"}) if seq % 10 else None,
                    "fingerprint": "aa" if seq % 10 == 0 else None, "cost_micros": seq, "healed": seq == 7,
                    "result_blob": "b" * 64 if seq == 3 else None, "result_size": 12 if seq == 3 else None,
                }
                for seq in range(COUNT)
            ],
        )  # fmt: skip
        connection.execute(
            sa.insert(attempts),
            [
                {
                    "run": number, "stage": 0, "seq": seq, "attempt": 1, "ended": "worker_lost", "session": "s",
                    "start_ms": 3, "end_ms": 4, "error_kind": "worker_lost", "error": "gone", "cost_micros": None,
                }
                for seq in range(COUNT)
            ],
        )  # fmt: skip
        connection.execute(
            sa.insert(events),
            [
                {
                    "run": number, "number": n, "time_ms": n, "type": "item.failed" if n % 2 else "lease.lost",
                    "subject": f"item:0/{n}", "actor": "scheduler", "old_state": "running", "new_state": "failed",
                    "reason": "it broke", "data": orjson.dumps({"n": n}),
                }
                for n in range(1, COUNT + 1)
            ],
        )  # fmt: skip
        connection.execute(
            sa.insert(ledger),
            [
                {
                    "run": number, "number": n, "time_ms": n, "stage": 0, "micros": 3,
                    "entries": orjson.dumps([["settled", n, 1, 1, 2], ["unknown", n, 2, 2, 2]]),
                }
                for n in range(1, 11)
            ],
        )  # fmt: skip
        connection.execute(
            sa.insert(failures).values(
                run=number, stage=0, fingerprint="aa", kind="item", count=70, seq=0, key="k0", error="broke",
                first_ms=1, last_ms=2,
            )
        )  # fmt: skip


async def all_turns(one: Archiving) -> None:
    while await one.turn():
        pass


async def test_an_archived_run_reads_as_it_did(shelf: Shelf) -> None:
    fill(shelf.database)
    with shelf.database.read() as connection:
        before = [item_message(0, row) for row in reads.item_rows(connection, 1, 0, limit=COUNT)]
        states = [ItemState.COMPLETED, ItemState.FAILED]
        outcomes = [
            item_message(0, row) for row in reads.outcome_rows(connection, 1, 0, after=100, states=states, limit=COUNT)
        ]
        story = [event_message(row) for row in reads.list_events(connection, 1, after=0, types=[], limit=COUNT)]
        money = [ledger_messages(row) for row in reads.ledger_rows(connection, 1, after=2, limit=5)]
    await all_turns(shelf.archiving())
    archive = shelf.archive()
    assert archive is not None
    assert (shelf.count(items), shelf.count(attempts), shelf.count(ledger)) == (0, 0, 0)
    assert shelf.count(failures) == 1
    archives = Archives(shelf.files)
    assert [item_message(0, row) for row in archives.items(archive, 0, limit=COUNT)] == before
    page = archives.items(archive, 0, after_seq=290, up_to_seq=320, limit=20)
    assert [item_message(0, row) for row in page] == before[291:311]
    failed = archives.items(archive, 0, after_seq=5, states=[ItemState.FAILED], limit=3)
    assert [row.seq for row in failed] == [10, 20, 30]
    assert [row.seq for row in archives.items(archive, 0, seqs=[650, 1, 999], limit=9)] == [1, 650]
    assert archives.items(archive, 1, limit=9) == []
    told = archives.outcomes(archive, 0, after=100, states=states, limit=COUNT)
    assert [item_message(0, row) for row in told] == outcomes
    assert [event_message(row) for row in archives.events(archive, after=0, limit=COUNT)] == story
    one = archives.events(archive, after=2, types=["item.failed"], subject="item:0/5", limit=9)
    assert [row.number for row in one] == [5]
    assert [ledger_messages(row) for row in archives.ledger(archive, after=2, limit=5)] == money


async def test_runs_that_go_on_or_ended_lately_stay(shelf: Shelf) -> None:
    fill(shelf.database, 1, end_ms=None)
    fill(shelf.database, 2, end_ms=NOW - 23 * HOUR_MS)
    assert not await shelf.archiving().turn()
    assert (shelf.archive(1), shelf.archive(2)) == (None, None)
    shelf.now_ms += HOUR_MS
    await all_turns(shelf.archiving())
    assert shelf.archive(1) is None
    assert (shelf.count(items, 1), shelf.count(items, 2)) == (COUNT, 0)


async def test_a_run_that_changed_while_it_was_written_is_not_marked(shelf: Shelf) -> None:
    fill(shelf.database)
    one = shelf.archiving()
    write = one._write

    def changing(due: Due) -> Index:
        index = write(due)
        with shelf.database.write() as connection:
            unit = lock(connection, 1, NOW)
            assert unit is not None
            unit.emit("report.refused")
            unit.flush(Effects())
        one._write = write  # type: ignore[method-assign]
        return index

    one._write = changing  # type: ignore[method-assign]
    assert await one.archive()
    assert shelf.archive() is None
    assert await one.archive()
    archive = shelf.archive()
    assert archive is not None
    assert len(Archives(shelf.files).events(archive, after=0, limit=2 * COUNT)) == COUNT + 1


async def test_a_purge_that_was_cut_off_is_ended_by_the_next_scheduler(shelf: Shelf) -> None:
    fill(shelf.database)
    one = shelf.archiving()
    assert await one.archive()
    assert await one.purge()
    assert 0 < shelf.count(items) < COUNT
    await all_turns(shelf.archiving())
    assert (shelf.count(items), shelf.count(attempts), shelf.count(ledger)) == (0, 0, 0)


async def test_two_schedulers_that_archive_the_same_run_agree(shelf: Shelf) -> None:
    fill(shelf.database)
    await asyncio.gather(shelf.archiving().archive(), shelf.archiving().archive())
    archive = shelf.archive()
    assert archive is not None
    assert len(Archives(shelf.files).items(archive, 0, limit=COUNT)) == COUNT


async def test_events_stay_for_their_time_and_then_the_archive_has_them(shelf: Shelf) -> None:
    fill(shelf.database)
    await all_turns(shelf.archiving())
    assert shelf.count(events) == COUNT
    shelf.now_ms += 49 * HOUR_MS
    await all_turns(shelf.archiving())
    assert shelf.count(events) == 0
    archive = shelf.archive()
    assert archive is not None
    assert len(Archives(shelf.files).events(archive, after=0, limit=COUNT)) == COUNT


async def test_results_as_large_as_they_may_be_are_archived(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "PART_ROWS", 100_000)
    fill(shelf.database)
    large = orjson.dumps({"text": random.Random(1).randbytes(30_000).hex()})
    with shelf.database.write() as connection:
        connection.execute(sa.update(items).where(items.c.state == "completed").values(result=large))
    await all_turns(shelf.archiving())
    archive = shelf.archive()
    assert archive is not None
    found = Archives(shelf.files).items(archive, 0, after_seq=610, limit=20)
    assert [row.result for row in found if row.seq % 10] == [large] * 18
    told = Archives(shelf.files).outcomes(archive, 0, after=3, states=[ItemState.COMPLETED], limit=100)
    assert [row.settle_number for row in told] == [n for n in range(4, 120) if (COUNT - n) % 10][:100]


async def test_commands_on_an_archived_run_are_refused(shelf: Shelf) -> None:
    fill(shelf.database)
    await all_turns(shelf.archiving())
    with shelf.database.write() as connection:
        unit = lock(connection, 1, NOW)
        assert unit is not None
        with pytest.raises(Conflict) as told:
            refuse_read_only(unit.run)
    assert told.value.code == "run_archived"
