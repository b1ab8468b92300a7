"""Where the planner itself reads sources: files in folders that settings allow, databases that settings name.

A path is resolved before it is compared, so that no link and no `..` leads out of the folders; with no folder set no
path may be read. A database is named, never given by URL: who may call the planner need not know its password.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from penstock.runtime.errors import InvalidInput, NotFound
from penstock.v1 import sources_pb2
from planner.sources import CATALOG, Part
from planner.table_sources import database_of
from planner.tables.wanted import Database, TableFile

__all__ = ["Origins"]

CHUNK_BYTES = 1 << 20
MOST_FILES = 100_000
_MOST_TOLD, _TOLD_CHARACTERS = 10, 200


class Origins:
    def __init__(self, *, folders: Sequence[Path], databases: Mapping[str, str]) -> None:
        self._folders = [folder.resolve() for folder in folders]
        self._databases = databases

    def table(self, kind: int, origin: sources_pb2.Origin) -> Sequence[TableFile] | Database:
        """What a catalog or a table is read from. Raises InvalidInput, NotFound."""
        if kind == CATALOG:
            if origin.database or origin.table or origin.query:
                raise InvalidInput("a catalog comes from files; kind table reads databases", code="bad_origin")
            return list(self._files(self._allowed(origin.server_path)))
        if not origin.database:
            place = self._allowed(origin.server_path)
            return database_of(place.name, place, table=origin.table, query=origin.query)
        if origin.server_path:
            raise InvalidInput("a table comes from a database or from a database file, not both", code="bad_origin")
        url = self._databases.get(origin.database)
        if url is None:
            known = ", ".join(sorted(self._databases)) or "none"
            raise NotFound(
                f"no database {origin.database!r}: the setting planner.databases names {known}", code="no_database"
            )
        if bool(origin.table) == bool(origin.query):
            raise InvalidInput("a database is read as one table or one query: give one of them", code="bad_origin")
        kind_of = "sqlite" if url.startswith("sqlite:///") else "postgresql"
        place_of = url.removeprefix("sqlite:///") if kind_of == "sqlite" else url.replace("+psycopg", "", 1)
        return Database(kind_of, place_of, origin.table, origin.query)

    def task_file(self, origin: sources_pb2.Origin) -> Sequence[Part]:
        """The name and the bytes of a task file."""
        place = self._allowed(origin.server_path)
        try:
            return [place.name, place.read_bytes()]
        except OSError as error:
            raise InvalidInput(f"{origin.server_path}: {error.strerror}", code="bad_origin") from error

    def _allowed(self, text: str) -> Path:
        if not text:
            raise InvalidInput("no path is given: server_path is one on the planner's machine", code="bad_origin")
        try:
            place = Path(text).resolve()
            there = self._holds(place) and place.exists()
        except (OSError, RuntimeError, ValueError) as error:  # too long, links in a ring, a NUL
            why = getattr(error, "strerror", None) or "no path can be that"
            raise InvalidInput(f"{text[:_TOLD_CHARACTERS]!r} can't be followed: {why}", code="bad_origin") from error
        if not self._holds(place):
            known = ", ".join(map(str, self._folders)) or "none: set planner.source_folders"
            raise InvalidInput(f"{text} is not in a folder that may be read here; those are {known}", code="bad_origin")
        if not there:
            raise NotFound(f"there is no {text} on the planner's machine", code="no_such_path")
        if not place.is_dir() and not place.is_file():
            raise InvalidInput(f"{text} is neither a file nor a folder", code="bad_origin")
        return place

    def _holds(self, place: Path) -> bool:
        return any(place.is_relative_to(folder) for folder in self._folders)

    def _files(self, place: Path) -> Iterator[TableFile]:
        if not place.is_dir():
            yield TableFile(place.name, place)
            return
        found = sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))
        if not found or len(found) > MOST_FILES:
            raise InvalidInput(
                f"{place} has {len(found):,} files; a catalog has 1 to {MOST_FILES:,}", code="bad_origin"
            )
        out = [str(path.relative_to(place)) for path in found if not self._holds(path.resolve())]
        if out:
            more = f" and {len(out) - _MOST_TOLD:,} more" if len(out) > _MOST_TOLD else ""
            raise InvalidInput(
                f"{place}: {', '.join(out[:_MOST_TOLD])}{more}: links out of the folders that may be read here; "
                "remove them, or name a folder without them",
                code="bad_origin",
            )
        for path in found:
            yield TableFile(str(path.relative_to(place)), path.resolve())
