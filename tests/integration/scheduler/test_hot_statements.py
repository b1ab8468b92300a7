"""What a batch costs does not grow with the rows that are there, on tables that nobody has analysed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from scheduler.store.schema import prices
from tests.integration.scheduler.desk import Desk, outcome
from tests.servers.postgres import PostgresServer

FEW, MANY = 2_000, 200_000
BATCH, ROUNDS, MOST_ROUNDS = 200, 12, 36
TOTAL = MANY + 2 * BATCH * MOST_ROUNDS

ROWS = """
INSERT INTO items (run, stage, seq, key, grp, state, attempt, tries, suspect, session, grant_number, start_ms, end_ms,
  settle_number, cost_micros, lane)
SELECT 1, 0, n, 'k' || n, 'g', 'completed', 1, 0, 0, 'before', 1, 1, 1, n + 1, 90, 'domain:d' || (n % 100)
FROM {numbers}
"""
SERIES = {
    "sqlite": "(WITH RECURSIVE up(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM up WHERE n < :last) "
    "SELECT n FROM up)",
    "postgresql": "generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS numbers(n)",
}


@pytest.fixture(params=["sqlite", "postgresql"])
def desks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Desk, Desk]]:
    """One of few rows, and one of many, each with a database of its own."""
    if request.param == "sqlite":
        urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("few", "many")]
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        urls = [server.create_prepared() for _ in range(2)]
    few, many = map(Desk.open, urls)
    yield few, many
    few.close()
    many.close()
    if request.param == "postgresql":
        for url in urls:
            server.drop_database(url)


def settled(desk: Desk, first: int, last: int) -> None:
    """Makes these items as if they had been completed, each for 90 micro-dollars, in one batch of the ledger."""
    with desk.database.write() as connection:
        dialect = connection.dialect.name
        if dialect == "postgresql":
            connection.execute(sa.text("ALTER TABLE items SET (autovacuum_enabled = false)"))
        statement = sa.text(ROWS.format(numbers=SERIES[dialect]))
        connection.execute(statement, {"first": first, "last": last - 1})
        count, money = last - first, 90 * (last - first)
        connection.execute(
            sa.text("UPDATE stages SET completed = completed + :n, spent_micros = spent_micros + :m, cursor = :last"),
            {"n": count, "m": money, "last": last},
        )
        connection.execute(
            sa.text(
                "UPDATE runs SET settle_number = :last, spent_micros = spent_micros + :m, "
                "ledger_number = ledger_number + 1"
            ),
            {"m": money, "last": last},
        )
        connection.execute(
            sa.text(
                "INSERT INTO ledger (run, number, time_ms, stage, micros, entries) "
                "SELECT 1, ledger_number, 1, 0, :m, :entries FROM runs"
            ),
            {"m": money, "entries": b'[["settled",0,1,%d,0]]' % money},
        )


def seconds_a_batch(desk: Desk, first: int) -> float:
    """Of a batch that is granted and reported."""
    seqs = range(first, first + BATCH)
    began = time.perf_counter()
    assert len(desk.seqs(desk.grant(seqs, lane="domain:d1"))) == BATCH
    assert desk.report(*[outcome(seq, cost_micros=90, result=b"{}") for seq in seqs]) == []
    return time.perf_counter() - began


def test_a_batch_costs_the_same_at_two_thousand_and_at_two_hundred_thousand_rows(desks: tuple[Desk, Desk]) -> None:
    for desk, rows in zip(desks, (FEW, MANY), strict=True):
        desk.set(prices, processor="noop", micros=100, change_ms=0)
        desk.start({"paid": True, "total": TOTAL, "budget_micros": 10**12}, budget_micros=10**12)
        settled(desk, 0, rows)
    few = many = 1e9
    # By turns, the best of each; and more of them where the machine has other work.
    for number in range(MOST_ROUNDS):
        few = min(few, seconds_a_batch(desks[0], FEW + number * BATCH))
        many = min(many, seconds_a_batch(desks[1], MANY + number * BATCH))
        if number + 1 >= ROUNDS and many <= 1.5 * few:
            break
    assert many <= 1.5 * few, f"{few * 1000:.1f} ms a batch with {FEW} rows, {many * 1000:.1f} ms with {MANY}"
