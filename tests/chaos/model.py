"""What the validator judges: plain values, gathered when everything has come to rest, or made up by a test.

Times are milliseconds since the epoch; the witnesses write wall time, the rows have the schedulers' own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Asked", "Closure", "Evidence", "Execution", "Item", "Kind", "Lease", "Pause", "Problem", "Rate", "RunSeen"]


@dataclass(frozen=True)
class Problem:
    """Which rule fell, and how."""

    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


@dataclass(frozen=True)
class Execution:
    """By the witness. end_ms None: it wrote no last line; micros: what it said that it had cost."""

    begin_ms: float
    pid: int
    run_id: str
    seq: int
    attempt: int
    mode: str = "work"
    end_ms: float | None = None
    micros: int = 0
    ended: bool = False
    """It came to its end by itself (end_ms may be its death)."""


@dataclass(frozen=True)
class Lease:
    """By the rows: one attempt. end_ms None: it runs."""

    seq: int
    attempt: int
    start_ms: int
    end_ms: int | None
    ended: str
    """completed, failed, worker_lost …: domain.outcomes.Ended; of the attempt in the item's row its state."""
    lane: str = ""


@dataclass(frozen=True)
class Item:
    """By the rows: how the item ended."""

    seq: int
    state: str
    attempt: int
    tries: int
    end_ms: int
    settle_number: int | None
    error_kind: str = ""
    cost_micros: int = 0
    result_attempt: int = 0
    """Which attempt's result is kept; 0: it has none."""


@dataclass(frozen=True)
class Kind:
    """What a run is made to be. fails: seq -> kind of failure that is as it should be; confirmed: each item has a
    second lease; once: what has begun is never done again."""

    name: str
    items: int
    fails: Mapping[int, str] = field(default_factory=dict)
    skips: int = 0
    confirmed: bool = False
    once: bool = False
    price: int = 0


@dataclass(frozen=True)
class Asked:
    """An operator asked for a value: it may hold since `sent_ms`, and the one before at most until `done_ms`."""

    sent_ms: float
    done_ms: float
    value: int


@dataclass(frozen=True)
class Pause:
    """Acknowledged at begin_ms; at end_ms somebody asked to go on."""

    begin_ms: float
    end_ms: float


@dataclass(frozen=True)
class Closure:
    """A limit that was closed, in the same manner."""

    key: str
    begin_ms: float
    end_ms: float


@dataclass(frozen=True)
class Rate:
    """Starts of items of a key."""

    key: str
    per_second: float
    burst: float


@dataclass(frozen=True)
class RunSeen:
    """All there is of one run. told: the seqs of ReadOutcomes, as often as they came; budgets: none: no cap; spent:
    (time, micros) of each batch of its ledger."""

    number: int
    run_id: str
    kind: Kind
    state: str
    items: Mapping[int, Item]
    leases: Sequence[Lease]
    told: Sequence[int]
    concurrency: Sequence[Asked]
    budgets: Sequence[Asked] = ()
    spent: Sequence[tuple[int, int]] = ()
    pauses: Sequence[Pause] = ()
    skipped: int = 0
    """Items that operators were told to have skipped."""


@dataclass(frozen=True)
class Evidence:
    """suspended: processes that were stopped for a while; rooms: limit pattern -> leases at once; breaches: what the
    rows say against each other; disturbances: how often something was broken."""

    executions: Sequence[Execution]
    runs: Sequence[RunSeen]
    suspended: frozenset[int] = frozenset()
    rooms: Mapping[str, int] = field(default_factory=dict)
    rates: Sequence[Rate] = ()
    closures: Sequence[Closure] = ()
    breaches: Sequence[str] = ()
    term_ms: float = 4_000.0
    disturbances: int = 0
