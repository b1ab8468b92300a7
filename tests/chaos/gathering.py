"""What is left when all has come to rest: the witnesses' logs, the rows and the readers' view, as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson
import sqlalchemy as sa

from scheduler.store.schema import attempts, items, ledger, runs
from tests.chaos.cluster import TERM_SECONDS, Cluster
from tests.chaos.executed import MENDED
from tests.chaos.model import Evidence, Execution, Item, Lease, Rate, RunSeen
from tests.chaos.operators import Operators
from tests.chaos.traffic import DOMAIN_BOUND, PROVIDER, RATE_BURST, Started, Traffic
from tests.rules import breaches

__all__ = ["executions", "gather"]

NEVER_RAN = ("queued", "skipped", "stopped")


def executions(folder: Path, deaths: Mapping[int, float]) -> Iterator[Execution]:
    """Of all logs; deaths: when which process was killed."""
    for file in sorted(folder.iterdir()):
        if file.name == MENDED:
            continue
        begun: dict[tuple[str, str, str], tuple[float, str]] = {}
        pid = int(file.name)
        for line in file.read_text().splitlines():
            word, nanoseconds, run_id, _, seq, attempt, mode, micros = line.split()
            moment, key = int(nanoseconds) / 1e6, (run_id, seq, attempt)
            if word == "begins":
                if key in begun:  # twice in one process: two executions
                    yield _execution(pid, key, begun[key], None)
                begun[key] = (moment, mode)
            else:
                begin = begun.pop(key)
                yield _execution(pid, key, begin, moment, micros=int(micros), ended=word == "ends")
        for key, begin in begun.items():
            yield _execution(pid, key, begin, deaths.get(pid))


def _execution(
    pid: int,
    key: tuple[str, str, str],
    begin: tuple[float, str],
    end: float | None,
    *,
    micros: int = 0,
    ended: bool = False,
) -> Execution:
    run_id, seq, attempt = key
    return Execution(begin[0], pid, run_id, int(seq), int(attempt), begin[1], end, micros, ended)


def gather(cluster: Cluster, traffic: Traffic, operators: Operators, *, disturbances: int) -> Evidence:
    """Needs everything to be at rest."""
    deaths = {pid: moment for program in cluster.workers for pid, moment in program.deaths.items()}
    engine = cluster.engine()
    try:
        with engine.connect() as connection:
            found = [_run(connection, traffic, one) for one in traffic.started]
            wrong = [str(breach) for breach in breaches(connection)]
    finally:
        engine.dispose()
    return Evidence(
        executions=list(executions(cluster.executions, deaths)),
        runs=found,
        suspended=frozenset(cluster.suspended),
        rooms={"domain:*": DOMAIN_BOUND},
        rates=[Rate(PROVIDER, traffic.rate, RATE_BURST)],
        closures=operators.closures,
        breaches=wrong,
        term_ms=TERM_SECONDS * 1000,
        disturbances=disturbances,
    )


def _run(connection: sa.Connection, traffic: Traffic, one: Started) -> RunSeen:
    state = connection.execute(sa.select(runs.c.state).where(runs.c.number == one.number)).scalar_one()
    rows = connection.execute(sa.select(items).where(items.c.run == one.number)).all()
    lanes = {row.seq: row.lane or "" for row in rows}
    leases = {
        (row.seq, row.attempt): Lease(
            row.seq, row.attempt, row.start_ms or row.end_ms, row.end_ms, row.ended, lanes.get(row.seq, "")
        )
        for row in connection.execute(sa.select(attempts).where(attempts.c.run == one.number))
    }
    for row in rows:
        key = (row.seq, row.attempt)
        if key not in leases and row.state not in NEVER_RAN and row.start_ms is not None:
            end = None if row.state == "running" else row.end_ms
            leases[key] = Lease(row.seq, row.attempt, row.start_ms, end, row.state, row.lane or "")
    spent = connection.execute(sa.select(ledger.c.time_ms, ledger.c.micros).where(ledger.c.run == one.number))
    return RunSeen(
        number=one.number,
        run_id=one.run_id,
        kind=one.kind,
        state=state,
        items={row.seq: _item(row) for row in rows},
        leases=list(leases.values()),
        told=traffic.outcomes(one),
        concurrency=one.concurrency,
        budgets=one.budgets,
        spent=[(row.time_ms, row.micros) for row in spent],
        pauses=one.pauses,
        skipped=traffic.skipped(one),
    )


def _item(row: sa.Row) -> Item:  # type: ignore[type-arg]
    result = orjson.loads(row.result) if row.result else None
    return Item(
        seq=row.seq,
        state=row.state,
        attempt=row.attempt,
        tries=row.tries,
        end_ms=row.end_ms or 0,
        settle_number=row.settle_number,
        error_kind=row.error_kind or "",
        cost_micros=row.cost_micros,
        result_attempt=result["attempt"] if result else 0,
    )
