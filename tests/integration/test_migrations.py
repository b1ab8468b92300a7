"""Each service's migrations make exactly the tables that its store names, on both databases."""

from __future__ import annotations

import importlib

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from penstock.runtime.sql import Database, migrate

STORES = {"scheduler": "scheduler.store.schema", "planner": "planner.store", "analyzer": "analyzer.store"}


@pytest.mark.parametrize("service", STORES)
def test_migrations_and_tables_agree(service: str, database_url: str) -> None:
    metadata = importlib.import_module(STORES[service]).metadata
    assert isinstance(metadata, sa.MetaData)
    database = Database(database_url, service)
    try:
        migrate(database)
        migrate(database)  # a second start changes nothing
        with database.engine.connect() as connection:
            options = {"include_name": lambda name, kind, _: not (kind == "table" and name == "alembic_version")}
            differences = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
            assert not differences, differences
            there = set(sa.inspect(connection).get_table_names())
            assert set(metadata.tables) <= there
    finally:
        database.close()
