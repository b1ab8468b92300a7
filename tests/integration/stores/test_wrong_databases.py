"""A database that is set wrongly: one sentence where one looks, no stack trace, no password; and a program that waits
serves as soon as it is mended."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
import sqlalchemy as sa
from grpc_health.v1 import health_pb2, health_pb2_grpc

from penstock.runtime.schema import migrate
from penstock.runtime.sql import Database
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer
from tests.servers.stack import until

SECRET = "s3cret-of-the-role"


@contextlib.contextmanager
def analyzer(folder: Path, url: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """The smallest program that has a database: process, address, log."""
    address = f"127.0.0.1:{free_port()}"
    ours = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")},
        "PENSTOCK_BLOBS": str(folder / "blobs"),
        "PENSTOCK_ANALYZER__DATABASE_URL": url,
        "PENSTOCK_ANALYZER__LISTEN": address,
        **environment,
    }
    log = folder / "log"
    with (
        log.open("wb") as file,
        subprocess.Popen([sys.executable, "-P", "-m", "analyzer"], env=ours, stdout=file, stderr=file) as process,
    ):
        try:
            yield process, address, log
        finally:
            process.terminate()
            process.wait(20)


def serves(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def plain(log: Path) -> str:
    said = log.read_text()
    assert "Traceback" not in said
    assert SECRET not in said
    return said


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://u:{secret}@h/db", "analyzer.database_url: Value error, begins with sqlite:/// or postgresql://"),
        ("postgresql://u:{secret}@h:port/db", "analyzer.database_url is no URL"),
        (
            "postgresql://u:{secret}@127.0.0.1:1/db?sslmod=require",
            'database_url has an invalid connection option "sslmod"',
        ),
    ],
)
def test_a_url_that_can_never_work_ends_the_program(tmp_path: Path, url: str, says: str) -> None:
    with analyzer(tmp_path, url.replace("{secret}", SECRET)) as (process, _, log):
        assert process.wait(60) == 2
        assert says in plain(log)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One of its own, which asks one role for a password."""
    one = PostgresServer()
    rules = one.log.parent / "pg_hba.conf"
    rules.write_text("local all penstock_locked scram-sha-256\n" + rules.read_text())
    url = one.create_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE penstock_locked LOGIN PASSWORD '{SECRET}'".encode())
        connection.execute("SELECT pg_reload_conf()")
    yield one
    one.stop()


def locked(server: PostgresServer, password: str) -> str:
    url = sa.make_url(server.create_database()).set(username="penstock_locked", password=password)
    return url.render_as_string(hide_password=False)


def test_a_wrong_password_is_said_and_waited_for(server: PostgresServer, tmp_path: Path) -> None:
    wrong = SECRET[::-1]
    with analyzer(tmp_path, locked(server, wrong)) as (process, address, log):
        until("it is said", lambda: "password authentication failed" in log.read_text(), seconds=60)
        assert process.poll() is None
        assert not serves(address)
        assert wrong not in plain(log)


def test_a_server_that_is_away_is_said_and_waited_for(tmp_path: Path) -> None:
    with analyzer(tmp_path, f"postgresql://u:{SECRET}@127.0.0.1:1/db") as (process, address, log):
        until("it is said", lambda: "the analyzer's database can't be used" in log.read_text(), seconds=60)
        assert process.poll() is None
        assert not serves(address)
        plain(log)


def test_an_older_schema_is_waited_for_and_served_once_it_is_there(empty_postgres_url: str, tmp_path: Path) -> None:
    with analyzer(tmp_path, empty_postgres_url, PENSTOCK_DATABASE__AUTO_MIGRATE="false") as (process, address, log):
        words = re.compile(
            r"the analyzer's database has no schema yet, and this version needs \d+: run `penstock migrate`"
        )
        until("it is said", lambda: words.search(log.read_text()), seconds=60)
        assert process.poll() is None
        assert not serves(address)
        database = Database(empty_postgres_url, "analyzer")
        migrate(database)
        database.close()
        until("it serves", lambda: serves(address), seconds=60)
        plain(log)


def test_a_schema_that_is_too_new_ends_the_program(empty_postgres_url: str, tmp_path: Path) -> None:
    database = Database(empty_postgres_url, "analyzer")
    migrate(database)
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9000'"))
        connection.execute(sa.text("UPDATE schema_range SET revision = '9000', oldest_program = '8999'"))
    database.close()
    with analyzer(tmp_path, empty_postgres_url) as (process, _, log):
        assert process.wait(60) == 2
        assert "needs programs of 8999 or newer" in plain(log)


def test_pools_keep_to_their_settings(empty_postgres_url: str) -> None:
    database = Database(empty_postgres_url, "planner", pool_size=1, pool_overflow=2)
    held = [database.engine.connect() for _ in range(3)]
    database.engine.pool._timeout = 0.01  # type: ignore[attr-defined]
    with pytest.raises(sa.exc.TimeoutError):
        database.engine.connect()
    for one in held:
        one.close()
    assert database.engine.pool.checkedin() == 1  # type: ignore[attr-defined]
    database.close()
