"""What is shown at the end: which faults, how often; what the traffic was; which rules held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tests.chaos.model import Evidence, Problem

__all__ = ["report"]


def report(
    evidence: Evidence,
    problems: Sequence[Problem],
    rules: Sequence[str],
    *,
    faults: Mapping[str, int],
    kills: int,
    calls: Mapping[str, int],
    seconds: float,
) -> Iterator[str]:
    """Line by line. calls: what operators did."""
    yield from _table("fault", "times", faults)
    yield from _table("operators", "times", calls)
    outcomes = Counter(lease.ended for run in evidence.runs for lease in run.leases)
    yield from _table("attempts ended", "times", dict(sorted(outcomes.items())))
    yield f"{'run':<12}{'items':>8}{'executions':>12}{'state':>26}"
    seen = Counter(one.run_id for one in evidence.executions)
    for run in evidence.runs:
        yield f"{run.kind.name:<12}{run.kind.items:>8}{seen[run.run_id]:>12}{run.state:>26}"
    yield ""
    fallen = Counter(problem.rule for problem in problems)
    yield from _table("rule", "breaches", {name: fallen[name] for name in dict.fromkeys([*rules, *fallen])})
    total = sum(run.kind.items for run in evidence.runs)
    yield f"{total} items, {len(evidence.executions)} executions, {kills} SIGKILLs, {seconds:.0f} s"


def _table(name: str, what: str, rows: Mapping[str, int]) -> Iterator[str]:
    width = max([len(name), *map(len, rows)])
    yield f"{name:<{width}}  {what}"
    for key, count in rows.items():
        yield f"{key:<{width}}  {count:>{len(what)}}"
    yield ""
