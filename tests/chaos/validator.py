"""What must be true afterwards: by the witnesses' logs, which Penstock does not know of, and by the rows."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from scheduler.store.schema import attempts, items, runs
from tests.chaos.cluster import TERM_SECONDS, Cluster
from tests.chaos.slots import unlike_leases
from tests.chaos.traffic import DOMAIN_BOUND, Traffic
from tests.rules import breaches

__all__ = ["Execution", "Verdict", "validate"]

_Span = tuple[int, int]

CLOCK_MARGIN_MS = 100
"""The witness writes wall time, the scheduler the time of its own clock."""


@dataclass(frozen=True)
class Execution:
    begin_ms: float
    pid: int
    run_id: str
    stage: int
    seq: int
    attempt: int


@dataclass(frozen=True)
class Verdict:
    """problems: what is wrong; the rest for the report."""

    problems: list[str]
    executions: int
    repeated: int
    most_in_domain: int


def executions(cluster: Cluster) -> Iterator[Execution]:
    for file in sorted(cluster.executions.iterdir()):
        for line in file.read_text().splitlines():
            word, moment, run_id, stage, seq, attempt = line.split()
            if word == "begins":
                yield Execution(int(moment) / 1e6, int(file.name), run_id, int(stage), int(seq), int(attempt))


def validate(cluster: Cluster, traffic: Traffic, *, disturbances: int) -> Verdict:
    problems: list[str] = []
    engine = cluster.engine()
    seen = sorted(executions(cluster), key=lambda one: one.begin_ms)
    repeated = 0
    spans: dict[str, list[_Span]] = defaultdict(list)
    with engine.connect() as connection:
        problems += [str(breach) for breach in breaches(connection)]
        for one in traffic.started:
            state = connection.execute(sa.select(runs.c.state).where(runs.c.number == one.number)).scalar_one()
            if state != "completed":
                problems.append(f"run {one.number} is {state}")
            found = connection.execute(sa.select(items).where(items.c.run == one.number)).all()
            rows = {row.seq: row for row in found}
            states = Counter(row.state for row in found)
            if states != {"completed": one.items}:
                problems.append(f"run {one.number}: {dict(states)} of {one.items}")
            settled = Counter(row.settle_number for row in found)
            if len(settled) != one.items:
                problems.append(f"run {one.number}: {one.items} items have {len(settled)} settle numbers")
            mine = [execution for execution in seen if execution.run_id == one.run_id]
            repeated += len(mine) - len({execution.seq for execution in mine})
            problems += _executed(cluster, one.number, mine, rows)
            if not one.limited:
                problems += _order(connection, one.number, one.concurrency, disturbances)
            leases = _leases(connection, one.number)
            for lane, found_leases in leases.items():
                spans[lane] += found_leases
            held = _most_at_once([span for found_leases in leases.values() for span in found_leases])
            if held > one.concurrency:
                problems.append(f"run {one.number}: {held} leases at once, {one.concurrency} are allowed")
    spans.pop("", None)
    most = max(map(_most_at_once, spans.values()), default=0)
    problems += _slots(cluster)
    if most > DOMAIN_BOUND:
        problems.append(f"{most} leases of one domain at once, {DOMAIN_BOUND} are allowed")
    engine.dispose()
    return Verdict(problems, len(seen), repeated, most)


def _executed(cluster: Cluster, number: int, mine: list[Execution], rows: dict[int, sa.Row]) -> Iterator[str]:  # type: ignore[type-arg]
    missing = set(rows) - {execution.seq for execution in mine}
    if missing:
        yield f"run {number}: {len(missing)} items were never executed, e.g. {min(missing)}"
    for pair, count in Counter((execution.seq, execution.attempt) for execution in mine).items():
        if count > 1:
            yield f"run {number}: attempt {pair[1]} of item {pair[0]} was executed {count} times"
    for execution in mine:
        row = rows.get(execution.seq)
        if row is None:
            yield f"run {number}: item {execution.seq} was executed and has no row"
        elif execution.attempt > row.attempt:
            yield f"run {number}: attempt {execution.attempt} of item {execution.seq} has no row ({row.attempt})"
        elif execution.begin_ms > row.end_ms + CLOCK_MARGIN_MS:
            if execution.attempt >= row.attempt:
                yield f"run {number}: item {execution.seq} was granted after it completed"
            elif execution.pid not in cluster.suspended:
                yield f"run {number}: item {execution.seq} was executed after it completed, by a process in good health"


def _order(connection: sa.Connection, number: int, concurrency: int, disturbances: int) -> Iterator[str]:
    """First leases in order of seq, but for what was lost on its way: at a disturbance at most what was in flight."""
    starts: dict[int, int] = {}
    first = sa.select(attempts.c.seq, attempts.c.start_ms).where(attempts.c.run == number, attempts.c.attempt == 1)
    for seq, start in connection.execute(first):
        starts[seq] = start
    only = sa.select(items.c.seq, items.c.start_ms).where(items.c.run == number, items.c.attempt == 1)
    for seq, start in connection.execute(only):
        starts[seq] = start
    late = 0
    latest = 0
    for seq in sorted(starts, reverse=True):
        # Seen from the end: who starts after somebody of a higher rank has started was passed over.
        if latest and starts[seq] > latest:
            late += 1
        latest = min(latest or starts[seq], starts[seq])
    if late > disturbances * concurrency:
        yield f"run {number}: {late} items started after one behind them; {disturbances} disturbances excuse fewer"


def _leases(connection: sa.Connection, number: int) -> dict[str, list[_Span]]:
    """From when to when each lane's leases were held, by the rows of all attempts."""
    spans: dict[str, list[_Span]] = defaultdict(list)
    lanes: dict[int, str] = {}
    last = sa.select(items.c.seq, items.c.lane, items.c.start_ms, items.c.end_ms).where(items.c.run == number)
    for seq, lane, start, end in connection.execute(last):
        lanes[seq] = lane or ""
        if start is not None and end is not None:
            spans[lanes[seq]].append((start, end))
    before = sa.select(attempts.c.seq, attempts.c.start_ms, attempts.c.end_ms).where(attempts.c.run == number)
    for seq, start, end in connection.execute(before):
        spans[lanes.get(seq, "")].append((start, end))
    return spans


def _most_at_once(spans: list[_Span]) -> int:
    """Of leases that end and begin in one millisecond the end is first."""
    edges = sorted([(end, -1) for start, end in spans if end > start] + [(s, 1) for s, end in spans if end > s])
    most = held = 0
    for _, step in edges:
        held += step
        most = max(most, held)
    return most


def _slots(cluster: Cluster) -> list[str]:
    """Nothing runs, so nobody holds a lease or a slot: at the latest when the last lease has run out and been swept."""
    client = cluster.redis_client()
    deadline = time.monotonic() + 3 * TERM_SECONDS
    while True:
        held = {key.decode(): client.zcard(key) for key in client.scan_iter("*:leases:*")}
        wrong = [f"{name} still has {count} leases" for name, count in held.items() if count]
        wrong += unlike_leases(client)
        if not wrong or time.monotonic() > deadline:
            return wrong
        time.sleep(0.2)
