"""Exclusive keys: one live run has each, all or none, taken again when a run is reopened."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from penstock.runtime.errors import Conflict, InvalidInput
from penstock.runtime.sql import Database
from scheduler.store import exclusive
from scheduler.store.schema import runs
from tests.servers.schemas import prepared


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    one = Database(database_url, "scheduler")
    prepared(one)
    with one.write() as connection:
        for number in (1, 2, 3):
            values = {"run_id": f"run_{number}", "plan_id": "p", "source_id": "s", "kind": 1, "name": f"the {number}."}
            connection.execute(
                sa.insert(runs).values(number=number, granularity="", state="running", create_ms=1, **values)
            )
    yield one
    one.close()


def test_a_second_run_is_refused_with_the_first_one_s_id(database: Database) -> None:
    with database.write() as connection:
        exclusive.take(connection, 1, ["project:x"])
    with pytest.raises(Conflict) as refused, database.write() as connection:
        exclusive.take(connection, 2, ["project:a", "project:x"])
    assert refused.value.code == "exclusive_key_held"
    assert refused.value.metadata == {"key": "project:x", "run_id": "run_1"}
    assert "run_1 (the 1.), which is running" in refused.value.message
    with database.write() as connection:  # nothing was left of the refused one
        exclusive.take(connection, 3, ["project:a"])


def test_freed_keys_are_free_and_a_reopened_run_takes_its_own_again(database: Database) -> None:
    with database.write() as connection:
        exclusive.take(connection, 1, ["b", "a"])
        exclusive.free(connection, 1)
        exclusive.take(connection, 2, ["b"])
        assert exclusive.keys_of(connection, 1) == ["a", "b"]
    with pytest.raises(Conflict, match="'b' is held by run run_2"), database.write() as connection:
        exclusive.retake(connection, 1)
    with database.write() as connection:
        exclusive.free(connection, 2)
        exclusive.retake(connection, 1)
    with pytest.raises(Conflict, match="'a' is held by run run_1"), database.write() as connection:
        exclusive.take(connection, 3, ["a"])


def test_of_runs_that_start_at_once_one_has_the_key(database: Database) -> None:
    def start(number: int) -> bool:
        try:
            with database.write() as connection:
                exclusive.take(connection, number, ["k", "l"])
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(3) as threads:
        assert sorted(threads.map(start, (1, 2, 3))) == [False, False, True]


@pytest.mark.parametrize("key", ["", " x", "a\nb", "k" * 201])
def test_a_bad_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(InvalidInput, match="exclusive key"):
        exclusive.checked(["good", key])


def test_all_keys_that_can_not_be_taken_are_named_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        exclusive.checked(["a b", "project:x", "", "c\n"])
    assert "exclusive key '', 'a b', 'c\\n' can't be taken" in refused.value.message
