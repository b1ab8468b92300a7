"""Tables in child processes: answers and refusals come through, and what goes wrong stays in the child."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from penstock.runtime.errors import InvalidInput, NotFound, PenstockError, TooLarge, Unavailable
from planner.tables import process
from planner.tables.process import TableReader
from planner.tables.wanted import Database, Difference, TableBounds, TableFile, TableVersion, Wanted
from tests.integration.planner.table_files import as_csv, snapshot_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "upload"
    place.mkdir()
    return place


def read(folder: Path, data: bytes, reader: TableReader | None = None, **wanted: object) -> TableVersion:
    place = folder / f"file-{len(list(folder.iterdir()))}"
    place.write_bytes(data)
    inside = folder / f"made-{len(list(folder.iterdir()))}"
    inside.mkdir()
    chosen = Wanted(**wanted)  # type: ignore[arg-type]
    return (reader or TableReader()).read([TableFile("t.csv", place)], chosen, folder=inside, stop=threading.Event())


def test_an_answer_comes_through_whole(folder: Path) -> None:
    rows = [{"id": n, "brand": "Acme" if n % 3 else "Zeta", "n": n % 4 or None} for n in range(12)]
    version = read(folder, as_csv(rows) + b"1,2\n", skip_bad=True, key=("id",))
    assert version.row_count == 12
    assert version.schema.key == ("id",)
    assert version.guessed == ("group",)
    assert version.skipped.count == 1
    assert version.skipped.first == ("line 14: 2 cells where the header has 3 columns",)
    told = {one.name: one for one in version.statistics}
    assert (told["n"].nulls, told["n"].distinct, told["n"].distinct_exact) == (3, 3, True)
    assert (told["n"].least, told["n"].most) == ("1", "3")
    assert told["brand"].frequent == (("Acme", 8), ("Zeta", 4))
    assert [row["key"] for row in snapshot_rows(version.snapshot)] == [str(n) for n in range(12)]


def test_refusals_come_through_as_themselves(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="'1' stands in line 2 and in line 3") as caught:
        read(folder, b"id\n1\n1\n")
    assert caught.value.code == "bad_key"
    with pytest.raises(TooLarge):
        read(folder, b"id\n1\n", TableReader(TableBounds(files=0)))
    nowhere = Database("sqlite", str(folder / "none"), table="t")
    with pytest.raises(NotFound):
        TableReader().read(nowhere, Wanted(), folder=folder, stop=threading.Event())


def test_a_table_past_its_memory_is_refused_and_the_planner_lives(folder: Path) -> None:
    data = as_csv([{"id": n, "note": f"{n}" * 300} for n in range(20_000)])
    small = TableReader(TableBounds(memory_bytes=16 << 20))
    with pytest.raises(Unavailable) as caught:
        read(folder, data, small)
    assert caught.value.code == "table_memory"
    with pytest.raises(PenstockError):
        read(folder, data, TableReader(TableBounds(address_bytes=200 << 20)))


def test_long_rows_are_read_with_more_room_where_the_ordinary_is_not_enough(folder: Path) -> None:
    """Two thousand of them are held at once, at every step: 25 MB here are more than two threads have room for."""
    data = as_csv([{"id": n, "text": f"{n:06}" * 1_000} for n in range(4_096)])
    version = read(folder, data, TableReader(TableBounds(memory_bytes=200 << 20)))
    assert version.row_count == 4_096


def test_an_upload_that_is_given_up_ends_its_child(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fifo = folder / "never"
    os.mkfifo(fifo)
    stop = threading.Event()
    started: list[int] = []
    popen = subprocess.Popen

    class Told(popen):  # type: ignore[misc, valid-type]
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            started.append(self.pid)
            stop.set()

    monkeypatch.setattr(subprocess, "Popen", Told)
    with pytest.raises(InvalidInput, match="given up"):
        TableReader().read([TableFile("t.csv", fifo)], Wanted(), folder=folder, stop=stop)
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_a_table_that_takes_too_long_is_given_up(folder: Path) -> None:
    fifo = folder / "never"
    os.mkfifo(fifo)
    with pytest.raises(InvalidInput) as caught:
        TableReader(seconds=0.1).read([TableFile("t.csv", fifo)], Wanted(), folder=folder, stop=threading.Event())
    assert caught.value.code == "table_too_slow"


@pytest.mark.parametrize(
    ("ended", "kind"), [(-signal.SIGKILL, Unavailable), (-signal.SIGSEGV, InvalidInput), (1, RuntimeError)]
)
def test_a_child_that_fails_is_told_apart(ended: int, kind: type[Exception]) -> None:
    assert type(process._failed(ended, b"why")) is kind


def test_what_has_changed_between_two_versions(folder: Path) -> None:
    rows = [{"id": n, "brand": "Acme", "n": n} for n in range(1_000)]
    old = read(folder, as_csv(rows)).snapshot
    rows[7] |= {"n": -7}
    rows[3] |= {"brand": "Zeta"}
    rows[5] |= {"n": None}
    del rows[100:103]
    rows.insert(0, {"id": 5_000, "brand": "Acme", "n": 1})
    rows.append({"id": 6_000, "brand": "Acme", "n": 1})
    rows.reverse()
    new = read(folder, as_csv(rows)).snapshot
    reader, stop = TableReader(), threading.Event()
    found = reader.compare(old, new, folder=folder, stop=stop)
    assert found == Difference(2, 3, 3, ("6000", "5000"), ("7", "5", "3"), ("100", "101", "102"))
    few = reader.compare(old, new, folder=folder, stop=stop, most=1)
    assert (few.removed, few.first_removed) == (3, ("100",))
    assert reader.compare(new, new, folder=folder, stop=stop) == Difference(0, 0, 0, (), (), ())


def test_the_same_rows_with_other_columns_first_have_not_changed(folder: Path) -> None:
    rows = [{"id": n, "brand": "Acme", "n": n / 2} for n in range(10)]
    old = read(folder, as_csv(rows)).snapshot
    new = read(folder, as_csv([dict(reversed(row.items())) for row in rows])).snapshot
    found = TableReader().compare(old, new, folder=folder, stop=threading.Event())
    assert (found.added, found.changed, found.removed) == (0, 0, 0)
