"""Exclusive keys: of all live runs, one has each ("one orchestration per project").

A run takes its keys in the transaction that makes or reopens it, and loses them in the one that ends it; what decides
is a unique index over the held rows, so two schedulers can't both succeed. They are all taken or none. Rows stay when
the run ends, so that the run knows what to take again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from penstock.runtime.errors import Conflict, InvalidInput, Unavailable
from scheduler.store.schema import exclusive_keys, runs

__all__ = ["MAX_KEYS", "checked", "free", "keys_of", "retake", "take"]

MAX_KEYS = 16
MAX_CHARACTERS = 200
LOOKS = 5
"""A key may be freed and taken by others between two looks; this many times we try."""

# Takes a key unless another run holds it; on PostgreSQL it waits for a transaction that is about to.
_TAKE = sa.text(
    "INSERT INTO exclusive_keys (run, key, held) VALUES (:run, :key, true)"
    " ON CONFLICT (key) WHERE held DO NOTHING RETURNING key"
)
# Lets go of what a run held, and keeps its names.
_FREE = (
    sa.update(exclusive_keys).where(exclusive_keys.c.run == sa.bindparam("n"), exclusive_keys.c.held).values(held=False)
)
# The names that a run took at its start.
_KEYS = sa.select(exclusive_keys.c.key).where(exclusive_keys.c.run == sa.bindparam("n")).order_by(exclusive_keys.c.key)
# Clears a run's own row before it takes the key again.
_CLEAR = sa.delete(exclusive_keys).where(
    exclusive_keys.c.run == sa.bindparam("n"), exclusive_keys.c.key == sa.bindparam("k")
)
# Which run holds a key.
_HOLDER = (
    sa.select(runs.c.number, runs.c.run_id, runs.c.name, runs.c.state)
    .join(exclusive_keys, exclusive_keys.c.run == runs.c.number)
    .where(exclusive_keys.c.key == sa.bindparam("k"), exclusive_keys.c.held)
)


def checked(keys: Iterable[str]) -> list[str]:
    """The keys, sorted, each once. Raises InvalidInput that names every bad one."""
    found = sorted(set(keys))
    if len(found) > MAX_KEYS:
        raise InvalidInput(f"{len(found)} exclusive keys; at most {MAX_KEYS} are taken", code="bad_exclusive_key")
    bad = [key for key in found if not key or len(key) > MAX_CHARACTERS or not key.isprintable() or " " in key]
    if bad:
        raise InvalidInput(
            f"exclusive key {', '.join(repr(key[:80]) for key in bad)} can't be taken: 1 to {MAX_CHARACTERS} printable "
            "characters without a space, e.g. project:x",
            code="bad_exclusive_key",
        )
    return found


def take(connection: sa.Connection, run: int, keys: Sequence[str]) -> None:
    """Takes these keys (see `checked`) for a run, in order of key, all or none. Raises Conflict `exclusive_key_held`
    with the holder's id."""
    for key in sorted(set(keys)):
        for _ in range(LOOKS):
            connection.execute(_CLEAR, {"n": run, "k": key})
            if connection.execute(_TAKE, {"run": run, "key": key}).scalar() is not None:
                break
            holder = connection.execute(_HOLDER, {"k": key}).one_or_none()
            if holder is not None:
                called = f" ({holder.name})" if holder.name else ""
                raise Conflict(
                    f"exclusive key {key!r} is held by run {holder.run_id}{called}, which is {holder.state}; "
                    "wait for its end, or stop it",
                    code="exclusive_key_held",
                    key=key,
                    run_id=holder.run_id,
                )
        else:
            raise Unavailable(f"exclusive key {key!r} changes hands just now; try again", code="exclusive_key_busy")


def retake(connection: sa.Connection, run: int) -> None:
    """Takes again what a run held that is reopened. Raises Conflict like `take`."""
    take(connection, run, keys_of(connection, run))


def free(connection: sa.Connection, run: int) -> None:
    """Lets go of all keys of a run that has ended."""
    connection.execute(_FREE, {"n": run})


def keys_of(connection: sa.Connection, run: int) -> list[str]:
    """The keys that a run took at its start, held or not."""
    return list(connection.execute(_KEYS, {"n": run}).scalars())
