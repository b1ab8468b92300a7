"""Which schema a service's database has, whether this program can work on it, and how it gets newer.

A migration is a script `SERVICE/migrations/NNNN_name.py`; the newest number is the program's own version of the schema.
Migrations expand first and contract a release later: a script says in `oldest_program` which program can still work
after it ("0007": one whose own newest is 0007 or later); without that word it is the one right before it. What a
database says of itself lies in its table `schema_range`, written in the migration's own transaction, so an older
program can tell whether it may go on, without knowing what came after it:

    database older   migrated at the start (`database.auto_migrate`), else waited for: not ready, and why
    the same         served
    newer            served as long as `oldest_program` allows, else refused: the program ends with one sentence

Nothing here ever goes down. Of several that migrate at once one does, under a lock of PostgreSQL's, and the others find
it done.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from penstock.runtime.errors import InvalidInput, Unavailable
from penstock.runtime.settings import DatabaseSection, Settings
from penstock.runtime.sql import Database, translated

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

__all__ = ["Move", "SchemaState", "check_schema", "migrate", "migrate_all", "newest", "prepare", "read_schema"]

SERVICES = ("planner", "scheduler", "analyzer", "gateway")
"""That may have a database, in the order in which they are migrated."""

schema_range = sa.Table(
    "schema_range",
    sa.MetaData(),
    sa.Column("revision", sa.Text, nullable=False),
    sa.Column("oldest_program", sa.Text, nullable=False),
)


@dataclass(frozen=True)
class SchemaState:
    """revision: "" where there is no schema; oldest_program: "" where nobody said."""

    revision: str
    oldest_program: str


@dataclass(frozen=True)
class Move:
    """What became, or would become, of one service's schema."""

    service: str
    before: str
    after: str

    @property
    def newer(self) -> bool:
        """Than this version of ours: it is left as it is."""
        return self.before > self.after

    def __str__(self) -> str:
        if self.newer:
            return f"{self.service}: at {self.before}, newer than this version's {self.after}; left as it is"
        if self.before == self.after:
            return f"{self.service}: at {self.after}, nothing to do"
        return f"{self.service}: {self.before or 'nothing'} -> {self.after}"


def prepare(database: Database, section: DatabaseSection) -> None:
    """What a program does with its database before it serves. Raises Unavailable while that is to be waited for,
    InvalidInput (`schema_too_new`) where waiting does not help."""
    if section.auto_migrate:
        migrate(database)
    check_schema(database)


def check_schema(database: Database) -> None:
    """Raises Unavailable (`schema_too_old`), InvalidInput (`schema_too_new`)."""
    own, state = newest(database.service), read_schema(database)
    if state.revision == own:
        return
    if state.revision < own:
        has = f"has schema {state.revision}" if state.revision else "has no schema yet"
        raise Unavailable(
            f"the {database.service}'s database {has}, and this version needs {own}: run `penstock migrate`",
            code="schema_too_old",
            cause="its schema is too old: run `penstock migrate`",
        )
    if not state.oldest_program or own < state.oldest_program:
        oldest = state.oldest_program
        needs = f"needs programs of {oldest} or newer" if oldest else "this version does not know"
        raise InvalidInput(
            f"the {database.service}'s database has schema {state.revision}, which {needs}; this one is of {own}: "
            "run a newer version of Penstock",
            code="schema_too_new",
        )


def read_schema(database: Database) -> SchemaState:
    """Raises Unavailable."""
    with translated(database.service), database.engine.connect() as connection:
        # By their whole names: where the role may not use the schema, it is then told so.
        inspector = sa.inspect(connection)
        schema = None if database.is_sqlite else database.service
        if not inspector.has_table("alembic_version", schema=schema):
            return SchemaState("", "")
        version = sa.table("alembic_version", sa.column("version_num", sa.Text), schema=schema)
        revision = connection.execute(sa.select(version.c.version_num)).scalar_one_or_none()
        told = None
        if inspector.has_table("schema_range", schema=schema):
            columns = (sa.column("revision", sa.Text), sa.column("oldest_program", sa.Text))
            told = connection.execute(sa.select(*columns).select_from(sa.table("schema_range", schema=schema))).first()
        connection.rollback()
    oldest = told.oldest_program if told is not None and told.revision == revision else ""
    return SchemaState(revision or "", oldest)


