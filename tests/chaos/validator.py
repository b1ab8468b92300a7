"""What must be true afterwards, rule by rule, over the witnesses' word and the rows. Pure: a test doctors the evidence.

Bounds of correctness are exact. Two kinds of time are not: the witnesses' clock and the schedulers' differ by a little
(CLOCK_MS), and what was proposed by a scheduler that was then stopped or killed comes back when its term is over
(LAG_MS; seconds in which nobody at all got a lease do not count: the machine may be loaded, or all schedulers dead).
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

from tests.chaos.model import Asked, Evidence, Execution, Lease, Problem, RunSeen

__all__ = ["RULES", "judge"]

CLOCK_MS = 100.0
LAG_MS = 60_000.0
"""A start may be so much later than its turn: a term, a sweep, the quiet after each gap, programs that start again."""
STILL_MS = 1_000.0
"""Above this the time between two starts, of whatever run, is counted as so much."""
RATE_LAG_MS = 12_000.0
"""A proposal takes from a rate; its grant is later by a stop of its scheduler, or by an outage of PostgreSQL."""
BACK_OFF_MS = 20_000.0
"""Above any back-off or deferral of this traffic."""
_AT_ONCE = {"unbegun", "released", "worker_lost"}

Found = Iterator[str]


def judge(evidence: Evidence) -> list[Problem]:
    """Everything that is wrong."""
    return [Problem(name, text) for name, rule in RULES.items() for text in rule(evidence)]


# -- nothing is lost, nothing recorded twice


def _lost(evidence: Evidence) -> Found:
    for run in evidence.runs:
        kind = run.kind
        missing = sorted(set(range(kind.items)) - set(run.items))
        if missing:
            yield f"run {run.number} ({kind.name}): {len(missing)} of {kind.items} items have no row, e.g. {missing[0]}"
        for item in run.items.values():
            if item.state not in ("completed", "failed", "skipped"):
                yield f"run {run.number} ({kind.name}): item {item.seq} is {item.state}"
        for seq in kind.fails:
            if kind.fails[seq] == "worker_lost" and seq in run.items and run.items[seq].state != "failed":
                yield f"run {run.number}: item {seq} kills every worker and is {run.items[seq].state}"
        failed = sum(item.state == "failed" for item in run.items.values())
        wanted = "completed_with_failures" if failed else "completed"
        if run.state != wanted:
            yield f"run {run.number} ({kind.name}) is {run.state}, by its items it is {wanted}"
        skipped = sum(item.state == "skipped" for item in run.items.values())
        if skipped != run.skipped:
            yield f"run {run.number}: {skipped} items are skipped, operators were told {run.skipped}"


def _twice(evidence: Evidence) -> Found:
    for run in evidence.runs:
        settled = Counter(item.settle_number for item in run.items.values() if item.settle_number is not None)
        for number, count in settled.items():
            if count > 1:
                yield f"run {run.number}: {count} items have settle number {number}"
        ended = {item.seq for item in run.items.values() if item.state in ("completed", "failed")}
        told = Counter(run.told)
        for seq in sorted(ended | set(told)):
            if told[seq] != (seq in ended):
                yield f"run {run.number}: the outcome of item {seq} was told {told[seq]} times"
        done = Counter(lease.seq for lease in run.leases if lease.ended == "completed")
        most = 2 if run.kind.confirmed else 1
        for seq, count in done.items():
            if count > most:
                yield f"run {run.number}: item {seq} was recorded as completed {count} times"


def _executed(evidence: Evidence) -> Found:
    """What is recorded was executed: that attempt, once, to its end."""
    for run, mine in _by_run(evidence):
        ends = {(one.seq, one.attempt) for one in mine if one.ended}
        for item in run.items.values():
            if item.state != "completed":
                continue
            if (item.seq, item.attempt) not in ends:
                yield f"run {run.number}: attempt {item.attempt} of item {item.seq} is recorded, nobody executed it"
            if item.result_attempt and (item.seq, item.result_attempt) not in ends:
                yield f"run {run.number}: the result of item {item.seq} is of attempt {item.result_attempt}, unseen"
        for (seq, attempt), count in Counter((one.seq, one.attempt) for one in mine).items():
            if count > 1:
                yield f"run {run.number}: attempt {attempt} of item {seq} was executed {count} times"
        if run.kind.once:
            for seq, count in Counter(one.seq for one in mine).items():
                if count > 1:
                    yield f"run {run.number}: item {seq} must not be repeated and was executed {count} times"


def _after(evidence: Evidence) -> Found:
    """Nothing is granted once it has ended; what is seen later has an older attempt and was stopped meanwhile."""
    for run, mine in _by_run(evidence):
        for one in mine:
            item = run.items.get(one.seq)
            if item is None or one.attempt > item.attempt:
                yield f"run {run.number}: attempt {one.attempt} of item {one.seq} was executed and has no row"
            elif one.begin_ms > item.end_ms + CLOCK_MS:
                late = f"{one.begin_ms - item.end_ms:.0f} ms after it was {item.state}"
                if one.attempt >= item.attempt:
                    yield f"run {run.number}: attempt {one.attempt} of item {one.seq} was granted {late}"
                elif one.pid not in evidence.suspended:
                    yield f"run {run.number}: item {one.seq} was executed {late} by a process in good health"


def _neighbours(evidence: Evidence) -> Found:
    for run in evidence.runs:
        for item in run.items.values():
            if item.state == "failed" and run.kind.fails.get(item.seq) != item.error_kind:
                yield (
                    f"run {run.number} ({run.kind.name}): item {item.seq} failed, kind {item.error_kind}, after "
                    f"{item.tries} tries; nothing of its own lets it"
                )


# -- order


def _order(evidence: Evidence) -> Found:
    """In each lane by seq: at no time are more passed over than may be in flight, and none of them for long."""
    moving = _moving(evidence)
    for run in evidence.runs:
        lanes: dict[str, list[Lease]] = defaultdict(list)
        for lease in run.leases:
            lanes[lease.lane].append(lease)
        room = max(asked.value for asked in run.concurrency)
        for lane, leases in lanes.items():
            yield from _in_order(f"run {run.number} {lane}".rstrip(), leases, room, evidence.disturbances, moving)


def _moving(evidence: Evidence) -> Callable[[float], float]:
    """How much time there was up to a moment in which leases were granted to anybody."""
    starts = sorted({lease.start_ms for run in evidence.runs for lease in run.leases})
    sums = [0.0]
    for one, then in itertools.pairwise(starts):
        sums.append(sums[-1] + min(then - one, STILL_MS))

    def moving(moment: float) -> float:
        at = bisect.bisect_right(starts, moment) - 1
        return 0.0 if at < 0 else sums[at] + min(moment - starts[at], STILL_MS)

    return moving


def _in_order(what: str, leases: list[Lease], room: int, disturbances: int, moving: Callable[[float], float]) -> Found:
    first = {lease.seq: lease.start_ms for lease in leases if lease.attempt == 1}
    passed = _passed_over(first)
    if len(passed) > disturbances * room:
        yield f"{what}: {len(passed)} items started after one behind them; {disturbances} disturbances excuse fewer"
    most, when = _most_at_once([(begin, end) for begin, end in passed.values()])
    if most > room:
        yield f"{what}: {most} items were passed over at once (at {when:.0f}), {room} may be in flight"
    # Of each wait for a turn: who began long after it, and is behind?
    starts = sorted(first.items(), key=lambda pair: pair[1])
    attempts: dict[int, list[Lease]] = defaultdict(list)
    for lease in leases:
        attempts[lease.seq].append(lease)
    waits = [(seq, begin, end) for seq, (begin, end) in passed.items()]
    for seq, found in attempts.items():
        found.sort(key=lambda lease: lease.attempt)
        for one, then in itertools.pairwise(found):
            if one.end_ms is not None and one.ended not in ("completed", "throttled"):
                wait = 0.0 if one.ended in _AT_ONCE else BACK_OFF_MS
                waits.append((seq, one.end_ms + wait, then.start_ms))
    for seq, begin, end in waits:
        if moving(end) - moving(begin) > LAG_MS:
            due = moving(begin) + LAG_MS
            behind = [other for other, start in starts if other > seq and start < end and moving(start) > due]
            if behind:
                yield f"{what}: {behind[0]} and {len(behind) - 1} more started while {seq} was due since {begin:.0f}"


def _passed_over(first: dict[int, int]) -> dict[int, tuple[float, float]]:
    """seq -> from when somebody behind it had started, until it started itself."""
    passed = {}
    earliest = float("inf")
    for seq in sorted(first, reverse=True):
        if first[seq] > earliest:
            passed[seq] = (earliest, float(first[seq]))
        earliest = min(earliest, first[seq])
    return passed


# -- caps


def _concurrency(evidence: Evidence) -> Found:
    for run, mine in _by_run(evidence):
        spans = [_span(lease) for lease in run.leases]
        yield from _crowded(f"run {run.number}", "leases", spans, _bound(run.concurrency, 0.0))
        told = _bound(run.concurrency, evidence.term_ms)
        yield from _crowded(f"run {run.number}", "executions", _witnessed(run, mine), told)


def _limits(evidence: Evidence) -> Found:
    leases: dict[str, list[tuple[float, float]]] = defaultdict(list)
    seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for run, mine in _by_run(evidence):
        lanes = {lease.seq: lease.lane.split() for lease in run.leases}
        for lease in run.leases:
            for key in lanes[lease.seq]:
                leases[key].append(_span(lease))
        for seq, span in zip((one.seq for one in mine), _witnessed(run, mine), strict=True):
            for key in lanes.get(seq, ()):
                seen[key].append(span)
    for key in sorted(leases):
        for pattern, room in evidence.rooms.items():
            if key.startswith(pattern.removesuffix("*")):
                yield from _crowded(key, "leases", leases[key], lambda _, room=room: room)  # type: ignore[misc]
                yield from _crowded(key, "executions", seen[key], lambda _, room=room: room)  # type: ignore[misc]


def _rates(evidence: Evidence) -> Found:
    for rate in evidence.rates:
        starts = sorted(
            lease.start_ms
            for run in evidence.runs
            for lease in run.leases
            if rate.key in lease.lane.split() and lease.ended not in ("released", "unbegun")
        )
        per_ms = rate.per_second / 1000
        most = rate.burst + per_ms * RATE_LAG_MS + 1
        least = (float("inf"), 0)
        for i, start in enumerate(starts):
            least = min(least, (i - per_ms * start, i))
            count = i - per_ms * start - least[0] + 1
            if count > most:
                began = starts[least[1]]
                yield (
                    f"{rate.key}: {i - least[1] + 1} starts within {(start - began) / 1000:.1f} s; "
                    f"{rate.per_second:.2f} a second are allowed"
                )
                break


def _closed(evidence: Evidence) -> Found:
    """What was proposed before may still be granted: no more than the key has room for, and not for long."""
    for closure in evidence.closures:
        room = next((r for p, r in evidence.rooms.items() if closure.key.startswith(p.removesuffix("*"))), 0)
        starts = [
            lease.start_ms - closure.begin_ms
            for run in evidence.runs
            for lease in run.leases
            if closure.key in lease.lane.split() and closure.begin_ms + CLOCK_MS < lease.start_ms < closure.end_ms
        ]
        if len(starts) > room or any(start > RATE_LAG_MS for start in starts):
            yield f"{closure.key}: {len(starts)} starts after it was closed, the last {max(starts):.0f} ms later"


def _budgets(evidence: Evidence) -> Found:
    for run, mine in _by_run(evidence):
        if not run.budgets:
            continue
        cap = _bound(run.budgets, 0.0)
        told = sorted((one.end_ms, one.micros) for one in mine if one.ended and one.end_ms is not None)
        for who, entries in (("the ledger", sorted(run.spent)), ("the witness", told)):
            total = 0
            for moment, micros in entries:
                total += micros
                if total > cap(moment):
                    yield f"run {run.number}: by {who} {total} are spent at {moment:.0f}, the cap is {cap(moment)}"
                    break


def _money(evidence: Evidence) -> Found:
    """No execution is forgotten, and none is paid twice."""
    for run, mine in _by_run(evidence):
        cost: Counter[int] = Counter()
        for one in mine:
            cost[one.seq] += one.micros
        for item in run.items.values():
            most = run.kind.price * item.attempt
            if not cost[item.seq] <= item.cost_micros <= most:
                yield (
                    f"run {run.number}: item {item.seq} is said to have cost {item.cost_micros}; by the witness "
                    f"{cost[item.seq]}, in {item.attempt} attempts at most {most}"
                )


def _pauses(evidence: Evidence) -> Found:
    for run, mine in _by_run(evidence):
        lost = {(lease.seq, lease.attempt + 1) for lease in run.leases if lease.ended in ("worker_lost", "unbegun")}
        for pause in run.pauses:
            # A suspect's row says when it began, alone, which is when all else that its worker had has ended: its grant
            # was earlier. Begun it may be as late as the others, below.
            granted = [
                lease
                for lease in run.leases
                if pause.begin_ms + CLOCK_MS < lease.start_ms < pause.end_ms and (lease.seq, lease.attempt) not in lost
            ]
            if granted:
                yield f"run {run.number}: {len(granted)} leases were granted while it was paused"
            # What was granted before may begin while its worker trusts its lease, which is less than a term.
            begun = [
                one
                for one in mine
                if pause.begin_ms + evidence.term_ms + CLOCK_MS < one.begin_ms < pause.end_ms
                and one.pid not in evidence.suspended
            ]
            if begun:
                yield f"run {run.number}: {len(begun)} items were begun a term and more after it was paused"


# -- spans and bounds


def _by_run(evidence: Evidence) -> Iterator[tuple[RunSeen, list[Execution]]]:
    mine: dict[str, list[Execution]] = defaultdict(list)
    for one in evidence.executions:
        mine[one.run_id].append(one)
    for run in evidence.runs:
        yield run, mine[run.run_id]
    for run_id in mine.keys() - {run.run_id for run in evidence.runs}:
        raise AssertionError(f"somebody executed items of {run_id}, which nobody started")


def _span(lease: Lease) -> tuple[float, float]:
    return float(lease.start_ms), float("inf") if lease.end_ms is None else float(lease.end_ms)


def _witnessed(run: RunSeen, mine: Sequence[Execution]) -> list[tuple[float, float]]:
    """From its first line to its last one, its death, or the end of its lease: what goes on then is fenced off."""
    ends = {(lease.seq, lease.attempt): _span(lease)[1] for lease in run.leases}
    return [
        (one.begin_ms, min(ends.get((one.seq, one.attempt), one.begin_ms), one.end_ms or float("inf"))) for one in mine
    ]


def _bound(asked: Sequence[Asked], before_ms: float) -> Callable[[float], int]:
    """The highest value that may hold at a time, or held up to `before_ms` earlier."""

    def bound(moment: float) -> int:
        allowed = []
        for one, then in itertools.zip_longest(asked, asked[1:]):
            until = float("inf") if then is None else then.done_ms + CLOCK_MS
            if one.sent_ms <= moment + CLOCK_MS and moment - before_ms <= until:
                allowed.append(one.value)
        return max(allowed, default=0)

    return bound


def _crowded(what: str, of: str, spans: Sequence[tuple[float, float]], bound: Callable[[float], int]) -> Found:
    """Looks at each start: how many there are then. Ends count from CLOCK_MS before."""
    edges = sorted([(begin, 1) for begin, _ in spans] + [(max(begin, end - CLOCK_MS), -1) for begin, end in spans])
    held, worst = 0, (0, 0, 0.0)
    for moment, step in edges:
        held += step
        if step > 0:
            worst = max(worst, (held - bound(moment), held, moment))
    if worst[0] > 0:
        yield f"{what}: {worst[1]} {of} at once at {worst[2]:.0f}, {worst[1] - worst[0]} are allowed"


def _most_at_once(spans: Sequence[tuple[float, float]]) -> tuple[int, float]:
    edges = sorted([(end, -1) for _, end in spans] + [(begin, 1) for begin, _ in spans])
    held, most = 0, (0, 0.0)
    for moment, step in edges:
        held += step
        most = max(most, (held, moment))
    return most


def _rows(evidence: Evidence) -> Found:
    yield from evidence.breaches


RULES: dict[str, Callable[[Evidence], Found]] = {
    "nothing is lost": _lost,
    "nothing is recorded twice": _twice,
    "what is recorded was executed": _executed,
    "nothing is granted once it has ended": _after,
    "no item fails by a neighbour's death": _neighbours,
    "order": _order,
    "concurrency": _concurrency,
    "limits": _limits,
    "rates": _rates,
    "closed limits": _closed,
    "budgets": _budgets,
    "money": _money,
    "pauses": _pauses,
    "rows agree": _rows,
}
