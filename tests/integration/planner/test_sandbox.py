"""Ordinary queries in the sandbox: what they see, what they give, how they fail, who waits for whom."""

from __future__ import annotations

import asyncio
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest

from penstock.runtime.errors import InvalidInput, Overloaded, PenstockError, Unavailable
from planner.domain.schema import Column, ColumnKind, Schema
from planner.sandbox.process import Child
from planner.sandbox.sandbox import MAX_CHARACTERS, Sandbox, Selected, read_keys
from planner.sandbox.tables import Table, key_columns
from tests.integration.planner.sandbox_tables import COUNT, SCHEMA, tables

ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t"


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Table]:
    return tables(tmp_path_factory.mktemp("snapshots"))


class Asker:
    def __init__(self, given: Mapping[str, Table], folder: Path) -> None:
        self.tables = given
        self.into = folder / "keys"
        self.sandbox = Sandbox(seconds=20.0)

    async def keys(self, sql: str) -> list[str]:
        selected = await self.select(sql)
        found = [key for batch in read_keys(self.into) for key in batch]
        assert len(found) == selected.count
        self.into.unlink()
        return found

    async def select(self, sql: str) -> Selected:
        return await self.sandbox.select(sql, self.tables, keys_of=key_columns(SCHEMA), into=self.into)

    async def refused(self, sql: str) -> tuple[str, str]:
        with pytest.raises(InvalidInput) as caught:
            await self.select(sql)
        assert not self.into.exists()
        return caught.value.code, caught.value.message


@pytest.fixture
def ask(given: Mapping[str, Table], tmp_path: Path) -> Asker:
    return Asker(given, tmp_path)


# -- what a query may do


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT key FROM items ORDER BY stock DESC LIMIT 2", ["m999", "m998"]),
        ("select KEY from ITEMS limit 1", ["m0"]),
        ("FROM items SELECT model WHERE stock = 7", ["m7"]),
        ("SELECT model AS anything FROM items WHERE stock = 7;", ["m7"]),
        ('SELECT key FROM "my catalog" WHERE stock < 2', ["m0", "m1"]),
        ("-- of a brand\nSELECT key /* one */ FROM items WHERE Brand = 'B3' LIMIT 1", ["m3"]),
        ("SELECT key FROM items WHERE brand_1 = 'lower' AND \"größe\" = 'g' LIMIT 1", ["m0"]),
        ('SELECT key FROM items WHERE "odd ""name"" \'with\' ; -- it all" = \'odd2\' LIMIT 1', ["m2"]),
        ("SELECT key FROM items WHERE column7 = 'no name' LIMIT 1", ["m0"]),
        ("SELECT key FROM items WHERE price IS NULL LIMIT 2", ["m0", "m10"]),
        ('SELECT min(key) FROM items GROUP BY "group" ORDER BY 1 LIMIT 2', ["m0", "m1"]),
        ("SELECT key FROM items WHERE seen >= '2026-01-01 10:00' AND price > 2 ORDER BY seen LIMIT 1", ["m11"]),
        (
            "SELECT i.key FROM items i LEFT JOIN results r ON i.key = r.key WHERE r.key IS NULL ORDER BY stock LIMIT 3",
            ["m1", "m3", "m5"],
        ),
        (
            "SELECT key FROM items JOIN results USING (key) WHERE confidence < 0.07 AND state = 'completed' "
            "ORDER BY confidence DESC, stock LIMIT 2",
            ["m6", "m106"],
        ),
        ("SELECT key FROM results WHERE state = 'failed' AND key IN (SELECT key FROM items) LIMIT 1", ["m0"]),
        (
            "WITH bad AS (SELECT key FROM results WHERE state = 'failed'), items AS (SELECT * FROM items SEMI JOIN bad "
            "USING (key)) SELECT key FROM items ORDER BY stock DESC LIMIT 1",
            ["m996"],
        ),
        (
            "WITH RECURSIVE t(n) AS (SELECT 0 UNION ALL SELECT n + 5 FROM t WHERE n < 10) "
            "SELECT key FROM items JOIN t ON stock = n ORDER BY n",
            ["m0", "m5", "m10"],
        ),
        (
            'SELECT key FROM items QUALIFY row_number() OVER (PARTITION BY "group" ORDER BY price DESC NULLS LAST) = 1 '
            'ORDER BY "group" LIMIT 2',
            ["m994", "m995"],
        ),
        ("SELECT key FROM items WHERE EXISTS (SELECT 1 FROM results r WHERE r.key = items.key) LIMIT 1", ["m0"]),
        ("(SELECT key FROM items LIMIT 1) UNION ALL (SELECT key FROM items LIMIT 2)", ["m0", "m1"]),
        ("SELECT key FROM items WHERE json_extract_string(payload, '$.model') = 'm9'", None),
        ("SELECT unnest(['m2', 'm1', 'm2'])", ["m2", "m1"]),
        ("SELECT 'm' || range AS key FROM range(2)", ["m0", "m1"]),
        ("VALUES ('m4'), ('m2')", ["m4", "m2"]),
        ("SELECT key FROM items WHERE key LIKE 'm99%' AND regexp_matches(key, '9$') AND upper(Brand) <> ''", ["m999"]),
        ("SELECT stock FROM items LIMIT 2", ["0", "1"]),
        ("SELECT key, model, count(*) OVER () FROM items LIMIT 1", ["m0"]),
        ("SELECT key FROM items WHERE false", []),
    ],
)
async def test_a_select_gives_its_keys_in_its_order(ask: Asker, sql: str, expected: list[str] | None) -> None:
    if expected is None:  # the payload is the planner's, no column of its users
        assert "payload" in (await ask.refused(sql))[1]
    else:
        found = await ask.keys(sql)
        assert [key for key in found if key != "m99"] == [key for key in expected if key != "m99"]


