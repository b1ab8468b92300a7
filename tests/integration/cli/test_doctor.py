"""`penstock cluster doctor` over real programs: what is wrong with them is found, by name, with what mends it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

import analyzer.__main__
import planner.__main__
from gateway.app import create_app
from penstock import __version__
from penstock.client import AsyncClient, Endpoints
from penstock.client.diagnosis_views import DiagnosisView
from penstock.doctor.connections import judge_connections
from penstock.doctor.findings import Finding, Level
from penstock.doctor.place import Place
from penstock.doctor.programs import judge_programs
from penstock.runtime.blobs import BlobStore
from penstock.runtime.diagnosing import Diagnosing, blobs_probe
from penstock.runtime.settings import Settings
from penstock.runtime.tls import Identity
from penstock.v1 import diagnosis_pb2
from tests.integration.scheduler.world import World
from tests.servers.certificates import Authority, mount
from tests.servers.inprocess import serve
from tests.servers.redis import RedisServer
from tests.servers.stack import PENSTOCK, Stack

NOWHERE = "127.0.0.1:9"


@dataclass
class Ward:
    """Planner, scheduler and analyzer, and a gateway that asks them."""

    world: World
    http: httpx.AsyncClient

    async def told(self) -> DiagnosisView:
        answer = await self.http.get("/api/v1/diagnosis", timeout=60)
        assert answer.status_code == 200, answer.text
        view: DiagnosisView = answer.json()
        return view

    async def wrongs(self) -> list[Finding]:
        told = await self.told()
        found = judge_programs(told, Place(), own_version=__version__, now_ms=time.time_ns() // 1_000_000)
        return [one for one in found if one.level is not Level.OK]


@asynccontextmanager
async def ward(folder: Path, redis_url: str, database_url: str) -> AsyncIterator[Ward]:
    world = await World.start(folder, redis_url, database_url, planner_database_url=_planners(database_url))
    settings = world.settings.model_copy(
        update={"analyzer": world.settings.analyzer.model_copy(update={"database_url": f"sqlite:///{folder}/a.db"})}
    )
    analyzed = await serve(analyzer.__main__.build, settings)
    where = Endpoints(
        world.planner.address, world.scheduler.address, analyzed.address, blobs=world.settings.blob_folder()
    )
    try:
        async with AsyncClient(endpoints=where, retry_seconds=0.2) as client:
            transport = httpx.ASGITransport(create_app(Settings(), client, asyncio.Event()))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8420") as http:
                yield Ward(world, http)
    finally:
        await analyzed.stop()
        await world.stop()


def _planners(database_url: str) -> str:
    """On PostgreSQL the same database, where the planner has a schema of its own."""
    return database_url if database_url.startswith("postgresql") else ""


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


async def test_what_is_well_is_told_whole(tmp_path: Path, redis_url: str, database_url: str) -> None:
    async with ward(tmp_path, redis_url, database_url) as one:
        assert await one.wrongs() == []
        told = await one.told()
        assert {program["program"] for program in told["programs"]} == {"gateway", "planner", "scheduler", "analyzer"}
        by_name = {program["program"]: program for program in told["programs"]}
        names = {dependency["name"]: dependency for dependency in by_name["scheduler"]["dependencies"]}
        assert names.keys() == {"sql", "redis", "blobs"}
        assert names["redis"]["ahead_ms"] is not None
        # SQLite has no clock of its own; PostgreSQL has.
        assert (names["sql"]["ahead_ms"] is None) == database_url.startswith("sqlite")
        assert by_name["planner"]["schema_state"] is not None
        pools = [by_name[name]["pool"] for name in ("planner", "scheduler", "analyzer", "gateway")]
        if database_url.startswith("sqlite"):
            assert pools == [None] * 4
        else:
            # The analyzer has a file here, the gateway nothing.
            assert pools[2:] == [None, None]
            (told_of,) = judge_connections(told["programs"], {}, Place())
            assert told_of.level is Level.OK
            assert "planner 1 × 8, scheduler 1 × 8: 16 at most" in told_of.text
            assert pools[0] == pools[1], "they are on one server"
        # Nothing of the probes is left.
        left = [file for file in (tmp_path / "blobs").rglob("??/*") if file.is_file()]
        assert not [file for file in left if file.read_bytes().startswith(b"penstock doctor")]


async def test_a_redis_that_is_away_is_found(tmp_path: Path, own_redis: RedisServer, sqlite_url: str) -> None:
    async with ward(tmp_path, own_redis.url, sqlite_url) as one:
        own_redis.kill()
        found = [finding for finding in await one.wrongs() if finding.what == "scheduler Redis"]
        assert [finding.level for finding in found] == [Level.FAIL]
        assert "PENSTOCK_REDIS_URL" in found[0].mend


@pytest.mark.parametrize(
    ("revision", "text", "mend"),
    [
        ("0001", "the database has 0001, and this version needs", "penstock migrate"),
        ("9999", "the database has 9999, which this version does not know", "pip install --upgrade penstock"),
    ],
)
async def test_a_schema_that_is_another_is_found(
    tmp_path: Path, redis_url: str, database_url: str, revision: str, text: str, mend: str
) -> None:
    async with ward(tmp_path, redis_url, database_url) as one:
        url = one.world.settings.planner.database_url.replace("postgresql://", "postgresql+psycopg://")
        engine = sa.create_engine(url)
        schema = "planner." if database_url.startswith("postgresql") else ""
        with engine.begin() as connection:
            connection.execute(sa.text(f"UPDATE {schema}alembic_version SET version_num = '{revision}'"))
        engine.dispose()
        (found,) = await one.wrongs()
        assert (found.level, found.what, found.mend) == (Level.FAIL, "planner schema", mend)
        assert text in found.text


async def test_clocks_that_are_apart_are_found(
    tmp_path: Path, redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planner's machine is 20 s before all others."""
    ahead = partial(Diagnosing, now=lambda: time.time() + 20)
    monkeypatch.setattr(planner.__main__, "Diagnosing", ahead)
    async with ward(tmp_path, redis_url, postgres_url) as one:
        found = {finding.what: finding for finding in await one.wrongs()}
        assert found.keys() == {"planner clock", "planner database clock"}
        assert {finding.level for finding in found.values()} == {Level.FAIL}
        assert "before the gateway's" in found["planner clock"].text
        assert "behind the planner's" in found["planner database clock"].text
        assert "chronyc makestep" in found["planner clock"].mend


