"""A database that does not answer is told as such in bounded time: no call waits for ever."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import sqlalchemy as sa

from penstock.runtime import sql
from penstock.runtime.errors import InvalidInput, Unavailable
from penstock.runtime.sql import Database


def test_connections_that_are_all_in_use_are_not_waited_for_for_ever(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "POOL_SECONDS", 0.2)
    database = Database(database_url, "planner")

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
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "BUSY_SECONDS", 0.2)
    database = Database(database_url, "planner")
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


def test_a_statement_of_postgresql_ends_in_time(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "STATEMENT_SECONDS", 0.2)
    database = Database(postgres_url, "planner")
    with pytest.raises(Unavailable, match="statement timeout"), database.read() as connection:
        connection.execute(sa.text("SELECT pg_sleep(30)"))
    database.close()


def test_a_silent_postgresql_is_given_up(postgres_url: str) -> None:
    database = Database(postgres_url, "planner")
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


def test_a_nul_that_only_postgresql_refuses_is_bad_input(postgres_url: str) -> None:
    database = Database(postgres_url, "planner")
    with pytest.raises(InvalidInput) as told, database.read() as connection:
        connection.execute(sa.text("SELECT :text"), {"text": "a\0b"})
    assert told.value.code == "bad_text"
    database.close()
