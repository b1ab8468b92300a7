"""Statements given to the driver as they are: the same rows, the same errors, and listeners see them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.runtime import sql
from penstock.runtime.errors import Unavailable
from penstock.runtime.sql import Database
from scheduler.commit import ambiguous
from scheduler.store.schema import costs
from scheduler.store.statements import Asked, Statement, array, finish, together
from tests.servers.schemas import prepared

PUT = Statement("INSERT INTO costs (processor, version, histogram) VALUES (:name, :version, :histogram)")
ALL = Statement("SELECT processor, version, histogram FROM costs WHERE version = :version ORDER BY processor")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    one = Database(database_url, "scheduler")
    prepared(one)
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


def test_a_query_that_is_compiled_once_answers_as_sqlalchemy_does(database: Database) -> None:
    columns = ("processor", "version", "histogram")
    put = Statement.of(sa.insert(costs), columns=columns)
    query = sa.select(costs.c.processor).order_by(costs.c.processor)
    query = query.where(costs.c.version.in_(["it's", "2"]), costs.c.processor.startswith("a"))
    query = query.where(costs.c.processor > sa.bindparam("least")).limit(sa.bindparam("most", type_=sa.Integer))
    with database.write() as connection:
        rows = [("a1", "it's"), ("a2", "2"), ("a3", "3"), ("b1", "2"), ("a4", "2"), ("a5", "2")]
        put.run_many(connection, [dict(zip(columns, (*row, b""), strict=True)) for row in rows])
        values = {"least": "a1", "most": 2}
        expected = [tuple(row) for row in connection.execute(query, values)]
        assert Statement.of(query).rows(connection, values) == expected == [("a2",), ("a4",)]


def test_what_a_query_has_already_stands_in_its_text_as_it_is(database: Database) -> None:
    with database.write() as connection:
        for value in ("100%", "%(least)s", ":least", r"\1 \g<0>", "it's", "%%"):
            PUT.run(connection, {"name": value, "version": value, "histogram": b""})
            query = sa.select(costs.c.processor).where(costs.c.version == value)
            found = Statement.of(query.where(costs.c.processor >= sa.bindparam("least"))).rows(
                connection, {"least": ""}
            )
            assert found == [(value,)]
    for unfit in (None, 0.5, b"a"):
        with pytest.raises(TypeError, match="bind it"):
            Statement.of(sa.select(sa.literal(unfit, sa.LargeBinary)))


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
    prepared(database)

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


def test_where_all_connections_broke_one_call_fails(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when PostgreSQL was started anew: the others that rest are not found broken call by call."""
    monkeypatch.setattr(sql, "RESTED_SECONDS", 60.0)  # none has rested for so long that it is asked for that alone
    one, other = Database(postgres_url, "scheduler"), Database(postgres_url, "scheduler")
    prepared(one)
    me, here = Statement("SELECT pg_backend_pid()"), Statement("SELECT pg_terminate_backend(:pid, 5000)")
    with ExitStack() as held:
        pids = [me.rows(held.enter_context(one.write()), {})[0][0] for _ in range(sql.POOL_SIZE)]
    with other.write() as connection:
        for pid in pids:
            assert here.rows(connection, {"pid": pid}) == [(True,)]
    failed = 0
    with ExitStack() as held:
        for _ in range(sql.POOL_SIZE):
            try:
                with ExitStack() as mine:
                    together(mine.enter_context(one.write()), [(ALL, {"version": "1"})] * 2)
                    held.push(mine.pop_all())
            except Unavailable:
                failed += 1
    assert failed == 1
    one.close()
    other.close()


def test_a_connection_that_breaks_is_given_up_where_it_is_seen(postgres_url: str) -> None:
    database, other = Database(postgres_url, "scheduler"), Database(postgres_url, "scheduler")
    prepared(database)
    for ask in (lambda one: ALL.rows(one, {"version": "1"}), lambda one: together(one, _costs("a"))):
        with database.engine.connect() as connection:
            pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar()
            with other.write() as killer:
                killer.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            with pytest.raises(sa.exc.DBAPIError) as told:
                ask(connection)
            assert told.value.connection_invalidated
            assert connection.invalidated
    database.close()
    other.close()