async def test_a_key_counts_once_at_its_first_place(ask: Asker) -> None:
    found = await ask.keys(
        "SELECT b.key FROM items a JOIN items b ON true WHERE a.stock < 3 ORDER BY a.stock, b.stock DESC"
    )
    assert found == [f"m{place}" for place in reversed(range(COUNT))]


async def test_odd_keys_come_back_as_they_are(ask: Asker, tmp_path: Path) -> None:
    odd = ['"', "\\", "a\nb", "ü😀", "}\n{", "\t", " ", "null", "'", "\u2028", "\x7f"]
    listed = ", ".join("'" + key.replace("'", "''") + "'" for key in odd)
    assert await ask.keys(f"SELECT unnest([{listed}])") == odd


async def test_ten_times_more_keys_than_a_batch_are_all_there(ask: Asker) -> None:
    found = await ask.keys("SELECT 'k' || range FROM range(250000) ORDER BY hash(range)")
    assert len(found) == 250_000
    assert sorted(found) == sorted(f"k{number}" for number in range(250_000))


async def test_the_answer_does_not_depend_on_where_it_is_asked(ask: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    sql = (
        "SELECT timezone('UTC', current_date::TIMESTAMP)::VARCHAR || strftime(TIMESTAMPTZ '2026-01-01 00:00+00', '%H')"
    )
    assert (await ask.keys(sql))[0].endswith("00")


async def test_five_thousand_columns_are_no_burden(ask: Asker, tmp_path: Path) -> None:
    names = [f"column {place}" for place in range(5_000)]
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        listed = ", ".join(f"{place} AS f{place}" for place in range(len(names)))
        connection.execute(
            f"COPY (SELECT 'a' AS key, '' AS \"group\", {listed}) TO '{tmp_path / 'wide'}' (FORMAT parquet)"
        )
    schema = Schema(tuple(Column(name, ColumnKind.WHOLE) for name in names), key=(), group="", sort=())
    ask.tables = {"items": Table.of(tmp_path / "wide", schema)}
    assert await ask.keys('SELECT key FROM items WHERE "column 4999" = 4999') == ["a"]


# -- names


def test_names_that_sql_takes_for_one_are_told_apart() -> None:
    names = ["a", "A", "a_1", "", "column4", "x\0y", "KEY"]
    schema = Schema(tuple(Column(name, ColumnKind.TEXT) for name in names), key=("a",), group="", sort=())
    shown = dict(Table.of(Path("x"), schema).shown())
    assert list(shown) == ["a", "A_2", "a_1", "column4_1", "column4", "x y", "KEY", "group"]
    assert shown["A_2"] == "f1"
    assert key_columns(schema) == ("a",)


def test_key_is_the_key_unless_a_column_has_that_name() -> None:
    one, other = Column("id", ColumnKind.WHOLE), Column("x", ColumnKind.TEXT)
    assert key_columns(Schema((one, other), key=("id",), group="", sort=())) == ("key", "id")
    assert key_columns(Schema((one, other), key=("id", "x"), group="", sort=())) == ("key",)
    assert key_columns(Schema((one, other), key=(), group="", sort=())) == ("key",)
    assert key_columns(Schema((one, Column("key", ColumnKind.TEXT)), key=("id",), group="", sort=())) == ("id",)


# -- how they fail


@pytest.mark.parametrize(
    ("sql", "code", "place"),
    [
        ("SELEC key FROM items", "bad_sql", (1, 1)),
        ("SELECT key\nFROM items\nWHERE prize > 3", "bad_sql", (3, 7)),
        ("SELECT 'ünïcödé', kee FROM items", "bad_sql", (1, 19)),
        ("SELECT key FROM items WHERE lower(key, 3) = ''", "bad_sql", (1, 29)),
        ("SELECT key FROM items WHERE key::INTEGER > 3", "bad_sql", None),
        ("SELECT key FROM itmes", "sql_refused", (1, 17)),
        ("SELECT key FROM items WHERE getenv('HOME') = ''", "sql_refused", (1, 29)),
        ("SELECT key FROM items WHERE key = $1", "sql_refused", (1, 35)),
        ("SELECT Brand, price FROM items", "sql_no_key", None),
        ("SELECT NULL AS key FROM items", "sql_null_key", None),
        ("SELECT repeat(key, 2500) AS key FROM items LIMIT 3", "sql_no_key", None),
        ("SELECT key FROM items; SELECT 1", "sql_refused", None),
        ("DELETE FROM items", "sql_refused", None),
        ("   ", "bad_sql", None),
        ("x" * (MAX_CHARACTERS + 1), "sql_too_long", None),
    ],
)
async def test_a_mistake_is_told_with_its_place(ask: Asker, sql: str, code: str, place: tuple[int, int] | None) -> None:
    found, message = await ask.refused(sql)
    assert found == code, message
    assert "Traceback" not in message
    assert "snapshot://" not in message
    if place is None:
        assert "^" not in message
    else:
        assert f"line {place[0]}, column {place[1]}: " in message
        *_, line, caret = message.split("\n")
        assert line == sql.split("\n")[place[0] - 1]
        assert caret == " " * (place[1] - 1) + "^"


async def test_a_column_that_is_not_there_is_told_with_those_that_are_near(ask: Asker) -> None:
    assert '"price"' in (await ask.refused("SELECT key FROM items WHERE prize > 3"))[1]
    assert "items, my catalog, results" in (await ask.refused("SELECT key FROM itmes"))[1]


async def test_more_keys_than_may_be_are_refused_and_nothing_stays(ask: Asker) -> None:
    ask.sandbox = Sandbox(keys=100)
    code, message = await ask.refused("SELECT key FROM items")
    assert (code, "100 keys" in message) == ("sql_rows", True)
    assert len(await ask.keys("SELECT key FROM items LIMIT 100")) == 100


async def test_a_query_ends_at_its_deadline(ask: Asker) -> None:
    ask.sandbox = Sandbox(seconds=0.6)
    took = list[float]()
    while not took or (took[-1] > 1.1 and len(took) < 8):  # the machine may stand still under one of them
        begun = time.monotonic()
        code, message = await ask.refused(ENDLESS)
        took.append(time.monotonic() - begun)
        assert (code, "0.6 s" in message) == ("sql_timeout", True)
    assert took[-1] <= 1.1, took


async def test_memory_is_bounded_by_what_is_set(ask: Asker) -> None:
    ask.sandbox = Sandbox(memory_bytes=768 << 20)
    code, message = await ask.refused("SELECT repeat('x', 1000000000) AS key")
    assert (code, "768 MiB" in message) == ("sql_memory", True)
    selected = await ask.select("SELECT key FROM items")
    # Before it is another program, a child is counted with what its parent had.
    own_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    assert 10 << 20 < selected.peak_bytes <= max(768 << 20, own_bytes)


async def test_a_snapshot_that_is_damaged_or_gone_is_not_the_askers_fault(ask: Asker, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"PAR1" + bytes(1000))
    for file in (broken, tmp_path / "absent"):
        ask.tables = {"items": Table(file, [("key", "key")])}
        with pytest.raises(Unavailable) as caught:
            await ask.select("SELECT key FROM items")
        assert caught.value.code == "blob_store_unavailable"
        assert not ask.into.exists()


async def test_no_process_is_no_fault_of_the_asker(ask: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(Unavailable) as caught:
        await ask.select("SELECT key FROM items")
    assert caught.value.code == "sandbox_unavailable"


@pytest.mark.parametrize(
    "said",
    [
        "os.write(1, b'nonsense, and much of it')",
        "os.write(1, b'k\\xff\\xff\\xff\\xff')",
        "os.write(1, b'k\\0\\0\\0\\5{}{}\\n')",
        "os.write(1, b'r\\0\\0\\0\\2[]')",
        'os.write(1, b\'k\\0\\0\\0\\x10{"key":"m1"}\\n   \')',
        'os.write(1, b\'k\\0\\0\\0\\x0c{"key":"m1"}d\\0\\0\\0\\0\')',
        "pass",
        "os.abort()",
        "os.kill(os.getpid(), 11)",
    ],
)
async def test_what_a_child_says_is_not_believed(ask: Asker, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr("planner.sandbox.process._BOOT", f"import os; os.close(0); {said}")
    assert (await ask.refused("SELECT key FROM items"))[0] in ("sql_broken", "sql_memory")


# -- who waits for whom


async def test_one_runs_four_wait_and_the_next_is_told_so(given: Mapping[str, Table], tmp_path: Path) -> None:
    sandbox = Sandbox(seconds=20.0)
    running, most = 0, 0
    run = Child.run

    def counted(child: Child, *arguments: Any, **named: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return run(child, *arguments, **named)
        finally:
            running -= 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Child, "run", counted)
        asked = [
            asyncio.create_task(
                sandbox.select(f"SELECT 'm{number}'", given, keys_of=("key",), into=tmp_path / str(number))
            )
            for number in range(6)
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Selected] * 5 + [Overloaded]
    assert most == 1
    assert [next(read_keys(tmp_path / str(number))) for number in range(5)] == [[f"m{number}"] for number in range(5)]


async def test_whoever_gives_up_frees_the_place_and_leaves_nothing(ask: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    ask.sandbox = Sandbox(seconds=60.0)
    born = asyncio.Event()
    loop, listen = asyncio.get_running_loop(), Child._listen

    def listened(child: Child, *arguments: Any, **named: Any) -> Any:
        loop.call_soon_threadsafe(born.set)
        return listen(child, *arguments, **named)

    monkeypatch.setattr(Child, "_listen", listened)
    asked = asyncio.create_task(ask.select(ENDLESS))
    waiting = asyncio.create_task(ask.select(ENDLESS))
    await born.wait()
    for task in (waiting, asked):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert not ask.into.exists()
    assert _children(os.getpid()) == []
    assert await ask.keys("SELECT key FROM items WHERE stock = 1") == ["m1"]


def _children(pid: int) -> list[int]:
    return [
        int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if _is_ours(int(child))
    ]


def _is_ours(pid: int) -> bool:
    with suppress(OSError):
        return b"planner.sandbox.child" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


_PARENT = """
import asyncio, sys
from pathlib import Path
from planner.sandbox.sandbox import Sandbox
from tests.integration.planner.sandbox_tables import tables
given = tables(Path(sys.argv[1]))
asyncio.run(Sandbox(seconds=60.0).select(sys.argv[2], given, keys_of=("key",), into=Path(sys.argv[1]) / "keys"))
"""


def test_a_query_dies_with_the_planner(tmp_path: Path) -> None:
    planner = subprocess.Popen([sys.executable, "-c", _PARENT, str(tmp_path), ENDLESS], cwd=Path.cwd())
    try:
        found = list[int]()
        until = time.monotonic() + 30
        while not found and time.monotonic() < until:
            assert planner.poll() is None
            found = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _descends(pid, planner.pid)]
        (child,) = found
        file = os.pidfd_open(child)
    finally:
        planner.send_signal(signal.SIGKILL)
        planner.wait()
    try:
        assert _ended(file, 5.0), "it outlives the planner"
    finally:
        os.close(file)


def _descends(pid: int, parent: int) -> bool:
    with suppress(OSError, IndexError):
        return _is_ours(pid) and int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == parent
    return False


def _ended(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


async def test_nothing_is_left_in_the_temporary_folder(
    ask: Asker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    ask.sandbox = Sandbox(seconds=0.5)
    for sql in ("SELECT key FROM items", "SELECT kee FROM items", ENDLESS):
        with suppress(PenstockError):
            await ask.select(sql)
        ask.into.unlink(missing_ok=True)
    assert list(folder.iterdir()) == []
