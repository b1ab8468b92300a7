"""SQL engines for SQLite (WAL) and PostgreSQL. Their schemas are `penstock.runtime.schema`'s.

A service has its own database: a SQLite file, or a PostgreSQL schema named after it. Writers on SQLite begin with
`BEGIN IMMEDIATE`, so that a transaction that will write never fails half-way for a lock; synchronous is FULL, since
fences rest on what was committed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DataError, DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from penstock.runtime.disk import disk_full
from penstock.runtime.errors import InvalidInput, PenstockError, Unavailable
from penstock.runtime.exchange import given_back
from penstock.runtime.settings import Settings

__all__ = ["Database", "translated"]

BUSY_SECONDS = 10.0
"""A writer waits so long for another's lock."""
POOL_SIZE = 4
"""Connections that are kept, and as many more that are opened for a while."""
POOL_SECONDS = 10.0
"""And so long for a connection, while all are in use."""
STATEMENT_SECONDS = 60.0
"""No statement of ours takes so long; it is ended by the server."""
RESTED_SECONDS = 1.0
"""A connection that was not used for so long is asked whether it still stands before it is; so is each that rested
when another one broke: where the server was started anew all did, and one call is to fail, not one for each."""
SILENT_SECONDS = 15
"""A PostgreSQL that the network hides is given up after this: the scheduler has one writer, which must not hang."""
NO_RIGHT = ("42501", "3F000")
"""PostgreSQL's codes for what a role may not do, and for a schema that is not there, or not for it."""
READ_ONLY = "25006"
"""PostgreSQL's code for a write where nothing may be written: a standby, or an administrator's word. Its driver counts
that among its own defects."""


