"""What a run of tiers came to: each with its seconds, what was skipped and why, where its logs are.

On a machine of CI (PEN_CI) nothing may be skipped: what is, counts as failed and is told as such.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

SHOWN = "shown"
"""Folder in that of the logs: what tests leave to be looked at."""
TIER = "PENSTOCK_CLUSTER_TIER"
"""Set for the tests of a tier: its name."""
RESULTS = "tests.xml"
TOLD = ".told"
"""Files there that end so are said by the report itself: what tests have measured or lived through."""


@dataclass(kw_only=True)
class Outcome:
    """One tier. `skipped` says what this machine lacks for it, `left` what outlived it."""

    tier: str
    seconds: float = 0.0
    code: int = 0
    skipped: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Why it failed before any test, where this machine has what it needs."""
    tests: int = 0
    tests_failed: list[str] = field(default_factory=list)
    tests_skipped: list[str] = field(default_factory=list)
    once_more: bool = False
    """Whether the tests that failed were run again, alone; `code` is then what came of it."""
    left: list[str] = field(default_factory=list)
    logs: Path | None = None
    told: list[str] = field(default_factory=list)

    def read(self, results: Path) -> None:
        """Counts from pytest's own file; without one the tier has failed before any test."""
        for path in sorted((results.parent / SHOWN).glob(f"*{TOLD}")):
            self.told += [f"{path.stem}: {line}" for line in path.read_text().splitlines()]
        if not results.exists():
            self.code = self.code or 1
            return
        for case in ElementTree.parse(results).getroot().iter("testcase"):
            self.tests += 1
            if (skip := case.find("skipped")) is not None:
                self.tests_skipped.append(f"{case.get('name')}: {skip.get('message')}")
            elif case.find("failure") is not None or case.find("error") is not None:
                self.tests_failed.append(str(case.get("name")))

    def failed(self, *, strict: bool) -> bool:
        whole = bool(self.code or self.errors or self.left or (self.tests_failed and not self.once_more))
        return whole or (strict and bool(self.skipped or self.tests_skipped))

    def _shown(self) -> list[Path]:
        """Tables and pictures of its tests; of a picture, not the numbers that it is made from."""
        if self.logs is None:
            return []
        return sorted(path for path in (self.logs / SHOWN).glob("*") if path.suffix not in (".csv", TOLD))

    def lines(self, *, strict: bool) -> list[str]:
        not_run = "skipped, and CI skips nothing" if strict else "skipped"
        if self.skipped:
            return [f"{self.tier}: {not_run}: {line}" for line in self.skipped]
        if self.errors:
            return [f"{self.tier}: FAILED: {line}" for line in self.errors]
        passed = self.tests - len(self.tests_failed) - len(self.tests_skipped)
        counts = [f"{passed} passed"]
        if self.tests_failed:
            again = ", which passed alone" if self.once_more and not self.code else ""
            counts.append(f"{len(self.tests_failed)} failed{again}")
        if self.tests_skipped:
            counts.append(f"{len(self.tests_skipped)} skipped")
        if self.code and not self.tests_failed:
            counts.append(f"ended with {self.code}")
        word = "FAILED" if self.failed(strict=strict) else "ok"
        lines = [f"{self.tier}: {word} in {self.seconds:.1f} s, {', '.join(counts)}; logs: {self.logs}"]
        lines += [f"{self.tier}: {line}" for line in self.told]
        lines += [f"{self.tier}: failed: {name}" for name in self.tests_failed]
        lines += [f"{self.tier}: {not_run}: {line}" for line in self.tests_skipped]
        lines += [f"{self.tier}: left behind: {line}" for line in self.left]
        lines += [f"{self.tier}: shown: {path}" for path in self._shown()]
        return lines
