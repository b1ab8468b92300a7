"""Database files of this machine, as far as a command looks into them before it sends one: what they are, and the
names of their tables.

Only names are read, on a connection that can't write. Nothing is refused here: of a file that can't be opened, or that
is locked, nothing is known, and the server will say what is wrong with it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from penstock.databases import HEAD_BYTES, database_by_head

__all__ = ["database_kind", "tables_of", "tables_text"]

_TOLD = 20


def database_kind(path: str) -> str:
    """`sqlite` or `duckdb` by the first bytes of a file, whatever it is called; empty for anything else."""
    try:
        with Path(path).open("rb") as file:
            return database_by_head(file.read(HEAD_BYTES))
    except OSError:
        return ""


def tables_of(path: str) -> list[str]:
    """Names of its tables and views, in order."""
    try:
        match database_kind(path):
            case "sqlite":
                return _of_sqlite(path)
            case "duckdb":
                return _of_duckdb(path)
    except Exception:
        return []
    return []


def tables_text(path: str) -> str:
    """`it has the tables customers, orders`; empty where nothing is known."""
    names = tables_of(path)
    if not names:
        return ""
    more = f" and {len(names) - _TOLD:,} more" if len(names) > _TOLD else ""
    return f"it has the table{'s' if len(names) > 1 else ''} {', '.join(names[:_TOLD])}{more}"


def _of_sqlite(path: str) -> list[str]:
    asked = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    with closing(sqlite3.connect(f"file:{quote(str(Path(path).resolve()))}?mode=ro", uri=True)) as connection:
        return sorted(name for (name,) in connection.execute(asked))


def _of_duckdb(path: str) -> list[str]:
    import duckdb

    asked = (
        "SELECT CASE schema_name WHEN 'main' THEN name ELSE schema_name || '.' || name END FROM "
        "(SELECT schema_name, table_name AS name FROM duckdb_tables() UNION ALL "
        "SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal) ORDER BY 1"
    )
    # What a stranger's file names is not fetched from anywhere.
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoload_known_extensions": False,
        "autoinstall_known_extensions": False,
        "threads": 1,
    }
    with duckdb.connect(path, read_only=True, config=settings) as connection:
        return [name for (name,) in connection.execute(asked).fetchall()]