def newest(service: str) -> str:
    """The newest version that there is a script for: their names begin with it."""
    return max(path.name.partition("_")[0] for path in _folder(service).glob("[0-9]*.py"))


def migrate_all(settings: Settings, *, look: bool = False) -> Iterator[Move]:
    """Every service's database that the settings name, with the role of `migrations.database_url` where there is one;
    look: tells only what would be done. Raises Unavailable, InvalidInput where there is none at all."""
    urls = {
        service: getattr(getattr(settings, service), "database_url", "")
        for service in SERVICES
        if _has_migrations(service)
    }
    if settings.migrations.database_url:
        # One role for all schemas of one database.
        urls = dict.fromkeys(urls, settings.migrations.database_url)
    if not any(urls.values()):
        raise InvalidInput(
            "there is no database to migrate: set PENSTOCK_MIGRATIONS__DATABASE_URL, or PENSTOCK_SERVICE__DATABASE_URL "
            "of each service",
            code="settings",
        )
    for service, url in urls.items():
        if not url:
            continue
        database = Database(url, service)
        try:
            before = read_schema(database).revision if look else migrate(database)
            if not look:
                check_schema(database)
            yield Move(service, before, newest(service))
        finally:
            database.close()


def migrate(database: Database, version: str = "head") -> str:
    """Brings the service's schema to its newest version, or to an older one that tests begin with; one that is newer
    than this program knows is left alone. Answers the version that it found. Raises Unavailable."""
    service = database.service
    if version == "head" and (found := read_schema(database).revision) >= newest(service):
        return found  # a restart does not wait for alembic to be loaded

    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "alembic"))
    config.set_main_option("version_locations", str(_folder(service)))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)

    def note(connection: sa.Connection) -> None:
        """In the transaction of the migrations."""
        revision = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
        schema_range.create(connection, checkfirst=True)
        connection.execute(sa.delete(schema_range))
        oldest = _oldest_program(scripts, revision)
        connection.execute(sa.insert(schema_range), {"revision": revision, "oldest_program": oldest})

    with translated(service), database.engine.connect() as connection, _migrating(database, connection):
        before = _revision(connection)
        if version == "head" and before >= newest(service):
            return before  # another did it while this one waited
        config.attributes["connection"] = connection
        config.attributes["note"] = note
        command.upgrade(config, version)
        connection.commit()
        return before


def _oldest_program(scripts: ScriptDirectory, revision: str) -> str:
    """Of all scripts up to this one the strictest."""
    found = "0000"
    for script in scripts.walk_revisions("base", revision):
        before = script.down_revision if isinstance(script.down_revision, str) else script.revision
        found = max(found, str(getattr(script.module, "oldest_program", before)))
    return found


def _revision(connection: sa.Connection) -> str:
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none() or ""


def _folder(service: str) -> Path:
    (folder,) = _places(service)
    return folder


def _places(service: str) -> Sequence[Path]:
    spec = importlib.util.find_spec(service)
    assert spec is not None, service
    assert spec.submodule_search_locations, service
    return [Path(place) / "migrations" for place in list(spec.submodule_search_locations)[:1]]


def _has_migrations(service: str) -> bool:
    return _folder(service).is_dir()


@contextmanager
def _migrating(database: Database, connection: sa.Connection) -> Iterator[None]:
    """On PostgreSQL, the schema and the only right to change it: of several that start at once, one migrates and the
    others wait for it. On SQLite the transaction itself is that right."""
    if database.is_sqlite:
        yield
        return
    # The others wait longer than a statement may take.
    connection.execute(sa.text("SET statement_timeout = 0"))
    connection.execute(sa.text("SET lock_timeout = 0"))
    connection.execute(sa.text("SELECT pg_advisory_lock(hashtext(:name))"), {"name": f"migrate {database.service}"})
    try:
        # A role that may not make schemas needs to make none where it is there.
        if not sa.inspect(connection).has_schema(database.service):
            connection.execute(sa.text(f'CREATE SCHEMA IF NOT EXISTS "{database.service}"'))
        connection.commit()
        yield
    finally:
        # Lock and settings are the session's, which goes back to the pool: they would outlive the transaction.
        connection.rollback()
        connection.execute(sa.text("SELECT pg_advisory_unlock_all()"))
        connection.execute(sa.text("RESET statement_timeout"))
        connection.execute(sa.text("RESET lock_timeout"))
        connection.commit()
