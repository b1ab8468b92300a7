"""`custom` selections: the keys that a stranger's SELECT gives, one query at a time, four waiting.

What goes wrong in a query is the asker's to mend and told as InvalidInput, with the place in the text where DuckDB
gives one. What goes wrong with the sandbox itself is Unavailable. Nothing is kept of a query that fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import orjson

from penstock.runtime.blobs import blob_trouble
from penstock.runtime.errors import InvalidInput, Overloaded, PenstockError, Unavailable
from planner.sandbox.process import Bounds, Child, Ended, NotStarted, Refusal
from planner.sandbox.tables import Table

__all__ = ["MAX_CHARACTERS", "Sandbox", "Selected", "read_keys"]

MAX_CHARACTERS = 262_144
"""Of a query: room for ten thousand keys in a list."""

NOBODY = 65_534
_BATCH_KEYS = 10_000


@dataclass(frozen=True)
class Selected:
    """count: keys in the file. peak_bytes: memory of the process at most; seconds: from its start to its end."""

    count: int
    peak_bytes: int
    seconds: float


class Sandbox:
    def __init__(
        self,
        *,
        seconds: float = 30.0,
        memory_bytes: int = 2 << 30,
        keys: int = 10_000_000,
        waiting: int = 4,
        user: int = NOBODY,
    ) -> None:
        """Bounds of each query: wall time, which is also its processor time; address space; keys that it may give.
        waiting: how many may wait for the one that runs. user: whom its process becomes where the planner is root."""
        self._bounds = Bounds(seconds=seconds, memory_bytes=memory_bytes, keys=keys, user=user)
        self._lock = asyncio.Lock()
        self._waiting = waiting
        self._here = 0

    async def select(self, sql: str, tables: Mapping[str, Table], *, keys_of: Sequence[str], into: Path) -> Selected:
        """Runs the query over these tables and writes the keys, each once, into the new file `into`.

        The file has a line `{"key":"…"}` for each (`read_keys`; DuckDB's read_json with newline_delimited), in the
        order of the result, each at its first place. Whether there are such keys, the caller looks up. keys_of: the
        columns of the result that may hold them, the best first; a single column may have any name.
        Raises InvalidInput (bad_sql, sql_refused, sql_too_long, sql_no_key, sql_null_key, sql_rows, sql_timeout,
        sql_memory, sql_broken), Overloaded, Unavailable; then there is no file.
        """
        _check_text(sql)
        if self._here > self._waiting:
            raise Overloaded(
                f"a query runs and {self._waiting} wait for it to end; try again after a moment", code="sql_busy"
            )
        self._here += 1
        try:
            async with self._lock:
                ended = await self._ran(sql, tables, keys_of, into)
        finally:
            self._here -= 1
        if ended.refusal is not None:
            raise self._error(ended.refusal, sql)
        return Selected(count=ended.count, peak_bytes=ended.peak_bytes, seconds=ended.seconds)

    async def _ran(self, sql: str, tables: Mapping[str, Table], keys_of: Sequence[str], into: Path) -> Ended:
        child = Child(self._bounds)
        running = asyncio.ensure_future(asyncio.to_thread(child.run, sql, tables, keys_of=keys_of, into=into))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            child.stop()
            with suppress(OSError, NotStarted):
                await running
            await asyncio.to_thread(into.unlink, missing_ok=True)  # where it had just ended well
            raise
        except NotStarted as error:
            raise Unavailable(f"no process can be had for a query: {error}", code="sandbox_unavailable") from error
        except OSError as error:
            raise blob_trouble(error, into.parent) from error

    def _error(self, refusal: Refusal, sql: str) -> PenstockError:
        bounds = self._bounds
        match refusal.code:
            case "unreadable":
                return Unavailable(f"a snapshot can't be read: {refusal.message}", code="blob_store_unavailable")
            case "unconfined":
                return Unavailable(
                    f"this machine can't shut a query in, so none is run: {refusal.message}",
                    code="sandbox_unavailable",
                )
            case "sql_timeout":
                text = f"the query takes longer than {bounds.seconds:g} s; ask for less, or join on equal columns"
            case "sql_memory":
                text = f"the query needs more than {bounds.memory_bytes >> 20} MiB of memory; ask for less"
            case "sql_rows":
                text = f"the query gives more than {bounds.keys:,} keys, or very long ones; add a WHERE or a LIMIT"
            case "sql_broken":
                text = "DuckDB broke off at this query; write it more simply"
            case _:
                text = _pointed(refusal, sql)
        return InvalidInput(text, code=refusal.code)


def read_keys(place: Path) -> Iterator[list[str]]:
    """The keys of a file that `select` made, in order, many at a time."""
    with place.open("rb") as file:
        while lines := list(islice(file, _BATCH_KEYS)):
            yield [orjson.loads(line)["key"] for line in lines]


def _check_text(sql: str) -> None:
    if not sql.strip():
        raise InvalidInput("the query is empty: write one SELECT that gives keys", code="bad_sql")
    if len(sql) > MAX_CHARACTERS:
        raise InvalidInput(
            f"the query has {len(sql):,} characters; at most {MAX_CHARACTERS:,} are taken", code="sql_too_long"
        )
    if "\0" in sql or any(0xD800 <= ord(character) < 0xE000 for character in sql):
        raise InvalidInput("the query has a character that no text may have (NUL or half of a pair)", code="bad_sql")


def _pointed(refusal: Refusal, sql: str) -> str:
    """The message, with the line that it is about and a caret under the place."""
    data = sql.encode()
    if not 0 <= refusal.position <= len(data):
        return f"the query: {refusal.message}"
    before = data[: refusal.position].decode("utf-8", "ignore")
    row, column = before.count("\n"), len(before) - (before.rfind("\n") + 1)
    line = sql.split("\n")[row]
    first = max(0, column - 60)
    shown = line[first : first + 120].replace("\t", " ")
    return f"the query, line {row + 1}, column {column + 1}: {refusal.message}\n{shown}\n{' ' * (column - first)}^"
