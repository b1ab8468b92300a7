"""Database files, as command and planner tell them: by the end of a name, and by the first bytes.

Nothing is opened here. A name is taken at its word where a file is yet to come; first bytes tell what a file is,
whatever it is called.
"""

from __future__ import annotations

from pathlib import PurePath

__all__ = ["DATABASE_SUFFIXES", "HEAD_BYTES", "database_by_head", "database_by_name"]

DATABASE_SUFFIXES = {
    ".duckdb": "duckdb",
    ".ddb": "duckdb",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".db": "sqlite",
}
"""What names of database files end in, each with its kind."""

HEAD_BYTES = 16
"""So many of its first bytes tell what a file is."""

_SQLITE = b"SQLite format 3\0"
_DUCKDB, _DUCKDB_AT = b"DUCK", 8


def database_by_name(name: str) -> str:
    """`sqlite` or `duckdb`; empty for a name that no database file has."""
    return DATABASE_SUFFIXES.get(PurePath(name).suffix.lower(), "")


def database_by_head(head: bytes) -> str:
    """The same by a file's first bytes."""
    if head.startswith(_SQLITE):
        return "sqlite"
    return "duckdb" if head.startswith(_DUCKDB, _DUCKDB_AT) else ""
