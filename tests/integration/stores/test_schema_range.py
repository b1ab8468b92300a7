"""Which schemas a program works on, and who makes them: older ones are waited for, newer ones taken as they allow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from penstock.runtime.errors import InvalidInput, Unavailable
from penstock.runtime.schema import (
    SchemaState,
    check_schema,
    migrate,
    migrate_all,
    newest,
    prepare,
    read_schema,
)
from penstock.runtime.settings import DatabaseSection, Settings
from penstock.runtime.sql import Database

BY_ITSELF, BY_OTHERS = DatabaseSection(), DatabaseSection(auto_migrate=False)
SERVICE = "planner"


@pytest.fixture
def database(empty_database_url: str) -> Iterator[Database]:
    one = Database(empty_database_url, SERVICE)
    yield one
    one.close()


def says(database: Database, revision: str, oldest: str) -> None:
    """What a later version's migration would have left."""
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :to"), {"to": revision})
        connection.execute(sa.text("DELETE FROM schema_range"))
        if oldest:
            row = {"revision": revision, "oldest": oldest}
            connection.execute(sa.text("INSERT INTO schema_range VALUES (:revision, :oldest)"), row)


def test_a_program_that_makes_its_schema_does_and_says_its_range(database: Database) -> None:
    prepare(database, BY_ITSELF)
    prepare(database, BY_ITSELF)
    state = read_schema(database)
    assert state.revision == newest(SERVICE)
    assert "0001" <= state.oldest_program <= state.revision


def test_a_program_that_may_not_waits_for_it_and_says_what_to_run(database: Database) -> None:
    with pytest.raises(Unavailable, match=r"has no schema yet, and this version needs \d+: run `penstock migrate`"):
        prepare(database, BY_OTHERS)
    migrate(database, "0003")
    with pytest.raises(
        Unavailable, match=r"has schema 0003, and this version needs \d+: run `penstock migrate`"
    ) as old:
        prepare(database, BY_OTHERS)
    assert old.value.cause == "its schema is too old: run `penstock migrate`"
    assert read_schema(database).revision == "0003"
    migrate(database)
    prepare(database, BY_OTHERS)


@pytest.mark.parametrize("section", [BY_ITSELF, BY_OTHERS], ids=["by itself", "by others"])
def test_a_newer_schema_is_worked_on_as_far_as_it_allows_and_never_taken_back(
    database: Database, section: DatabaseSection
) -> None:
    migrate(database)
    own = newest(SERVICE)
    says(database, "9000", own)
    prepare(database, section)
    says(database, "9000", "8999")
    with pytest.raises(InvalidInput, match=f"schema 9000, which needs programs of 8999 or newer; this one is of {own}"):
        prepare(database, section)
    says(database, "9000", "")
    with pytest.raises(InvalidInput, match="this version does not know"):
        prepare(database, section)
    assert read_schema(database) == SchemaState("9000", "")


def test_a_range_of_another_revision_says_nothing(database: Database) -> None:
    migrate(database)
    says(database, "9000", newest(SERVICE))
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9001'"))
    with pytest.raises(InvalidInput):
        check_schema(database)


def test_all_services_are_migrated_by_one_word_and_once(empty_postgres_url: str) -> None:
    settings = Settings.model_validate({"migrations": {"database_url": empty_postgres_url}})
    looked = list(migrate_all(settings, look=True))
    assert [move.service for move in looked][:3] == ["planner", "scheduler", "analyzer"]
    assert all(move.before < move.after for move in looked)
    assert [str(move) for move in migrate_all(settings)] == [f"{m.service}: nothing -> {m.after}" for m in looked]
    assert [str(move) for move in migrate_all(settings)] == [
        f"{m.service}: at {m.after}, nothing to do" for m in looked
    ]


def test_two_that_migrate_at_once_are_one_and_the_check_says_when_it_is_needed(empty_postgres_url: str) -> None:
    environment = {"PENSTOCK_MIGRATIONS__DATABASE_URL": empty_postgres_url, "PATH": ""}

    def begin(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-m", "penstock", "migrate", *options]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)

    def ended(one: subprocess.Popen[str]) -> tuple[int, list[str]]:
        out, errors = one.communicate(timeout=60)
        assert errors == ""
        return one.returncode, out.splitlines()

    code, lines = ended(begin("--check"))
    assert code == 1
    assert lines[0].startswith("planner: nothing -> ")
    both = [ended(one) for one in [begin(), begin()]]
    assert [code for code, _ in both] == [0, 0]
    for told in zip(*(lines for _, lines in both), strict=True):
        assert sorted("->" in line for line in told) == [False, True], told
    assert ended(begin("--check"))[0] == 0


def test_where_no_database_is_named_there_is_nothing_to_migrate() -> None:
    with pytest.raises(InvalidInput, match="PENSTOCK_MIGRATIONS__DATABASE_URL"):
        list(migrate_all(Settings()))
