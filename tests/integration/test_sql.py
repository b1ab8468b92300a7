"""A database that does not answer is told as such in bounded time: no call waits for ever."""

from __future__ import annotations

from contextlib import ExitStack

import psycopg
import pytest
import sqlalchemy as sa

from penstock.runtime import sql
from penstock.runtime.errors import InvalidInput, Unavailable
from penstock.runtime.sql import Database


def test_connections_that_are_all_in_use_are_not_waited_for_for_ever(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "POOL_SECONDS", 0.2)
    database = Database(empty_database_url, "planner")

    def take(held: ExitStack, number: int) -> None:
        for _ in range(number):
            held.enter_context(database.read())

    with ExitStack() as held:
        take(held, 8)
        with pytest.raises(Unavailable, match="no connection came free") as told:
            take(held, 8)
        assert told.value.code == "sql_unavailable"
    database.ping()
    database.close()


def test_a_lock_that_another_holds_is_not_waited_for_for_ever(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "BUSY_SECONDS", 0.2)
    database = Database(empty_database_url, "planner")
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(sa.text("CREATE SCHEMA planner"))
        connection.execute(sa.text("CREATE TABLE things (n INTEGER)"))
        connection.execute(sa.text("INSERT INTO things VALUES (1)"))
    with database.write() as first:
        first.execute(sa.text("UPDATE things SET n = 2"))
        with pytest.raises(Unavailable) as told, database.write() as second:
            second.execute(sa.text("UPDATE things SET n = 3"))
        assert told.value.code == "sql_unavailable"
    database.close()


def test_a_statement_of_postgresql_ends_in_time(empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "STATEMENT_SECONDS", 0.2)
    database = Database(empty_postgres_url, "planner")
    with pytest.raises(Unavailable, match="statement timeout"), database.read() as connection:
        connection.execute(sa.text("SELECT pg_sleep(30)"))
    database.close()


def test_a_silent_postgresql_is_given_up(empty_postgres_url: str) -> None:
    database = Database(empty_postgres_url, "planner")
    with database.read() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        told = driver.info.get_parameters()
    assert {name: told[name] for name in ("connect_timeout", "tcp_user_timeout", "keepalives_idle")} == {
        "connect_timeout": "5",
        "tcp_user_timeout": "15000",
        "keepalives_idle": "5",
    }
    database.close()


def test_a_nul_that_only_postgresql_refuses_is_bad_input(empty_postgres_url: str) -> None:
    database = Database(empty_postgres_url, "planner")
    with pytest.raises(InvalidInput) as told, database.read() as connection:
        connection.execute(sa.text("SELECT :text"), {"text": "a\0b"})
    assert told.value.code == "bad_text"
    database.close()


def test_a_connection_that_broke_while_it_rested_is_made_anew(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(empty_postgres_url, "planner")
    me = sa.text("SELECT pg_backend_pid()")

    def end(pid: int | None) -> None:
        with psycopg.connect(empty_postgres_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    with database.read() as connection:
        first = connection.execute(me).scalar()
    with database.read() as connection:
        assert connection.execute(me).scalar() == first, "the one that is warm is taken again"
    end(first)
    monkeypatch.setattr(sql, "RESTED_SECONDS", 0.0)
    with database.write() as connection:
        second = connection.execute(me).scalar()
        assert second != first
    end(second)
    monkeypatch.setattr(sql, "RESTED_SECONDS", 60.0)
    with pytest.raises(Unavailable, match="can't be used"), database.write() as connection:
        connection.execute(me)
    with database.write() as connection:
        assert connection.execute(me).scalar() not in (first, second)
    database.close()
