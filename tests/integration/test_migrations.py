"""Each service's migrations make exactly the tables that its store names, on both databases."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from penstock.runtime.schema import migrate
from penstock.runtime.sql import Database

OF_MIGRATIONS = ("alembic_version", "schema_range")
STORES = {
    "scheduler": "scheduler.store.schema",
    "planner": "planner.store",
    "analyzer": "analyzer.store",
    "gateway": "gateway.store.schema",
}


@pytest.mark.parametrize("service", STORES)
def test_migrations_and_tables_agree(service: str, empty_database_url: str) -> None:
    importlib.import_module(f"{service}.__main__")  # and with it every module that has tables
    metadata = importlib.import_module(STORES[service]).metadata
    assert isinstance(metadata, sa.MetaData)
    database = Database(empty_database_url, service)
    try:
        migrate(database)
        migrate(database)  # a second start changes nothing
        with database.engine.connect() as connection:
            options = {"include_name": lambda name, kind, _: not (kind == "table" and name in OF_MIGRATIONS)}
            differences = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
            assert not differences, differences
            there = set(sa.inspect(connection).get_table_names())
            assert set(metadata.tables) <= there
    finally:
        database.close()


def test_replicas_that_start_at_once_migrate_one_after_another(empty_postgres_url: str) -> None:
    migration = """
import sys, alembic.command, scheduler, penstock.runtime.schema as schema
from penstock.runtime.sql import Database
print("ready", flush=True)
sys.stdin.read()
schema.migrate(Database(sys.argv[1], "scheduler"))
"""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", migration, empty_postgres_url]
    replicas = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) for _ in range(4)]
    for replica in replicas:
        assert replica.stdout is not None
        assert replica.stdout.readline() == b"ready\n"
    for replica in replicas:
        assert replica.stdin is not None
        replica.stdin.close()
        replica.stdin = None
    said = [replica.communicate(timeout=50)[1].decode() for replica in replicas]
    assert [replica.returncode for replica in replicas] == [0] * len(replicas), "\n".join(said)[-2_000:]
