"""Hostile queries: nothing is made, changed, read or reached; they end in time and in their memory; the next one runs.

Each goes its whole way once. Then all are tried again with the parser's word left out, and with DuckDB's settings left
out besides: what is below must hold by itself. As root, that is tried as an ordinary user, too.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from penstock.runtime.errors import InvalidInput
from planner.sandbox import process
from planner.sandbox.process import Bounds, Child, Ended
from planner.sandbox.sandbox import NOBODY, Sandbox, Selected, read_keys
from planner.sandbox.tables import Table
from tests.integration.planner.hostile_queries import DEADLY, HOSTILE
from tests.integration.planner.sandbox_tables import tables

SECRET = "secret-5b1f0c"
DEADLINE = 1.0
MOST_BYTES = 2 << 30


@dataclass(frozen=True)
class Place:
    """A folder with the snapshots and with what must not be read, a listener, and the queries about them."""

    folder: Path
    tables: Mapping[str, Table]
    listener: socket.socket

    def sql(self, query: str) -> str:
        for name, value in {
            "canary": self.folder / "text" / "canary.csv",
            "text": self.folder / "text",
            "database": self.folder / "canary.db",
            "snapshot": self.tables["items"].file,
            "new": self.folder / "new",
            "port": self.listener.getsockname()[1],
        }.items():
            query = query.replace(f"{{{name}}}", str(value))
        return query

    def digest(self) -> dict[str, str]:
        """Of every file and folder: what it is, and what is in it."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            stat = path.lstat()
            text = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path)] = f"{stat.st_mode} {stat.st_uid} {stat.st_size} {stat.st_mtime_ns} {text}"
        return found

    def reached(self) -> bool:
        """Whether anybody connected."""
        with suppress(BlockingIOError):
            self.listener.accept()[0].close()
            return True
        return False


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    folder = tmp_path / "data"
    (folder / "text").mkdir(parents=True)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (folder / "text" / "canary.csv").write_text(f"key\n{SECRET}\n")
    with duckdb.connect(str(folder / "canary.db")) as connection:
        connection.execute(f"CREATE TABLE t AS SELECT '{SECRET}' AS key")
    given = tables(folder)
    (folder / "items.parquet").write_bytes((folder / "items").read_bytes())
    monkeypatch.setenv("CANARY", SECRET)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for path in (temporary, folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)  # whoever comes to it may do what he likes
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield Place(folder, given, listener)
    assert list(temporary.iterdir()) == []


