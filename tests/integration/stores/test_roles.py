"""Roles with the least rights: each service works with its own, and with no other's rows; none makes tables."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

import psycopg
import pytest
import sqlalchemy as sa

from penstock.runtime.errors import Unavailable
from penstock.runtime.schema import migrate, migrate_all, prepare
from penstock.runtime.settings import DatabaseSection, Settings
from penstock.runtime.sql import Database
from planner.removals.dropped_files import dropped_files
from tests.servers.postgres import PostgresServer

SERVICES = ("planner", "scheduler", "analyzer")
BY_OTHERS = DatabaseSection(auto_migrate=False)
ROLES = resources.files("penstock.runtime").joinpath("roles.sql").read_text()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One of its own: roles are all databases'."""
    one = PostgresServer()
    yield one
    one.stop()


@pytest.fixture
def owner_url(server: PostgresServer) -> Iterator[str]:
    url = server.create_database()
    yield url
    server.drop_database(url)


def as_role(url: str, service: str) -> str:
    made = sa.make_url(url).set(username=f"penstock_{service}", password=None)
    return made.render_as_string(hide_password=False)


def make_roles(owner_url: str) -> None:
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute(ROLES.encode())


def migrated(owner_url: str) -> None:
    list(migrate_all(Settings.model_validate({"migrations": {"database_url": as_role(owner_url, "migrations")}})))


def refused(url: str, statement: str) -> str:
    """What PostgreSQL says; "" where it is done."""
    with psycopg.connect(url) as connection:
        try:
            connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege as error:
            return str(error)
    return ""


def test_each_role_does_its_own_service_and_nothing_else(owner_url: str) -> None:
    make_roles(owner_url)
    migrated(owner_url)
    make_roles(owner_url)  # again, and nothing changes
    for service in SERVICES:
        url = as_role(owner_url, service)
        database = Database(url, service)
        try:
            prepare(database, BY_OTHERS)
            with database.write() as connection:
                for table in sa.inspect(connection).get_table_names():
                    connection.execute(sa.text(f'SELECT * FROM "{table}" LIMIT 1'))
        finally:
            database.close()
        for statement in (
            "CREATE TABLE t (a int)",
            f"CREATE TABLE {service}.t (a int)",
            "CREATE TABLE public.t (a int)",
        ):
            with psycopg.connect(url) as connection, pytest.raises(psycopg.Error):
                connection.execute(statement.encode())
        for other in {*SERVICES} - {service}:
            assert "permission denied for schema" in refused(url, f"SELECT * FROM {other}.alembic_version")
        for statement in (
            "CREATE SCHEMA mine",
            "CREATE ROLE mine",
            f"ALTER TABLE {service}.alembic_version ADD COLUMN more int",
            f"DROP TABLE {service}.alembic_version",
            f"TRUNCATE {service}.alembic_version",
            "CREATE TEMPORARY TABLE t (a int)",
        ):
            assert refused(url, statement), statement


def test_a_role_writes_the_rows_of_its_service(owner_url: str) -> None:
    make_roles(owner_url)
    migrated(owner_url)
    database = Database(as_role(owner_url, "planner"), "planner")
    try:
        with database.write() as connection:
            connection.execute(sa.insert(dropped_files), {"sha256": "a", "drop_ms": 1, "written_ns": 0})
            connection.execute(sa.update(dropped_files).values(drop_ms=2))
            assert connection.execute(sa.select(dropped_files.c.drop_ms)).scalar_one() == 2
            connection.execute(sa.delete(dropped_files))
    finally:
        database.close()


def test_what_one_owner_made_before_there_were_roles_goes_over_to_them(owner_url: str) -> None:
    for service in SERVICES:
        database = Database(owner_url, service)
        migrate(database)
        database.close()
    make_roles(owner_url)
    for service in SERVICES:
        database = Database(as_role(owner_url, service), service)
        prepare(database, BY_OTHERS)
        database.close()
    migrated(owner_url)
    with psycopg.connect(owner_url) as connection:
        owners = connection.execute(
            "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = ANY(%s)", [list(SERVICES)]
        ).fetchall()
    assert owners == [("penstock_migrations",)]


def test_a_role_that_may_not_migrate_says_so_in_one_sentence(owner_url: str) -> None:
    make_roles(owner_url)
    database = Database(as_role(owner_url, "planner"), "planner")
    try:
        with pytest.raises(
            Unavailable, match="the planner's role in the database may not do that: permission denied"
        ) as no:
            prepare(database, DatabaseSection())
        assert "\n" not in no.value.message
    finally:
        database.close()
    # Another's schema, by mistake.
    migrated(owner_url)
    database = Database(as_role(owner_url, "scheduler"), "planner")
    try:
        with pytest.raises(Unavailable, match="permission denied for schema planner"):
            prepare(database, BY_OTHERS)
    finally:
        database.close()
