"""The chart's roles.sql on a real PostgreSQL: each service's role works in its own schema, and does no more."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import sql

SCRIPT = Path(__file__).resolve().parent.parent.parent.parent / "charts" / "penstock" / "files" / "roles.sql"
SERVICES = ("planner", "scheduler", "analyzer", "gateway")


@pytest.fixture
def owner(empty_postgres_url: str) -> psycopg.Connection[tuple[object, ...]]:
    """The owner of a database in which the script ran twice, and a table of each service was made by the migrations."""
    connection = psycopg.connect(empty_postgres_url, autocommit=True)
    for _ in range(2):
        connection.execute(SCRIPT.read_bytes())
    connection.execute("SET ROLE penstock_migrations")
    for service in SERVICES:
        table = sql.Identifier(service, "kept")
        connection.execute(sql.SQL("CREATE TABLE {} (id bigint GENERATED ALWAYS AS IDENTITY, word text)").format(table))
    connection.execute("RESET ROLE")
    return connection


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_role_works_in_its_own_schema_and_makes_nothing_anywhere(
    service: str, owner: psycopg.Connection[tuple[object, ...]]
) -> None:
    with owner:
        owner.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(f"penstock_{service}")))
        own = sql.Identifier(service, "kept")
        owner.execute(sql.SQL("INSERT INTO {} (word) VALUES ('one')").format(own))
        owner.execute(sql.SQL("UPDATE {} SET word = 'two'").format(own))
        assert owner.execute(sql.SQL("SELECT word FROM {}").format(own)).fetchall() == [("two",)]
        owner.execute(sql.SQL("DELETE FROM {}").format(own))
        refused: list[sql.SQL | sql.Composed] = [sql.SQL("DROP TABLE {}").format(own), sql.SQL("CREATE SCHEMA more")]
        refused += [sql.SQL("CREATE TABLE {}.more (id int)").format(sql.Identifier(one)) for one in SERVICES]
        refused.append(sql.SQL("CREATE TABLE public.more (id int)"))
        others = [sql.Identifier(one, "kept") for one in SERVICES if one != service]
        refused += [sql.SQL("SELECT * FROM {}").format(one) for one in others]
        refused += [sql.SQL("INSERT INTO {} (word) VALUES ('one')").format(one) for one in others]
        for statement in refused:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                owner.execute(statement)


def test_no_role_may_more_than_log_in(owner: psycopg.Connection[tuple[object, ...]]) -> None:
    with owner:
        rows = owner.execute(
            "SELECT rolname, rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls, rolcanlogin "
            "FROM pg_roles WHERE rolname LIKE 'penstock\\_%' ORDER BY rolname"
        ).fetchall()
    names = ("analyzer", "gateway", "migrations", "planner", "scheduler")
    assert [row for row in rows if row[0] != "penstock_reader"] == [(f"penstock_{name}", False, True) for name in names]


def test_the_scripts_of_chart_and_command_line_are_one() -> None:
    other = Path(__file__).resolve().parent.parent.parent.parent / "penstock" / "runtime" / "roles.sql"
    if not other.exists():
        pytest.skip("penstock/runtime/roles.sql is not there")
    assert other.read_text() == SCRIPT.read_text()