# -- each its whole way


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_hostile_query_is_refused_and_does_nothing(place: Place, tmp_path: Path) -> None:
    before = place.digest()
    wrong = []
    left = iter(HOSTILE.items())

    async def some(into: Path) -> None:
        sandbox = Sandbox(seconds=10.0)
        for name, query in left:
            told = await _asked(sandbox, place, query, into)
            # What can't be parsed may be refused for that; what can, only for what it asks.
            if told is None or told.code not in ("sql_refused", "bad_sql", "sql_too_long"):
                wrong.append(f"{name}: {told.code if told else 'it ran'}")
            elif SECRET in told.message or place.digest() != before or place.reached():
                wrong.append(f"{name}: it read, changed or reached something: {told.message}")
        if not await _answers(sandbox, place, into):
            wrong.append("nothing runs after them")

    await asyncio.gather(*(some(tmp_path / name) for name in "ab"))  # two at once, to be done sooner
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_endless_query_ends_in_time_and_in_its_memory(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = place.digest()
    ended = _noted(monkeypatch)
    wrong = []
    left = iter(DEADLY.items())

    async def some(into: Path) -> None:
        sandbox, patient = Sandbox(seconds=DEADLINE), Sandbox()
        for name, query in left:
            told = await _asked(sandbox, place, query, into)
            if told is None or told.code not in ("sql_timeout", "sql_memory", "bad_sql"):
                wrong.append(f"{name}: {told.code if told else 'it ran'}")
            if not await _answers(patient, place, into):
                wrong.append(f"{name}: nothing runs after it")

    await asyncio.gather(*(some(tmp_path / name) for name in "ab"))
    assert not wrong, "\n".join(wrong)
    assert place.digest() == before
    assert max(each.peak_bytes for each in ended) <= MOST_BYTES
    late = list(DEADLY) if _slowest(ended) > DEADLINE + 0.5 else []
    for _ in range(3):  # the machine may have stood still under one of them, not each time under the same one
        for name in list(late):
            ended.clear()
            await _asked(Sandbox(seconds=DEADLINE), place, DEADLY[name], tmp_path / "a")
            if _slowest(ended) <= DEADLINE + 0.5:
                late.remove(name)
    assert not late


@pytest.mark.parametrize(
    "name", ["repeat", "a list of all", "lists of lists", "recursion that doubles", "recursion that spreads"]
)
async def test_memory_ends_before_more_is_taken(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    ended = _noted(monkeypatch)
    sandbox = Sandbox(seconds=60.0, memory_bytes=640 << 20)
    told = await _asked(sandbox, place, DEADLY[name], tmp_path / "keys")
    assert told is not None
    assert told.code == "sql_memory"
    # Before it is another program, a child is counted with what its parent had.
    own_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    assert ended[-1].peak_bytes <= max(640 << 20, own_bytes)


def _noted(monkeypatch: pytest.MonkeyPatch) -> list[Ended]:
    """How each child ends from now on."""
    ended = list[Ended]()
    run = Child.run

    def noted(child: Child, *arguments: Any, **named: Any) -> Ended:
        ended.append(run(child, *arguments, **named))
        return ended[-1]

    monkeypatch.setattr(Child, "run", noted)
    return ended


def _slowest(ended: list[Ended]) -> float:
    """Seconds of those that were ended."""
    return max((each.seconds for each in ended if each.refusal), default=0.0)


async def _asked(sandbox: Sandbox, place: Place, query: str, into: Path) -> InvalidInput | None:
    """How it was refused. None: it was answered."""
    try:
        await sandbox.select(place.sql(query), place.tables, keys_of=("key",), into=into)
    except InvalidInput as error:
        return error
    os.unlink(into)
    return None


async def _answers(sandbox: Sandbox, place: Place, into: Path) -> bool:
    """Whether the next ordinary query is answered."""
    selected = await sandbox.select(
        "SELECT key FROM items JOIN results USING (key) ORDER BY stock LIMIT 2",
        place.tables,
        keys_of=("key",),
        into=into,
    )
    found = list(read_keys(into))
    os.unlink(into)
    return isinstance(selected, Selected) and found == [["m0", "m2"]]


# -- the same with some of it left out

_UNGUARDED = """
import json, sys
sys.path[:0] = sys.argv[1:]
from planner.sandbox.child import engine, main
from planner.sandbox.frames import KEYS

given = []
view = engine.Engine.view

def answer(self, sql, keys_of, tables):
    for query in json.loads(sql):
        said = asked(self, query)
        self._files._output.send(KEYS, json.dumps({"key": "> " + said[:2000]}).encode() + b"\\n")

def asked(self, query):
    try:
        for name, fd, columns in given:  # as if none had been asked before
            self._connection.execute(f'DROP VIEW IF EXISTS memory.main."{name}"')
            view(self, name, fd, columns)
        return str(self._connection.cursor().execute(query).fetchall())
    except Exception as error:
        return f"{type(error).__name__}: {error}"

engine.Engine.view = lambda self, *table: given.append(table)
engine.Engine.check = lambda self, sql, tables: None
engine.Engine.answer = answer
"""
_UNLOCKED = "engine.Engine.lock = lambda self: None"
LEFT_OUT = {"parser": _UNGUARDED, "parser and settings": _UNGUARDED + _UNLOCKED}
_EVERYTHING = _UNGUARDED + _UNLOCKED + "\nmain.confine = lambda bounds, parent: None"
_ELSEWHERE = ("deep", "a long sum", "only brackets", "too long", "half a character", "sleep_ms", "pg_sleep")
"""Of the hostile queries, those that are about the parser or about time."""

_LASTING = ("SET a log", "a profile in a file", "PRAGMA", "logs to a file")
"""Nothing runs after these where they are allowed, so they are asked last."""


def unguarded(place: Place, left_out: str, into: Path) -> dict[str, str]:
    """What DuckDB said to the hostile queries when it was asked without the parser's word."""
    names = [name for name in HOSTILE if not name.startswith(_ELSEWHERE) and name not in _LASTING]
    return asked(place, [*names, *_LASTING], LEFT_OUT[left_out], into)


def asked(place: Place, names: Sequence[str], boot: str, into: Path) -> dict[str, str]:
    queries = {name: place.sql(HOSTILE[name]) for name in names}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_BOOT", f"{boot}\nmain.main()")
        child = Child(Bounds(seconds=30.0, memory_bytes=MOST_BYTES, keys=1_000, user=NOBODY))
        ended = child.run(json.dumps(list(queries.values())), place.tables, keys_of=("key",), into=into)
    assert ended.refusal is None, ended
    said = [key for batch in read_keys(into) for key in batch]
    into.unlink()
    return dict(zip(queries, said, strict=True))


def check(said: Mapping[str, str], left_out: str) -> None:
    """That the queries came through to what should stop them, and were stopped."""
    assert not [f"{name}: {text}" for name, text in said.items() if SECRET in text]
    by = {"parser": "disabled by configuration", "parser and settings": "Too many open files"}[left_out]
    for name in ("COPY a table", "COPY over a snapshot", "COPY to its temporary folder", "EXPLAIN ANALYZE"):
        assert by in said[name], said[name]
    assert "('memory'" in said["PRAGMA as a table"], "what reaches nothing is answered"


def test_without_any_defence_the_same_queries_do_what_they_say(place: Place, tmp_path: Path) -> None:
    before = place.digest()
    names = ("read_text", "a file as a table", "COPY over a snapshot", "COPY a table")
    said = asked(place, names, _EVERYTHING, tmp_path / "keys")
    changed = {path for path, digest in place.digest().items() if before.get(path) != digest}
    assert {str(place.tables["items"].file), f"{place.folder}/new.csv"} <= changed
    assert all(SECRET in said[name] for name in ("read_text", "a file as a table"))


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_what_stands_below_holds_by_itself(place: Place, tmp_path: Path, left_out: str) -> None:
    before = place.digest()
    said = unguarded(place, left_out, tmp_path / "keys")
    assert place.digest() == before
    assert not place.reached()
    check(said, left_out)


@pytest.mark.skipif(os.geteuid() != 0, reason="it is tried as an ordinary user already")
@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_it_holds_for_an_ordinary_user_too(place: Place, tmp_path: Path, left_out: str) -> None:
    into = tmp_path / "of nobody"
    into.mkdir()
    os.chown(into, NOBODY, NOBODY)
    for path in (place.folder, *place.folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    before = place.digest()
    # It may read what root may, so that it comes to the interpreter and to the tests wherever they are.
    rights = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
    told = subprocess.run(
        [
            *("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", *rights),
            *(sys.executable, "-P", "-m", __name__, str(place.folder), str(into / "keys"), left_out),
            str(place.listener.getsockname()[1]),
        ],
        env={"PYTHONPATH": str(Path.cwd()), "CANARY": SECRET, "TMPDIR": tempfile.gettempdir()},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    said = json.loads(told.stdout)
    assert said["user"] == NOBODY
    assert said["ordinary"]
    assert place.digest() == before
    assert not place.reached()
    check(said["said"], left_out)


def _as_nobody(folder: Path, into: Path, left_out: str, port: int) -> None:
    class Listener:
        def getsockname(self) -> tuple[str, int]:
            return "127.0.0.1", port

    given = {name: Table(folder / name, [("key", "key"), *extra]) for name, extra in _COLUMNS.items()}
    place = Place(folder, given, Listener())  # type: ignore[arg-type]
    said = unguarded(place, left_out, into)
    ordinary = asyncio.run(_answers(Sandbox(), place, into))
    print(json.dumps({"said": said, "user": os.geteuid(), "ordinary": ordinary}))


_COLUMNS = {"items": [("stock", "f3")], "results": [("state", "state")]}

if __name__ == "__main__":
    _as_nobody(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