def _put_each(connection: sa.Connection, asked: list[Asked]) -> None:
    PUT.run_many(connection, [values for _, values in asked])


@pytest.mark.parametrize("put", [together, _put_each])
@pytest.mark.parametrize("count", [1, 2])
def test_a_transaction_of_one_who_says_nothing_more_is_ended_by_the_server(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, put: Callable[[sa.Connection, list[Asked]], None], count: int
) -> None:
    other = Database(postgres_url, "scheduler")
    prepared(other)
    monkeypatch.setattr(sql, "STATEMENT_SECONDS", 0.2)
    database = Database(postgres_url, "scheduler")
    there = sa.text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")

    def fall_silent_with_locks() -> None:
        with database.write() as connection:
            put(connection, _costs(*"ab"[:count]))
            driver = connection.connection.driver_connection
            assert driver is not None
            deadline = time.monotonic() + 20
            while True:
                with other.read() as looking:
                    if not looking.execute(there, {"pid": driver.info.backend_pid}).scalar():
                        return
                assert time.monotonic() < deadline, "it holds its locks for as long as it says nothing"

    with pytest.raises(Unavailable) as told:
        fall_silent_with_locks()
    assert ambiguous(told.value)
    assert _named(other) == []
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


def _named(database: Database) -> list[str]:
    with database.read() as connection:
        return [name for name, _, _ in ALL.rows(connection, {"version": "1"})]


def _costs(*names: str) -> list[Asked]:
    return [(PUT, {"name": name, "version": "1", "histogram": b""}) for name in names]


@pytest.mark.parametrize("listened", [False, True])
def test_the_last_writes_stand_once_their_transaction_has_ended(database: Database, listened: bool) -> None:
    if listened:
        sa.event.listen(database.engine, "before_cursor_execute", lambda *_: None)
    for turn in "ab":
        with database.write() as connection:
            assert together(connection, [(ALL, {"version": "2"}), *_costs(f"{turn}1")]) == [[], []]
            finish(connection, _costs(f"{turn}2", f"{turn}3"))
    assert _named(database) == ["a1", "a2", "a3", "b1", "b2", "b3"]


def test_where_one_of_the_last_writes_is_refused_nothing_of_the_transaction_stands(database: Database) -> None:
    def refused(*last: str) -> None:
        with database.write() as connection:
            together(connection, _costs("a"))
            finish(connection, _costs(*last))

    for last in (["b", "b", "c"], ["b", "c", "b"], ["a"]):
        with pytest.raises(sa.exc.IntegrityError):
            refused(*last)
        assert _named(database) == []
    with database.write() as connection:  # on the same connection, which has a transaction of its own again
        finish(connection, _costs("d"))
    assert _named(database) == ["d"]


def test_a_transaction_that_began_together_with_its_statements_is_undone_whole(database: Database) -> None:
    def fails() -> None:
        with database.write() as connection:
            together(connection, _costs("a"))
            connection.execute(sa.insert(costs).values(processor="b", version="1", histogram=b""))
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - whatever is raised inside
        fails()
    assert _named(database) == []


def test_reads_that_began_together_with_their_transaction_see_one_snapshot(database: Database) -> None:
    with database.read() as reading:
        together(reading, [(ALL, {"version": "1"})])
        with database.write() as writing:
            finish(writing, _costs("a"))
        assert together(reading, [(ALL, {"version": "1"})]) == [[]]
    assert _named(database) == ["a"]


def test_a_connection_that_breaks_before_the_end_leaves_it_open_whether_it_came_through(postgres_url: str) -> None:
    database, other = Database(postgres_url, "scheduler"), Database(postgres_url, "scheduler")
    prepared(database)

    def end_on_a_connection_that_the_server_ends() -> None:
        with database.write() as connection:
            together(connection, _costs("a"))
            pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar()
            with other.write() as killer:
                killer.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            finish(connection, _costs("b"))

    with pytest.raises(Unavailable) as told:
        end_on_a_connection_that_the_server_ends()
    assert ambiguous(told.value)
    assert _named(database) == []
    with database.write() as connection:
        finish(connection, _costs("c"))
    assert _named(database) == ["c"]
    database.close()
    other.close()
