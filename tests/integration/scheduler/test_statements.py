"""Statements given to the driver as they are: the same rows, the same errors, and listeners see them all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.runtime.errors import Unavailable
from penstock.runtime.sql import Database, migrate
from scheduler.store.statements import Statement, array

PUT = Statement("INSERT INTO costs (processor, version, histogram) VALUES (:name, :version, :histogram)")
ALL = Statement("SELECT processor, version, histogram FROM costs WHERE version = :version ORDER BY processor")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    one = Database(database_url, "scheduler")
    migrate(one)
    yield one
    one.close()


@pytest.mark.parametrize("listened", [False, True])
def test_rows_and_counts_are_the_same_whether_somebody_listens_or_not(database: Database, listened: bool) -> None:
    seen: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        seen.append(statement)

    if listened:
        sa.event.listen(database.engine, "before_cursor_execute", note)
    with database.write() as connection:
        assert PUT.run(connection, {"name": "a", "version": "100%", "histogram": b"\x00\xff"}) == 1
        more = [{"name": name, "version": "100%", "histogram": b"[]"} for name in "bc"]
        assert PUT.run_many(connection, more) == 2
    with database.read() as connection:
        assert ALL.rows(connection, {"version": "100%"}) == [
            ("a", "100%", b"\x00\xff"),
            ("b", "100%", b"[]"),
            ("c", "100%", b"[]"),
        ]
    assert bool([statement for statement in seen if "costs" in statement]) is listened


def test_a_refused_statement_undoes_its_transaction(database: Database) -> None:
    values = {"name": "a", "version": "1", "histogram": b""}

    def twice() -> None:
        with database.write() as connection:
            PUT.run(connection, values)
            PUT.run(connection, values)

    with pytest.raises(sa.exc.IntegrityError):
        twice()
    with database.read() as connection:
        assert ALL.rows(connection, {"version": "1"}) == []


def test_a_connection_that_breaks_is_said_plainly_and_not_used_again(postgres_url: str) -> None:
    database, other = Database(postgres_url, "scheduler"), Database(postgres_url, "scheduler")
    migrate(database)

    def read_on_a_connection_that_the_server_ends() -> None:
        with database.write() as connection:
            pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar()
            with other.write() as killer:
                killer.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            ALL.rows(connection, {"version": "1"})

    with pytest.raises(Unavailable, match="database can't be used"):
        read_on_a_connection_that_the_server_ends()
    with database.write() as connection:
        assert ALL.rows(connection, {"version": "1"}) == []
    database.close()
    other.close()


def test_arrays_as_text_come_back_as_they_were(postgres_url: str) -> None:
    texts = ["plain", "", "NULL", 'a "quoted" \\ one', "{a,b}", "line\nbreak", None, "ü é 漢"]
    blobs = [b"", b"\x00\xff\\", None]
    database = Database(postgres_url, "scheduler")
    with database.engine.connect() as connection:
        query = sa.text("SELECT CAST(:texts AS text[]), CAST(:blobs AS bytea[]), CAST(:numbers AS bigint[])")
        values = {"texts": array(texts, "text"), "blobs": array(blobs, "bytea"), "numbers": array([1, None], "bigint")}
        found = connection.execute(query, values).one()
    assert [*found] == [texts, blobs, [1, None]]
    database.close()
