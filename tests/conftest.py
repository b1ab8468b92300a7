"""Fixtures for all tests: real servers, started once a session, a fresh database for each test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer
from tests.servers.stack import Stack

StackFactory = Callable[..., Stack]

# A machine that is busy with others makes no example wrong.
hypothesis.settings.register_profile("ours", deadline=None)
hypothesis.settings.load_profile("ours")
# What CI says of a commit it says again: the search for new examples is for those who work on it.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("PEN_CI"):
    hypothesis.settings.load_profile("ci")


LONG = (
    "scheduler/test_stateful.py",
    "chaos/test_kills.py",
    "planner/test_sandbox_hostile.py",
    "up/test_up.py",
    "chaos/test_rolling.py",
    "cli/test_declared.py",
    "tls/test_programs.py",
    "scheduler/test_closed_head.py",
    "simulator/test_simulator.py",
)
"""Files that take half a minute and more, the longest first: they begin first, so that no core has one left when the
others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get("/".join(item.path.parts[-2:]), len(places)))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis for the whole session. Tests that kill it make their own."""
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty Redis."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """A fresh PostgreSQL database; every service's schema is there, as its migrations made it."""
    url = postgres.create_prepared()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def empty_postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """A fresh PostgreSQL database in which nothing is."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database of each kind: the test runs twice."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """The same, without a schema: for what makes its tables itself."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "empty_postgres_url")
    return url


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """One `penstock up` for the whole session: .url, .data, .client. Tests must not kill its programs."""
    with tempfile.TemporaryDirectory(prefix="penstock-test-") as folder:
        one = Stack(Path(folder) / "data")
        try:
            one.start()
            yield one
        finally:
            one.stop()


@pytest.fixture
def fresh_stack(tmp_path: Path) -> Iterator[StackFactory]:
    """Makes stacks of the test's own, which it may kill: `fresh_stack(environment=…, arguments=…, own_group=…)`.

    Not started yet; all are stopped after the test, failed or not.
    """
    made: list[Stack] = []

    def make(name: str = "data", **options: object) -> Stack:
        one = Stack(tmp_path / name, **options)  # type: ignore[arg-type]
        made.append(one)
        return one

    yield make
    for one in made:
        one.stop()
