"""What a run of tiers came to: each with its seconds, what was skipped and why, where its logs are.

On a machine of CI (PEN_CI) nothing may be skipped: what is, counts as failed and is told as such.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

TIER = "PENSTOCK_CLUSTER_TIER"
"""Set for the tests of a tier: its name."""
RESULTS = "tests.xml"


@dataclass(kw_only=True)
class Outcome:
    """One tier. `skipped` says why it did not run at all, `left` what outlived it."""

    tier: str
    seconds: float = 0.0
    code: int = 0
    skipped: list[str] = field(default_factory=list)
    tests: int = 0
    tests_failed: int = 0
    tests_skipped: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    logs: Path | None = None

    def read(self, results: Path) -> None:
        """Counts from pytest's own file; without one the tier has failed before any test."""
        if not results.exists():
            self.code = self.code or 1
            return
        for case in ElementTree.parse(results).getroot().iter("testcase"):
            self.tests += 1
            if (skip := case.find("skipped")) is not None:
                self.tests_skipped.append(f"{case.get('name')}: {skip.get('message')}")
            elif case.find("failure") is not None or case.find("error") is not None:
                self.tests_failed += 1

    def failed(self, *, strict: bool) -> bool:
        whole = bool(self.code or self.left or self.tests_failed)
        return whole or (strict and bool(self.skipped or self.tests_skipped))

    def lines(self, *, strict: bool) -> list[str]:
        not_run = "skipped, and CI skips nothing" if strict else "skipped"
        if self.skipped:
            return [f"{self.tier}: {not_run}: {line}" for line in self.skipped]
        passed = self.tests - self.tests_failed - len(self.tests_skipped)
        counts = [f"{passed} passed"]
        if self.tests_failed:
            counts.append(f"{self.tests_failed} failed")
        if self.tests_skipped:
            counts.append(f"{len(self.tests_skipped)} skipped")
        if self.code and not self.tests_failed:
            counts.append(f"ended with {self.code}")
        word = "FAILED" if self.failed(strict=strict) else "ok"
        lines = [f"{self.tier}: {word} in {self.seconds:.1f} s, {', '.join(counts)}; logs: {self.logs}"]
        lines += [f"{self.tier}: {not_run}: {line}" for line in self.tests_skipped]
        lines += [f"{self.tier}: left behind: {line}" for line in self.left]
        return lines
