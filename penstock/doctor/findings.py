"""What a check came to. What warns or fails has the command that mends it: a finding without one can't be made."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Finding", "Level", "failed", "ok", "skipped", "wrong"]


class Level(enum.Enum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "—"
    """It was not looked at."""


@dataclass(frozen=True)
class Finding:
    """what: the thing that was looked at, in a few words; text: what was found; mend: a command for a shell."""

    level: Level
    what: str
    text: str
    mend: str = ""

    def __post_init__(self) -> None:
        if (self.level in (Level.WARN, Level.FAIL)) != bool(self.mend):
            raise ValueError(f"{self.what}: what warns or fails says what mends it, and nothing else does")


def ok(what: str, text: str) -> Finding:
    return Finding(Level.OK, what, text)


def skipped(what: str, why: str) -> Finding:
    return Finding(Level.SKIP, what, f"not looked at: {why}")


def wrong(what: str, text: str, mend: str, *, only_warns: bool = False) -> Finding:
    return Finding(Level.WARN if only_warns else Level.FAIL, what, text, mend)


def failed(findings: Iterable[Finding]) -> bool:
    return any(finding.level is Level.FAIL for finding in findings)
