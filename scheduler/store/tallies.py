"""What a summary shows without counting: failures by fingerprint, items settled by minute.

Both grow in the transaction that settles the items, under the run's lock, so they say what the rows say. A call takes
one or two statements, one more when a fingerprint or a minute is new, and never reads items. A failure here fails the
transaction, as any other statement would. Tables are bounded: `MOST_GROUPS` fingerprints of a stage, beyond which new
ones count as `OTHER`; `MINUTES` of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson
import sqlalchemy as sa

from scheduler.store.statements import Statement, array, listed

__all__ = ["MINUTES", "MOST_GROUPS", "OTHER", "note_failures", "note_settled"]

MOST_GROUPS = 1_000
OTHER = "other"
MINUTES = 70
EXAMPLE_CHARACTERS = 500
MINUTE_MS = 60_000

Failure = tuple[str, str, int, str, str]
"""fingerprint, kind, seq, key, error."""


@dataclass
class _Group:
    kind: str
    count: int
    seq: int
    key: str
    error: str


_INSERT = "INSERT INTO failures (run, stage, fingerprint, kind, count, seq, key, error, first_ms, last_ms) "
_ADD = (
    " ON CONFLICT (run, stage, fingerprint) DO UPDATE SET count = failures.count + excluded.count, "
    "last_ms = excluded.last_ms"
)
# Add to the groups that there are, make the new ones; the first failure of a group stays its example.
_GROUPS = Statement(
    _INSERT + "SELECT :run, :stage, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, "
    ":now, :now FROM json_each(:rows) WHERE true" + _ADD,
    postgresql=_INSERT + "SELECT :run, :stage, v.fingerprint, v.kind, v.count, v.seq, v.key, v.error, :now, :now "
    "FROM unnest(CAST(:fingerprints AS text[]), CAST(:kinds AS text[]), CAST(:counts AS bigint[]), "
    "CAST(:seqs AS bigint[]), CAST(:keys AS text[]), CAST(:errors AS text[])) "
    "AS v(fingerprint, kind, count, seq, key, error)" + _ADD,
)
# Which of these fingerprints the stage has.
_KNOWN = Statement(
    "SELECT fingerprint FROM failures WHERE run = :run AND stage = :stage "
    "AND fingerprint IN (SELECT value FROM json_each(:fingerprints))",
    postgresql="SELECT f.fingerprint FROM unnest(CAST(:fingerprints AS text[])) AS v(fingerprint) CROSS JOIN LATERAL "
    "(SELECT fingerprint FROM failures WHERE run = :run AND stage = :stage AND fingerprint = v.fingerprint OFFSET 0) "
    "AS f",
)
# How many a stage has; at most MOST_GROUPS + 1.
_COUNT = Statement("SELECT count(*) FROM failures WHERE run = :run AND stage = :stage AND fingerprint <> :other")

# Add to the minute; answers what it has now.
_MINUTE = Statement("""
INSERT INTO throughput (run, minute, settled) VALUES (:run, :minute, :count)
ON CONFLICT (run, minute) DO UPDATE SET settled = throughput.settled + excluded.settled
RETURNING settled
""")
# Forget the minutes that no summary reads.
_FORGET = Statement("DELETE FROM throughput WHERE run = :run AND minute < :oldest")


def note_failures(connection: sa.Connection, run: int, stage: int, failures: Iterable[Failure], now_ms: int) -> None:
    """Counts failures by fingerprint. The caller holds the run's lock, on which the bound of groups rests."""
    groups: dict[str, _Group] = {}
    for fingerprint, kind, seq, key, error in failures:
        group = groups.get(fingerprint)
        if group is None:
            groups[fingerprint] = _Group(kind, 1, seq, key, error[:EXAMPLE_CHARACTERS])
        else:
            group.count += 1
    if not groups:
        return
    stage_of = {"run": run, "stage": stage}
    asked = {**stage_of, "fingerprints": listed(connection, list(groups), "text")}
    known = {fingerprint for (fingerprint,) in _KNOWN.rows(connection, asked)}
    new = [fingerprint for fingerprint in groups if fingerprint not in known and fingerprint != OTHER]
    there = _COUNT.rows(connection, {**stage_of, "other": OTHER})[0][0] if new else 0
    for fingerprint in new[max(0, MOST_GROUPS - there) :]:
        group = groups.pop(fingerprint)
        other = groups.setdefault(OTHER, _Group(group.kind, 0, group.seq, group.key, group.error))
        other.count += group.count
    _write(connection, run, stage, list(groups.items()), now_ms)


def _write(connection: sa.Connection, run: int, stage: int, groups: Sequence[tuple[str, _Group]], now_ms: int) -> None:
    common = {"run": run, "stage": stage, "now": now_ms}
    if connection.dialect.name == "sqlite":
        rows = orjson.dumps([(f, g.kind, g.count, g.seq, g.key, g.error) for f, g in groups]).decode()
        _GROUPS.run(connection, {**common, "rows": rows})
        return
    _GROUPS.run(
        connection,
        {
            **common,
            "fingerprints": array([f for f, _ in groups], "text"),
            "kinds": array([g.kind for _, g in groups], "text"),
            "counts": array([g.count for _, g in groups], "bigint"),
            "seqs": array([g.seq for _, g in groups], "bigint"),
            "keys": array([g.key for _, g in groups], "text"),
            "errors": array([g.error for _, g in groups], "text"),
        },
    )


def note_settled(connection: sa.Connection, run: int, now_ms: int, count: int) -> None:
    """Counts items that ended, into the minute of `now_ms`."""
    if not count:
        return
    minute = now_ms // MINUTE_MS
    ((total,),) = _MINUTE.rows(connection, {"run": run, "minute": minute, "count": count})
    if total == count:
        _FORGET.run(connection, {"run": run, "oldest": minute - MINUTES + 1})