async def test_a_blob_store_that_is_gone_is_found(tmp_path: Path, redis_url: str, sqlite_url: str) -> None:
    async with ward(tmp_path, redis_url, sqlite_url) as one:
        shutil.rmtree(tmp_path / "blobs")
        (tmp_path / "blobs").write_text("no folder any more")
        found = {finding.what for finding in await one.wrongs() if finding.level is Level.FAIL}
        assert found >= {"planner blobs", "scheduler blobs", "analyzer blobs", "gateway blobs"}
        await asyncio.sleep(planner.__main__.WARM_SECONDS)  # what the planner warms then finds no folder either


async def test_a_program_that_is_away_is_found_and_the_others_answer(
    tmp_path: Path, redis_url: str, sqlite_url: str
) -> None:
    async with ward(tmp_path, redis_url, sqlite_url) as one:
        await one.world.scheduler.server.stop(None)
        found = {finding.what: finding for finding in await one.wrongs()}
        assert found.keys() == {"scheduler", "worker classes"}
        assert found["scheduler"].text.startswith("it does not answer")
        assert found["worker classes"].level is Level.SKIP


async def test_a_certificate_that_ends_in_five_days_is_found(tmp_path: Path) -> None:
    authority = Authority("short")
    folder = mount(tmp_path / "tls", authority.leaf("penstock-planner", days=5.2), authority)
    told = await Diagnosing("planner", proof=Identity(folder)).diagnose()
    from penstock.client.diagnosis_views import program_view

    view: DiagnosisView = {
        "version": __version__,
        "now_ms": 0,
        "programs": [program_view(told, answer_ms=1, ahead_ms=0)],
        "classes": [],
    }
    found = judge_programs(view, Place(), own_version=__version__, now_ms=time.time_ns() // 1_000_000)
    (ending,) = (one for one in found if one.level is not Level.OK)
    assert (ending.level, ending.what) == (Level.FAIL, "planner certificate")
    assert ending.text.startswith("5 days left")
    assert "PENSTOCK_TLS__FOLDER" in ending.mend


async def test_a_probe_that_never_ends_is_one_sentence_of_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.runtime.diagnosing.PROBE_SECONDS", 3.0)

    async def hangs() -> None:
        await asyncio.Event().wait()

    async def breaks() -> None:
        raise OSError("the wire is cut")

    async def hangs_too() -> list[diagnosis_pb2.Right]:
        await asyncio.Event().wait()
        return []

    well = blobs_probe(lambda: BlobStore(tmp_path / "blobs"))
    probes = {"redis": hangs, "kubernetes": breaks, "blobs": well}
    told = await Diagnosing("scheduler", probes=probes, rights=hangs_too).diagnose()
    assert {one.name: one.problem for one in told.dependencies} == {
        "redis": "no answer in 3 s",
        "kubernetes": "OSError: the wire is cut",
        "blobs": "",
        "rights": "no answer in 3 s",
    }


def doctor(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "KUBE"))}
    command = [*PENSTOCK, "cluster", "doctor", *words]
    return subprocess.run(
        command,
        env={**bare, "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_looks_at_a_penstock_of_this_machine(stack: Stack) -> None:
    done = doctor("--data", str(stack.data))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("ok ") and "scheduler Redis" in line for line in lines)
    (cluster,) = (line for line in lines if line.startswith("—"))
    assert "not looked at: no kubeconfig leads to a cluster" in cluster
    assert lines[-1].endswith(" ok, 1 not looked at")
    # Every check stands in the same column.
    starts = {line.index(line.split("  ", 1)[1].strip().split("  ")[0]) for line in lines[:-1]}
    assert starts == {6}


def test_the_command_tells_the_same_as_objects(stack: Stack) -> None:
    done = doctor("--json", PENSTOCK_URL=stack.url)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert {one["level"] for one in told} == {"ok", "skipped"}
    assert {tuple(one) for one in told} == {("level", "check", "text", "mend")}


def test_a_gateway_that_asks_who_calls_wants_an_operator_and_tells_of_its_own_database(
    fresh_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    one = fresh_stack(environment={"PENSTOCK_GATEWAY__AUTH": "tokens"})
    one.start()
    done = doctor("--data", str(one.data))
    assert done.returncode == 0, done.stdout + done.stderr
    checks = {line[6:].split("  ")[0] for line in done.stdout.splitlines()}
    assert {"gateway database", "gateway schema"} <= checks
    token = tmp_path / "token"
    environment = {"PENSTOCK_URL": one.url, "PENSTOCK_TOKEN": (one.data / "token").read_text().strip()}
    made = subprocess.run(
        [*PENSTOCK, "tokens", "create", "looker", "--role", "viewer"],
        env={"HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    token.write_text(made.stdout)
    for more in ({}, {"PENSTOCK_TOKEN": token.read_text().strip()}):
        done = doctor(PENSTOCK_URL=one.url, **more)
        assert done.returncode == 1
        assert done.stdout.startswith("fail  gateway")
        assert "mend: export PENSTOCK_TOKEN=" in done.stdout


def test_where_nothing_runs_the_command_fails_and_says_what_starts_it() -> None:
    done = doctor(PENSTOCK_URL=f"http://{NOWHERE}")
    assert done.returncode == 1, done.stderr
    fail = done.stdout.splitlines()[0]
    assert fail.startswith("fail  gateway")
    assert "no Penstock answers at" in fail
    assert "mend: export PENSTOCK_URL=" in done.stdout


def test_usage_that_is_wrong_ends_with_2() -> None:
    assert doctor("--release").returncode == 2
