"""What a program says of itself comes whole, whatever one part of it comes to."""

from __future__ import annotations

from pathlib import Path

from penstock.runtime.diagnosing import Diagnosing
from penstock.runtime.sql import Database


async def test_a_database_that_does_not_know_the_question_costs_no_other_answer(tmp_path: Path) -> None:
    """As a server that speaks like PostgreSQL, and has other settings."""
    database = Database(f"sqlite:///{tmp_path / 'planner.db'}", "planner")
    database.is_sqlite = False  # asked as a server it refuses, by an error that nobody has translated
    try:
        told = await Diagnosing("planner", database=database).diagnose()
    finally:
        database.close()
    assert [one.name for one in told.dependencies] == ["sql"]
    assert told.dependencies[0].problem
    assert not told.HasField("pool")
    assert told.HasField("now")
