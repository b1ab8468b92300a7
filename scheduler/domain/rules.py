"""How a stage treats what goes wrong, as plain values: what its plan says, with defaults filled in. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from penstock.words import counted

__all__ = [
    "BLAMELESS",
    "LOST_KINDS",
    "NOT_HEALED",
    "NOT_RETRIED",
    "Confirm",
    "Heal",
    "Kind",
    "Retry",
    "RunWhen",
    "StageRules",
    "Tolerance",
    "Valve",
]


class Kind(StrEnum):
    """Why an attempt failed. Processors may have words of their own besides."""

    ITEM = "item"
    WORKER_LOST = "worker_lost"
    TIMEOUT = "timeout"
    THROTTLED = "throttled"
    PROVIDER = "provider"
    INVALID_RESULT = "invalid_result"
    BUDGET = "budget"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    UNCONFIRMED = "unconfirmed"
    UNAVAILABLE = "unavailable"
    OUT_OF_MEMORY = "out_of_memory"  # with its worker, as the next three
    EVICTED = "evicted"
    PREEMPTED = "preempted"
    NODE_LOST = "node_lost"


LOST_KINDS: frozenset[str] = frozenset(
    {Kind.WORKER_LOST, Kind.OUT_OF_MEMORY, Kind.EVICTED, Kind.PREEMPTED, Kind.NODE_LOST}
)
"""What was lost with its worker. A rule that names worker_lost takes all of them."""
BLAMELESS: frozenset[str] = frozenset({Kind.EVICTED, Kind.PREEMPTED, Kind.NODE_LOST})
"""The worker was taken away: nothing that it ran had any part in it."""
NOT_RETRIED: frozenset[str] = frozenset({Kind.BUDGET, Kind.REFUSED, Kind.CANCELLED, Kind.UNKNOWN})
"""Kinds that are tried again only where a rule names them."""
NOT_HEALED: frozenset[str] = frozenset({Kind.BUDGET, Kind.CANCELLED, Kind.UNKNOWN})


class RunWhen(StrEnum):
    ANY = "any"
    ALL = "all"
    ALWAYS = "always"


@dataclass(frozen=True)
class Retry:
    """kinds, fingerprint: which failures it takes (empty: all); max_tries None: the stage's; seconds 0: the
    scheduler's."""

    kinds: frozenset[str] = frozenset()
    fingerprint: str = ""
    max_tries: int | None = None
    first_seconds: float = 0.0
    max_seconds: float = 0.0
    factor: float = 2.0

    def takes(self, kind: str, fingerprint: str) -> bool:
        return (not self.kinds or self.names(kind)) and self.fingerprint in ("", fingerprint)

    def names(self, kind: str) -> bool:
        return kind in self.kinds or (kind in LOST_KINDS and Kind.WORKER_LOST in self.kinds)


@dataclass(frozen=True)
class Heal:
    attempts: int
    processor: str
    processor_version: str
    parameters: bytes
    kinds: frozenset[str] = frozenset()
    budget_micros: int | None = None
    paid: bool = False

    def takes(self, kind: str) -> bool:
        if kind in LOST_KINDS and Kind.WORKER_LOST in self.kinds:
            return True
        return kind in self.kinds if self.kinds else kind not in NOT_HEALED


@dataclass(frozen=True)
class Confirm:
    processor: str
    processor_version: str
    parameters: bytes
    paid: bool = False


@dataclass(frozen=True)
class Tolerance:
    failures: int | None = None
    share: float | None = None

    def passed(self, failed: int, total: int, *, forgiven: int = 0) -> str:
        """Why so many failures are too many; "" when they are not. forgiven: of these, what no longer counts."""
        failed -= forgiven
        since = " since it was taken up again" if forgiven else ""
        if self.failures is not None and failed > self.failures:
            return f"{counted(failed, 'item')} failed{since}; {self.failures} were tolerated"
        if self.share is not None and total and failed > self.share * total:
            return f"{failed} of {total} items failed{since}; a share of {self.share:g} was tolerated"
        return ""


@dataclass(frozen=True)
class Valve:
    failures: int
    closed_ms: int
    max_ms: int


@dataclass(frozen=True)
class StageRules:
    retry: Sequence[Retry] = ()
    heal: Heal | None = None
    confirm: Confirm | None = None
    run_when: RunWhen = RunWhen.ANY
    tolerance: Tolerance | None = None
    valve: Valve | None = None

    def retry_for(self, kind: str, fingerprint: str) -> Retry | None:
        """The first rule that takes such a failure."""
        return next((rule for rule in self.retry if rule.takes(kind, fingerprint)), None)

    def processors(self) -> Mapping[str, str]:
        """What its leases need besides the stage's own processor: name -> version."""
        needed = {}
        if self.heal is not None and self.heal.processor:
            needed[self.heal.processor] = self.heal.processor_version
        if self.confirm is not None:
            needed[self.confirm.processor] = self.confirm.processor_version
        return needed

    def begins_after(self, *, failed: bool, completed: int, total: int) -> bool:
        """Whether a stage with these rules begins after one that ended so."""
        if self.run_when is RunWhen.ALWAYS:
            return True
        if self.run_when is RunWhen.ALL:
            return not failed and completed == total
        return not failed and (completed > 0 or total == 0)
