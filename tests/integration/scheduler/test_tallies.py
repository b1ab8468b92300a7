"""Tallies: failures group by fingerprint up to a bound, settled items by minute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from penstock.runtime.sql import Database
from scheduler.store.schema import failures, throughput
from scheduler.store.tallies import MINUTES, MOST_GROUPS, OTHER, note_failures, note_settled
from tests.servers.schemas import prepared


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    one = Database(database_url, "scheduler")
    prepared(one)
    yield one
    one.close()


def test_failures_group_by_fingerprint_and_the_first_one_is_the_example(database: Database) -> None:
    with database.write() as connection:
        note_failures(connection, 1, 0, [("aa", "item", 5, "k5", "broke"), ("aa", "item", 6, "k6", "broke too")], 1_000)
        note_failures(connection, 1, 0, [("aa", "item", 7, "k7", "again"), ("bb", "timeout", 8, "k8", "late")], 2_000)
        note_failures(connection, 1, 1, [("aa", "item", 9, "k9", "elsewhere")], 3_000)
        note_failures(connection, 1, 0, [], 4_000)
        query = sa.select(failures).order_by(failures.c.stage, failures.c.fingerprint)
        assert [tuple(row) for row in connection.execute(query)] == [
            (1, 0, "aa", "item", 3, 5, "k5", "broke", 1_000, 2_000),
            (1, 0, "bb", "timeout", 1, 8, "k8", "late", 2_000, 2_000),
            (1, 1, "aa", "item", 1, 9, "k9", "elsewhere", 3_000, 3_000),
        ]


def test_beyond_the_bound_new_fingerprints_count_as_other_and_known_ones_go_on(database: Database) -> None:
    many = [(f"{n:012x}", "item", n, f"k{n}", f"error {n}") for n in range(MOST_GROUPS + 20)]
    with database.write() as connection:
        for first in range(0, len(many), 150):
            note_failures(connection, 1, 0, many[first : first + 150], 1_000)
        note_failures(connection, 1, 0, [many[3], many[-1]], 2_000)
        groups = {row.fingerprint: row for row in connection.execute(sa.select(failures))}
    counts = {name: row._mapping["count"] for name, row in groups.items()}
    assert len(groups) == MOST_GROUPS + 1
    assert counts[OTHER] == 21
    assert groups[OTHER].key == f"k{MOST_GROUPS}"
    assert counts[many[3][0]] == 2
    assert sum(counts.values()) == len(many) + 2


def test_settled_items_count_by_minute_and_old_minutes_are_forgotten(database: Database) -> None:
    with database.write() as connection:
        for minute in range(MINUTES + 10):
            note_settled(connection, 1, minute * 60_000 + 5, 3)
            note_settled(connection, 1, minute * 60_000 + 59_999, 4)
        note_settled(connection, 1, 0, 0)
        note_settled(connection, 2, 0, 1)
        query = sa.select(throughput.c.minute, throughput.c.settled).where(throughput.c.run == 1)
        kept = {row.minute: row.settled for row in connection.execute(query)}
    assert kept == dict.fromkeys(range(10, MINUTES + 10), 7)
