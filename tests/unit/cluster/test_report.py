"""What a run of the cluster's tests says of itself; and that nothing of them runs by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import kernel, packages, tools
from tests.cluster.report import Outcome
from tests.cluster.tiers import TIERS, Tier

ROOT = Path(__file__).resolve().parents[3]
RESULTS = """<testsuites><testsuite>
<testcase name="test_one"/><testcase name="test_two"><skipped message="no such program"/></testcase>
<testcase name="test_three"><failure message="no"/></testcase>
<testcase name="test_four"><error message="no"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "tests.xml"
    path.write_text(RESULTS)
    return path


def test_tests_are_counted_and_skips_named(results: Path) -> None:
    outcome = Outcome(tier="node", seconds=1.25, code=1, logs=Path("logs"))
    outcome.read(results)
    assert outcome.failed(strict=False)
    assert outcome.lines(strict=False) == [
        "node: FAILED in 1.2 s, 1 passed, 2 failed, 1 skipped; logs: logs",
        "node: skipped: test_two: no such program",
    ]


@pytest.mark.parametrize(
    "outcome",
    [Outcome(tier="node", skipped=["only root may"]), Outcome(tier="node", tests=2, tests_skipped=["one: why"])],
)
def test_a_skip_fails_in_ci_alone_and_says_so(outcome: Outcome) -> None:
    assert not outcome.failed(strict=False)
    assert outcome.failed(strict=True)
    assert any("skipped, and CI skips nothing" in line for line in outcome.lines(strict=True))


@pytest.mark.parametrize(
    "outcome", [Outcome(tier="node", left=["mount /x"]), Outcome(tier="node", code=3), Outcome(tier="node", code=-9)]
)
def test_what_is_left_behind_and_an_end_without_tests_fail(outcome: Outcome) -> None:
    assert outcome.failed(strict=False)
    assert "FAILED" in outcome.lines(strict=False)[0]


def test_a_tier_without_results_has_failed(tmp_path: Path) -> None:
    outcome = Outcome(tier="node")
    outcome.read(tmp_path / "none.xml")
    assert outcome.failed(strict=False)


@pytest.mark.parametrize("tier", TIERS.values(), ids=lambda tier: tier.name)
def test_what_a_tier_needs_is_known(tier: Tier) -> None:
    assert set(tier.modules) <= set(tools.MODULES)
    assert set(tier.packages) <= set(packages.PROGRAMS)
    assert set(tier.kernel) <= set(kernel.CHECKS)


def test_packages_that_lack_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(packages, "PROGRAMS", {"coreutils": "ls", "something": "no-such-program"})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert packages.main([]) == 1
    assert capsys.readouterr().out == "packages: something is not there (no no-such-program)\n"
    assert packages.main(["install"]) == 1
    assert "something can't be installed: only root installs packages" in capsys.readouterr().err


def test_outside_of_a_box_nothing_of_it_is_collected() -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_CLUSTER_")}
    command = [sys.executable, "-P", "-m", "pytest", "tests/cluster", "--collect-only", "-q"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "no tests collected" in done.stdout
