"""Statements of the hot path: given to the driver as they are, rows taken as the driver gives them.

SQLAlchemy's own way costs 0.1 ms a statement for texts (it describes the rows of each execution anew), which at a dozen
statements a batch is half of what a batch costs. Connections, transactions and errors stay SQLAlchemy's; an engine that
somebody listens to is served in its way, so that listeners see every statement.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

from penstock.runtime.exchange import Rows, Values, exchanged, exchanged_each

__all__ = ["Asked", "Rows", "Statement", "Values", "array", "finish", "listed", "together"]

_NAME = re.compile(r"(?<![:\w]):([a-z_]+)")
_BIND = re.compile(r"(?<![:\w]):(\w+)|%\((\w+)\)s|__\[POSTCOMPILE_(\w+)\]")
_DIALECTS: dict[str, sa.Dialect] = {
    "sqlite": sa.create_engine("sqlite://", paramstyle="named").dialect,
    "postgresql": sa.create_engine("postgresql+psycopg://").dialect,
}


class Statement:
    """One text, or one for each database; values are named `:so`. On SQLite they may be `?`, in order."""

    def __init__(self, text: str, *, postgresql: str = "") -> None:
        self._texts = {"sqlite": text, "postgresql": _NAME.sub(r"%(\1)s", (postgresql or text).replace("%", "%%"))}

    @classmethod
    def of(cls, query: sa.ClauseElement, *, columns: Sequence[str] | None = None) -> Statement:
        """A query, compiled once for each database; values that it has already become part of its text. Rows come as
        the driver gives them (SQLite tells truth by 0 and 1). columns: those that an INSERT writes."""
        made = cls("")
        for name, dialect in _DIALECTS.items():
            compiled = query.compile(dialect=dialect, column_keys=columns)
            assert isinstance(compiled, SQLCompiler)
            fixed = {key: _literal(bind.value) for key, bind in compiled.binds.items() if not bind.required}
            if name == "postgresql":
                fixed = {key: literal.replace("%", "%%") for key, literal in fixed.items()}
            made._texts[name] = _filled(str(compiled), fixed)
        return made

    def text(self, dialect: str) -> str:
        """As its driver takes it."""
        return self._texts[dialect]

    def rows(self, connection: sa.Connection, values: Values) -> Rows:
        """What it answers."""
        text = self._texts[connection.dialect.name]
        if _listened(connection):
            result = connection.exec_driver_sql(text, _given(values))
            return [tuple(row) for row in result] if result.returns_rows else []
        cursor = _cursor(connection)
        try:
            cursor.execute(text, values)
            found: Rows = cursor.fetchall()
        except Exception as error:
            raise _told(connection, text, error) from error
        finally:
            cursor.close()
        return found

    def run(self, connection: sa.Connection, values: Values) -> int:
        """How many rows it changed."""
        text = self._texts[connection.dialect.name]
        if _listened(connection):
            return connection.exec_driver_sql(text, _given(values)).rowcount
        cursor = _cursor(connection)
        try:
            cursor.execute(text, values)
            count: int = cursor.rowcount
        except Exception as error:
            raise _told(connection, text, error) from error
        finally:
            cursor.close()
        return count

    def run_many(self, connection: sa.Connection, values: Sequence[Values]) -> int:
        """How many rows it changed, executed for each of these."""
        if len(values) == 1:
            return self.run(connection, values[0])
        text = self._texts[connection.dialect.name]
        if _listened(connection):
            return connection.exec_driver_sql(text, values).rowcount
        driver: Any = connection.connection.driver_connection
        try:
            if connection.dialect.name == "postgresql":
                return exchanged_each(driver, text, values)
            with contextlib.closing(driver.cursor()) as cursor:
                cursor.executemany(text, values)
                count: int = cursor.rowcount
        except Exception as error:
            raise _told(connection, text, error) from error
        return count


Asked = tuple[Statement, Values]


def together(connection: sa.Connection, asked: Sequence[Asked]) -> list[Rows]:
    """What each of these answers, in order (nothing: it only writes); on PostgreSQL they cost one exchange with the
    server, and so does the transaction's BEGIN with them."""
    if connection.dialect.name != "postgresql" or _listened(connection):
        return [statement.rows(connection, values) for statement, values in asked]
    return _exchange(connection, asked)


def finish(connection: sa.Connection, writes: Sequence[Asked]) -> None:
    """Writes these, the last of a transaction; on PostgreSQL in one exchange with its COMMIT. What one of them raises,
    the transaction ends with: no later one is carried out, and neither is the COMMIT. Elsewhere, and where there is
    nothing to write, the end stays with whoever has begun."""
    if not writes:
        return
    if connection.dialect.name != "postgresql" or _listened(connection):
        together(connection, writes)
    else:
        _exchange(connection, writes, ends=True)


def _exchange(connection: sa.Connection, asked: Sequence[Asked], *, ends: bool = False) -> list[Rows]:
    if not asked:
        return []
    texts = [(statement.text("postgresql"), values) for statement, values in asked]
    try:
        return exchanged(connection.connection.driver_connection, texts, ends=ends)
    except Exception as error:
        raise _told(connection, "; ".join(text for text, _ in texts), error) from error


def _listened(connection: sa.Connection) -> bool:
    return bool(connection._has_events or connection.engine._has_events)


def _given(values: Values) -> Any:
    return dict(values) if isinstance(values, Mapping) else tuple(values)


def _cursor(connection: sa.Connection) -> Any:
    return connection.connection.cursor()


def _told(connection: sa.Connection, text: str, error: Exception) -> Exception:
    """The driver's error as SQLAlchemy tells it; a connection that is broken is given up."""
    dialect = connection.dialect
    driver = dialect.loaded_dbapi
    if not isinstance(error, driver.Error):
        return error
    broken = not connection.invalidated and dialect.is_disconnect(error, connection.connection.dbapi_connection, None)
    if broken:
        connection.invalidate(error)
    return sa.exc.DBAPIError.instance(text, None, error, driver.Error, connection_invalidated=broken, dialect=dialect)


def array(values: Iterable[Any], type_: str) -> str:
    """The text of a PostgreSQL array of this type: text, bytea, boolean, or numbers. The driver turns lists into arrays
    value by value; joined texts cost a tenth of that."""
    if type_ == "text":
        return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}"
    if type_ == "bytea":
        return "{" + ",".join(["NULL" if value is None else f'"\\\\x{value.hex()}"' for value in values]) + "}"
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def listed(connection: sa.Connection, values: Sequence[Any], type_: str) -> str:
    """A list as one value: for SQLite's json_each, or for PostgreSQL's CAST as an array of this type."""
    return orjson.dumps(values).decode() if connection.dialect.name == "sqlite" else array(values, type_)


def _filled(text: str, fixed: Mapping[str, str]) -> str:
    """With these in place of what stands for them; what else stands for a value stays."""
    return _BIND.sub(lambda found: fixed.get(found[found.lastindex or 0], found[0]), text)


def _literal(value: object) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(_literal, value))
    raise TypeError(f"{value!r} can't be a part of a text; bind it")


def _quoted(value: str) -> str:
    if "\\" in value or '"' in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{value}"'
