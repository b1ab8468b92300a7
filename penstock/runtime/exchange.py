"""Statements that a PostgreSQL server is sent together: one exchange with it, its BEGIN and its COMMIT included.

The driver begins a transaction by itself, and waits for the answer to that. So our own BEGIN goes with the rest, and a
connection that carries it is in autocommit, as the driver calls it, until its transaction is over: `given_back` ends
that when the connection returns to its pool. Nobody else may touch that switch.

What a statement raises is the driver's own error; the server carries out none that was sent after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

__all__ = ["Rows", "Values", "exchanged", "exchanged_each", "given_back"]

Values = Mapping[str, Any] | Sequence[Any]
Rows = Sequence[tuple[Any, ...]]
_IDLE = 0
"""PostgreSQL's word for a connection on which no transaction has begun."""


def exchanged(driver: Any, asked: Sequence[tuple[str, Values]], *, ends: bool) -> list[Rows]:
    """What each of these texts answers, in order (nothing: it only writes). A transaction begins with them where none
    has; `ends`: it is committed with them. driver: the psycopg connection."""
    begins = driver.pgconn.transaction_status == _IDLE
    cursors = [driver.cursor() for _ in asked]
    own = driver.cursor()
    try:
        if begins:
            driver.autocommit = True
        # A pipeline waits for all answers at its end. For one statement alone it only costs.
        with _pipeline(driver) if begins or ends or len(asked) > 1 else nullcontext():
            if begins:
                level = driver.isolation_level  # None: the server's own
                how = f" ISOLATION LEVEL {level.name}".replace("_", " ") if level else ""
                own.execute(f"BEGIN{how}", prepare=False)
            for cursor, (text, values) in zip(cursors, asked, strict=True):
                cursor.execute(text, values)
            if ends:
                own.execute("COMMIT", prepare=False)
        # Not by its `description`: that is made anew, column by column, each time it is asked for.
        return [[] if cursor.rownumber is None else cursor.fetchall() for cursor in cursors]
    finally:
        for cursor in (own, *cursors):
            cursor.close()


def exchanged_each(driver: Any, text: str, values: Sequence[Values]) -> int:
    """How many rows this text changed, executed for each of these. driver: the psycopg connection."""
    with driver.cursor() as cursor:
        # What the driver executes many times it puts into a pipeline, of its own where there is none.
        with _pipeline(driver):
            cursor.executemany(text, values)
        count: int = cursor.rowcount
    return count


def given_back(driver: Any) -> None:
    """The next transaction on this connection is the driver's again."""
    if driver is not None and driver.autocommit and not driver.closed:
        driver.autocommit = False


@contextmanager
def _pipeline(driver: Any) -> Iterator[None]:
    """The driver's pipeline, ended by a Sync alone.

    The driver's own end is a Sync and a Flush. With the Sync PostgreSQL begins to count towards
    `idle_in_transaction_session_timeout`, and with the Flush it stops: locks of a scheduler that is frozen, or cut off,
    would be held for as long as it is.
    """
    with driver.pipeline() as pipeline:
        fetch = pipeline._fetch_gen
        pipeline._fetch_gen = lambda *, flush: fetch(flush=False)
        yield