class Database:
    """The engine of one service. `is_sqlite` tells the dialects apart where a statement must; `most_connections` are
    those to a server, 0 where there is none."""

    def __init__(self, url: str, service: str, *, pool_size: int = POOL_SIZE, pool_overflow: int = POOL_SIZE) -> None:
        """`url` is sqlite:///FILE or postgresql://…; raises InvalidInput when it is empty or no URL. The pool is of
        connections to PostgreSQL: kept ones, and more while those are all in use."""
        if not url:
            raise InvalidInput(
                f"{service} has no database: set PENSTOCK_{service.upper()}__DATABASE_URL "
                "(sqlite:///FILE or postgresql://…)",
                code="settings",
            )
        self.service = service
        self.is_sqlite = url.startswith("sqlite:")
        self.most_connections = 0 if self.is_sqlite else pool_size + pool_overflow
        try:
            if self.is_sqlite:
                self.engine = _sqlite_engine(url)
            else:
                url = url.replace("postgresql://", "postgresql+psycopg://", 1)
                self.engine = _postgres_engine(url, service, size=pool_size, overflow=pool_overflow)
        except (sa.exc.ArgumentError, ValueError) as error:  # their words may hold the password
            raise InvalidInput(
                f"{service}.database_url is no URL: postgresql://USER:PASSWORD@HOST:PORT/NAME is one; in a password "
                "@ is written %40, / %2F, : %3A, % %25",
                code="settings",
            ) from error

    @classmethod
    def of(cls, settings: Settings, service: str) -> Database:
        """As the settings name it."""
        pool = settings.database
        url: str = getattr(settings, service).database_url
        return cls(url, service, pool_size=pool.pool_size, pool_overflow=pool.pool_overflow)

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction that writes. Raises Unavailable when the database can't be reached or is full."""
        with translated(self.service), self.engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            with connection.begin() if not self.is_sqlite else _sqlite_transaction(connection):
                yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One consistent snapshot for reading."""
        with translated(self.service), self.engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
                with _sqlite_transaction(connection):
                    yield connection
            else:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
                with connection.begin():
                    yield connection

    def ping(self) -> None:
        """Raises Unavailable when the database does not answer."""
        with self.read() as connection:
            connection.execute(sa.text("SELECT 1"))

    def close(self) -> None:
        self.engine.dispose()


def _postgres_engine(url: str, service: str, *, size: int, overflow: int) -> sa.Engine:
    engine = sa.create_engine(
        url,
        pool_size=size,
        max_overflow=overflow,
        pool_timeout=POOL_SECONDS,
        pool_use_lifo=True,  # one server process that is warm, and has the statements prepared, serves whom it can
        connect_args=_postgres_arguments(service),
    )

    broke = -math.inf

    @event.listens_for(engine, "invalidate")
    def _broke(*_: object) -> None:
        nonlocal broke
        broke = time.monotonic()

    @event.listens_for(engine, "checkin")
    def _used(dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["used"] = time.monotonic()
        given_back(dbapi_connection)

    @event.listens_for(engine, "checkout")
    def _stands(dbapi_connection: DBAPIConnection, record: ConnectionPoolEntry, _: object) -> None:
        # SQLAlchemy's own way asks each time: an exchange with the server for each transaction.
        now, used = time.monotonic(), record.info.get("used", math.inf)  # a new one was not
        if now - used > RESTED_SECONDS or record.info.get("stood", math.inf) < broke:
            try:
                engine.dialect.do_ping(dbapi_connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise DisconnectionError from error
        record.info["stood"] = now

    return engine


def _postgres_arguments(service: str) -> dict[str, str | int]:
    options: dict[str, str | int] = {
        "search_path": service,
        "synchronous_commit": "on",
        "statement_timeout": int(STATEMENT_SECONDS * 1000),
        "lock_timeout": int(BUSY_SECONDS * 1000),
        "idle_in_transaction_session_timeout": int(STATEMENT_SECONDS * 1000),
        # Pages are read in the order of an index. On a table that was never analysed PostgreSQL takes a run for a few
        # rows, and would rather gather all of them and sort: without this way it walks the index and stops.
        "enable_bitmapscan": "off",
    }
    return {
        "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
        "connect_timeout": 5,
        "keepalives_idle": SILENT_SECONDS // 3,
        "keepalives_interval": SILENT_SECONDS // 3,
        "keepalives_count": 2,
        "tcp_user_timeout": SILENT_SECONDS * 1000,
    }


@contextmanager
def _sqlite_transaction(connection: sa.Connection) -> Iterator[None]:
    # SQLAlchemy's own begin is silenced (see _sqlite_engine): the BEGIN has been sent by hand.
    try:
        yield
    except BaseException:
        connection.rollback()  # SQLite has rolled back by itself when its disk is full; this is then nothing
        raise
    connection.exec_driver_sql("COMMIT")
    connection.commit()


def _sqlite_engine(url: str) -> sa.Engine:
    engine = sa.create_engine(
        url, pool_size=4, max_overflow=8, pool_timeout=POOL_SECONDS, connect_args={"timeout": BUSY_SECONDS}
    )

    @event.listens_for(engine, "connect")
    def _configure(dbapi_connection: object, _: object) -> None:
        dbapi_connection.isolation_level = None  # type: ignore[attr-defined]  # we send BEGIN ourselves
        cursor = dbapi_connection.cursor()  # type: ignore[attr-defined]
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "cache_size=-16000",
            "wal_autocheckpoint=4000",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


@contextmanager
def translated(service: str) -> Iterator[None]:
    """Turns what a database driver raises for outside reasons into our own errors, said plainly."""
    try:
        yield
    except PenstockError:
        raise
    except PoolTimeout as error:
        raise Unavailable(
            f"the {service}'s database is busy: no connection came free in {POOL_SECONDS:g} s", code="sql_unavailable"
        ) from error
    except DBAPIError as error:
        text = str(error.orig)
        if isinstance(error, DataError) and "NUL" in text:  # PostgreSQL's; SQLite would keep it
            raise InvalidInput("a text has a NUL character, which no text may have", code="bad_text") from error
        if "full" in text and ("disk" in text or "space" in text):
            raise disk_full(f"the {service}'s database") from error
        sqlstate = getattr(error.orig, "sqlstate", "")
        first = text.strip().splitlines()[0] if text.strip() else "no answer"
        if sqlstate in NO_RIGHT:
            raise Unavailable(
                f"the {service}'s role in the database may not do that: {first}",
                code="sql_refused",
                cause="its role lacks rights",
            ) from error
        if sqlstate is None and "invalid connection option" in text:
            raise InvalidInput(f"{service}.database_url has an {first}", code="settings") from error
        read_only = sqlstate == READ_ONLY
        if isinstance(error, OperationalError) or error.connection_invalidated or read_only:
            raise Unavailable(
                f"the {service}'s database can't be used: {first}", code="sql_unavailable", cause=_cause(error, text)
            ) from error
        raise


def _cause(error: DBAPIError, text: str) -> str:
    """What is wrong with the database, where that is known for sure."""
    sqlstate = getattr(error.orig, "sqlstate", "")
    if sqlstate == READ_ONLY or "readonly database" in text:
        return "it is read-only"
    if "too many clients" in text or "remaining connection slots" in text or "too many connections" in text:
        return "PostgreSQL has too many clients"
    if sqlstate is None or error.connection_invalidated:  # there is no connection, or none any more
        refused = "FATAL" in text and "the database system is" not in text and not sqlstate
        return "PostgreSQL refuses the connection" if refused else "PostgreSQL does not answer"
    return ""
