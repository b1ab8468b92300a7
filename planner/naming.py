"""Names of sources: each has versions, numbered from 1, of which the latest is what the name means.

A name is made with its first version. A version is a row beside an immutable source: two names may have the same one,
and the same content again is no new version. Rows of names are locked while a version is added, so that two who refresh
one source get two versions in a row, or one where they read the same. A name goes only when no plan needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from penstock.runtime.errors import AlreadyExists, Conflict, NotFound
from penstock.runtime.sql import Database
from penstock.words import counted
from planner.removals.rows import RemovalRows
from planner.store import metadata, plans

__all__ = ["NamedSources", "Version"]

NEEDED_TOLD = 10

source_names = sa.Table(
    "source_names",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),  # the latest
    sa.Column("reading", sa.Text, nullable=False),  # JSON: where it comes from, and how its rows are read
    sa.Column("create_ms", sa.BigInteger, nullable=False),
)

source_versions = sa.Table(
    "source_versions",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("source_id", sa.Text, sa.ForeignKey("sources.source_id"), nullable=False),
    sa.Column("change", sa.Text, nullable=False),  # JSON: what the one before it had not; empty for the first
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Index("source_versions_source", "source_id"),
)


@dataclass(frozen=True)
class Version:
    """A version of a name; `latest`: the number of its latest one."""

    name: str
    kind: int
    version: int
    latest: int
    source_id: str
    reading: Mapping[str, Any]
    change: Mapping[str, Any]
    actor: str
    create_ms: int


_COLUMNS = (
    source_names.c.name,
    source_names.c.kind,
    source_versions.c.version,
    source_names.c.version.label("latest"),
    source_versions.c.source_id,
    source_names.c.reading,
    source_versions.c.change,
    source_versions.c.actor,
    source_versions.c.create_ms,
)
_JOINED = source_names.join(source_versions, source_names.c.name == source_versions.c.name)
_LATEST = source_versions.c.version == source_names.c.version


class NamedSources:
    """Each method is one transaction."""

    def __init__(self, database: Database, removals: RemovalRows) -> None:
        self._database = database
        self._removals = removals
        self._insert: Any = sqlite.insert if database.is_sqlite else postgresql.insert

    def latest(self, name: str) -> Version | None:
        with self._database.read() as connection:
            return _version(connection, name)

    def known(self, name: str) -> Version:
        """The latest version of a name. Raises NotFound."""
        with self._database.read() as connection:
            found = _version(connection, name)
            if found is None:
                raise self.unknown(name, connection)
        return found

    @staticmethod
    def taken(name: str) -> AlreadyExists:
        return AlreadyExists(f"source {name!r} is there already: refresh it, or choose another name", code="name_taken")

    def of_source(self, source_id: str) -> Version | None:
        """The latest name and version that a source has; None for one without a name."""
        query = (
            sa.select(*_COLUMNS)
            .select_from(_JOINED)
            .where(source_versions.c.source_id == source_id)
            .order_by(source_versions.c.create_ms.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            return _of(connection.execute(query).mappings().first())

    def add(
        self,
        name: str,
        kind: int,
        source_id: str,
        *,
        before: int,
        reading: Mapping[str, Any],
        change: Mapping[str, Any],
        actor: str,
        now_ms: int,
    ) -> Version:
        """The next version of a name, after the version `before` (0: the name is new); the latest one where its content
        is the same. Raises Conflict when another version has come meanwhile, AlreadyExists for another kind."""
        with self._database.write() as connection:
            connection.execute(
                self._insert(source_names)
                .values(name=name, kind=kind, version=0, reading="{}", create_ms=now_ms)
                .on_conflict_do_nothing()
            )
            row = connection.execute(
                sa.select(source_names.c.version, source_names.c.kind)
                .where(source_names.c.name == name)
                .with_for_update()
            ).one()
            if row.kind != kind:
                raise AlreadyExists(
                    f"source {name!r} is of another kind already: choose another name", code="name_taken"
                )
            latest = _version(connection, name)
            if latest is not None and latest.source_id == source_id:
                return latest
            if row.version != before:
                raise Conflict(
                    f"source {name!r} has got version {row.version} meanwhile: send it again", code="source_moved"
                )
            connection.execute(
                sa.insert(source_versions).values(
                    name=name,
                    version=before + 1,
                    source_id=source_id,
                    change=orjson.dumps(change).decode(),
                    actor=actor,
                    create_ms=now_ms,
                )
            )
            connection.execute(
                sa.update(source_names)
                .where(source_names.c.name == name)
                .values(version=before + 1, reading=orjson.dumps(reading).decode())
            )
            made = _version(connection, name)
        assert made is not None, name
        return made

    def names(self, *, after: str, search: str, kind: int, limit: int) -> list[Version]:
        """Names after one in order, each with its latest version."""
        query = sa.select(*_COLUMNS).select_from(_JOINED).where(_LATEST, source_names.c.name > after)
        if search:
            query = query.where(sa.func.lower(source_names.c.name).contains(search.lower(), autoescape=True))
        if kind:
            query = query.where(source_names.c.kind == kind)
        with self._database.read() as connection:
            return _all(connection.execute(query.order_by(source_names.c.name).limit(limit)).mappings())

    def versions(self, name: str, *, before: int | None, limit: int) -> list[Version]:
        """Of a name, the latest first. Raises NotFound."""
        query = sa.select(*_COLUMNS).select_from(_JOINED).where(source_names.c.name == name)
        if before is not None:
            query = query.where(source_versions.c.version < before)
        with self._database.read() as connection:
            found = _all(connection.execute(query.order_by(source_versions.c.version.desc()).limit(limit)).mappings())
            if not found and before is None:
                raise self.unknown(name, connection)
            return found

    def remove(self, name: str) -> tuple[int, int]:
        """Removes a name with its versions and their drafts; answers how many of each. Nobody has kept a draft, and who
        starts one keeps it first. Raises NotFound, Conflict while a plan needs a version."""
        with self._database.write() as connection:
            version_count, drafts = self._removal(connection, name, locked=True)
            draft_count = self._removals.delete(connection, drafts)
            connection.execute(sa.delete(source_versions).where(source_versions.c.name == name))
            connection.execute(sa.delete(source_names).where(source_names.c.name == name))
        return version_count, draft_count

    def removable(self, name: str) -> tuple[int, int]:
        """What `remove` would answer, and refuse, now."""
        with self._database.read() as connection:
            version_count, drafts = self._removal(connection, name, locked=False)
            count = sa.select(sa.func.count()).select_from(plans).where(drafts)
            return version_count, connection.execute(count).scalar_one()

    def _removal(self, connection: sa.Connection, name: str, *, locked: bool) -> tuple[int, sa.ColumnElement[bool]]:
        """How many versions of a name would go, and which plans. locked: nobody adds a version until the transaction
        ends. Raises NotFound, Conflict."""
        latest = sa.select(source_names.c.version).where(source_names.c.name == name)
        version_count = connection.execute(latest.with_for_update() if locked else latest).scalar()
        if version_count is None:
            raise self.unknown(name, connection)
        _refuse_needed(connection, name)
        return version_count, sa.and_(plans.c.source_name == name, plans.c.expire_ms.is_not(None))

    def unknown(self, name: str, connection: sa.Connection) -> NotFound:
        """The error for a name that is none, with some that are."""
        version = sa.select(source_versions.c.name, source_versions.c.version).where(
            source_versions.c.source_id == name
        )
        if row := connection.execute(version.limit(1)).first():
            told = f"{name} is version {row.version} of {row.name!r}: a name goes with all its versions"
            return NotFound(told, code="source_not_found")
        known = connection.execute(sa.select(source_names.c.name).order_by(source_names.c.name).limit(20)).scalars()
        listed = ", ".join(known) or "none"
        return NotFound(f"no source {name!r}; there are: {listed}", code="source_not_found")


def _refuse_needed(connection: sa.Connection, name: str) -> None:
    """Raises Conflict with the kept plans of a source, the newest first, and the command that removes one."""
    needing = sa.and_(plans.c.source_name == name, plans.c.expire_ms.is_(None))
    newest = sa.select(plans.c.plan_id, plans.c.name).where(needing).order_by(plans.c.create_ms.desc())
    some = connection.execute(newest.limit(NEEDED_TOLD)).all()
    if not some:
        return
    count = connection.execute(sa.select(sa.func.count()).select_from(plans).where(needing)).scalar_one()
    told = [f"{row.name!r} ({row.plan_id})" if row.name else row.plan_id for row in some]
    if count > len(some):
        told.append(f"{count - len(some):,} more")
    raise Conflict(
        f"source {name!r} is needed by {counted(count, 'plan')}: {', '.join(told)}; remove them first: "
        f"penstock plans remove {some[0].plan_id}",
        code="source_needed",
        plans=",".join(row.plan_id for row in some),
    )


def _version(connection: sa.Connection, name: str) -> Version | None:
    query = sa.select(*_COLUMNS).select_from(_JOINED).where(source_names.c.name == name, _LATEST)
    return _of(connection.execute(query).mappings().first())


def _of(row: sa.RowMapping | None) -> Version | None:
    if row is None:
        return None
    return Version(**{**row, "reading": orjson.loads(row["reading"]), "change": orjson.loads(row["change"])})


def _all(rows: Sequence[sa.RowMapping] | sa.MappingResult) -> list[Version]:
    return [found for row in rows if (found := _of(row)) is not None]
