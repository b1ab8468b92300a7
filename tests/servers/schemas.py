"""Schemas that are there already: each service's is made by its migrations once in a test process, and copied since.

A migration takes a tenth of a second of CPU, and a third of all tests begin with one or two. A copy is what it left:
the program that starts on it finds its own newest schema, as after a restart. What shows how schemas come to be begins
with an empty database (`empty_postgres_url`, `empty_database_url`, a SQLite file without `laid`).
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

from penstock.runtime.schema import SERVICES, migrate
from penstock.runtime.sql import Database

__all__ = ["laid", "make_all", "prepared"]

SQLITE = "sqlite:///"


def prepared(database: Database) -> Database:
    """With its schema: `migrate`, but for a SQLite file that is not there yet, which is copied."""
    if database.is_sqlite:
        laid(str(database.engine.url), database.service)
    migrate(database)
    return database


def laid(url: str, service: str) -> None:
    """The service's newest schema where `url` is a SQLite file that is not there yet; else nothing is done."""
    file = Path(url.removeprefix(SQLITE))
    if url.startswith(SQLITE) and service in SERVICES and file.parent.is_dir() and not file.exists():
        file.write_bytes(_of_sqlite(service))


def make_all(url: str) -> None:
    """Every service's schema, in an empty PostgreSQL."""
    for service in SERVICES:
        _migrated(url, service)


@functools.cache
def _of_sqlite(service: str) -> bytes:
    """The whole file: the last connection that closes leaves nothing beside it."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-schema-"))
    try:
        _migrated(f"{SQLITE}{folder}/made.db", service)
        return (folder / "made.db").read_bytes()
    finally:
        shutil.rmtree(folder)


def _migrated(url: str, service: str) -> None:
    database = Database(url, service)
    try:
        migrate(database)
    finally:
        database.close()
