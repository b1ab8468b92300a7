"""What one scheduler at a time does, as rows with a term: leading the sweeps, seeing to worker pods, holding a database
that takes no second scheduler; and whose data Redis holds (`redis`: its value is the generation).

A grant reads the generation with the row locked FOR SHARE, whoever makes Redis anew locks it FOR UPDATE: so every grant
stands either in the rows from which Redis is made, or under the generation that it was proposed from.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from scheduler.store.statements import Rows, Statement

__all__ = [
    "GENERATION",
    "PODS",
    "REDIS",
    "SCHEDULER",
    "SWEEPS",
    "Leader",
    "begin_rebuild",
    "end_rebuild",
    "generation_of",
    "leader",
    "take",
]

REDIS, SWEEPS, SCHEDULER, PODS = "redis", "sweeps", "scheduler", "pods"


@dataclass(frozen=True)
class Leader:
    holder: str
    value: str
    until_ms: int


# Take or renew a term that is one's own, or over.
_TAKE = sa.text("""
INSERT INTO leaders (name, holder, value, until_ms) VALUES (:name, :holder, '', :until)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms
WHERE leaders.holder = excluded.holder OR leaders.until_ms <= :now OR :force
RETURNING 1
""")
# Who has a name now.
_READ = sa.text("SELECT holder, value, until_ms FROM leaders WHERE name = :name")
# Whose data Redis holds, for a grant: nobody makes it anew before the grant has committed.
GENERATION = Statement(
    "SELECT value FROM leaders WHERE name = 'redis'",
    postgresql="SELECT value FROM leaders WHERE name = 'redis' FOR SHARE",
)
# The same, for who is to make it anew.
_READ_ALONE = "SELECT holder, value, until_ms FROM leaders WHERE name = 'redis'"
# The row to lock, where there is none yet.
_MAKE = sa.text("""
INSERT INTO leaders (name, holder, value, until_ms) VALUES ('redis', '', '', 0) ON CONFLICT (name) DO NOTHING
""")
# A new generation, and until when its maker is waited for.
_BEGIN = sa.text("UPDATE leaders SET holder = :holder, value = :value, until_ms = :until WHERE name = 'redis'")
# It is made, if it is still the one.
_END = sa.text("UPDATE leaders SET until_ms = 0 WHERE name = 'redis' AND holder = :holder AND value = :value")


def leader(connection: sa.Connection, name: str) -> Leader | None:
    row = connection.execute(_READ, {"name": name}).one_or_none()
    return None if row is None else Leader(row[0], row[1], int(row[2]))


def take(connection: sa.Connection, name: str, holder: str, *, now_ms: int, until_ms: int, force: bool = False) -> bool:
    """Whether the term is this holder's now."""
    values = {"name": name, "holder": holder, "now": now_ms, "until": until_ms, "force": force}
    return connection.execute(_TAKE, values).one_or_none() is not None


def generation_of(rows: Rows) -> str:
    """What GENERATION answers; "" before Redis was ever made."""
    return str(rows[0][0]) if rows else ""


def begin_rebuild(connection: sa.Connection, holder: str, value: str, *, now_ms: int, until_ms: int) -> bool:
    """Voids what was proposed before under any generation; false while another scheduler is at it."""
    connection.execute(_MAKE)
    alone = "" if connection.dialect.name == "sqlite" else " FOR UPDATE"
    row = connection.execute(sa.text(_READ_ALONE + alone)).one()
    if row.holder != holder and row.until_ms > now_ms:
        return False
    connection.execute(_BEGIN, {"holder": holder, "value": value, "until": until_ms})
    return True


def end_rebuild(connection: sa.Connection, holder: str, value: str) -> None:
    """Others may go on with what was made."""
    connection.execute(_END, {"holder": holder, "value": value})
