"""Decisions of two schedulers in the same moment, on PostgreSQL: the second sees what the first decided."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
import sqlalchemy as sa

from penstock.runtime.sql import Database
from scheduler.domain.prices import Histogram
from scheduler.domain.states import StageState
from scheduler.store import money, switches
from scheduler.store.effects import Effects
from scheduler.store.price_table import set_price
from scheduler.store.schema import costs, limit_events
from tests.integration.scheduler.desk import Desk
from tests.servers.schemas import prepared

ROUNDS = 20


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    one = Database(postgres_url, "scheduler")
    prepared(one)
    yield one
    one.close()


def both(database: Database, work: Callable[[sa.Connection, int], object]) -> None:
    """Two transactions that begin together, in every round."""
    start = threading.Barrier(2)

    def writer(which: int) -> None:
        for _ in range(ROUNDS):
            start.wait(10)
            with database.write() as connection:
                work(connection, which)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(writer, which) for which in range(2)]:
            done.result(60)


def numbers(database: Database, key: str) -> list[int]:
    query = sa.select(limit_events.c.number).where(limit_events.c.key == key).order_by(limit_events.c.number)
    with database.read() as connection:
        return list(connection.execute(query).scalars())


def test_a_price_that_both_set_is_told_twice(database: Database) -> None:
    prices = iter(range(1, 10_000))

    def work(connection: sa.Connection, which: int) -> None:
        set_price(connection, Effects(), "noop", next(prices), 0, actor=f"ann-{which}", reason="")

    both(database, work)
    assert numbers(database, "price noop") == list(range(1, 2 * ROUNDS + 1))


def test_the_switch_of_retries_is_set_by_one_after_the_other(database: Database) -> None:
    both(
        database,
        lambda connection, which: switches.set_retries(
            connection, Effects(), which == 0, actor="", reason="", now_ms=0
        ),
    )
    told = numbers(database, "retries")
    assert told == list(range(1, len(told) + 1))


def test_what_two_stages_of_a_processor_learned_is_all_kept(postgres_url: str) -> None:
    desk = Desk.open(postgres_url)
    desk.start({"total": 1}, {"total": 1})
    units = desk.change(lambda unit: unit)
    try:

        def work(connection: sa.Connection, which: int) -> None:
            learned = Histogram()
            learned.add(10)
            stage = units.stages[which]
            stage.costs = orjson.dumps(learned.rows())
            money.learn(type(units)(connection, units.run, [stage], 0), stage)

        both(desk.database, work)
        with desk.database.read() as connection:
            kept = connection.execute(sa.select(costs.c.histogram)).scalar_one()
        assert Histogram.of(orjson.loads(kept)).samples == 2 * ROUNDS
        assert desk.stage().state == StageState.RUNNING
    finally:
        desk.close()
