"""What a run of the cluster's tests says of itself; and that nothing of them runs by itself."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.cluster import kernel, packages, tools
from tests.cluster.report import Outcome
from tests.cluster.showing import counts_csv, counts_svg
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
        "node: failed: test_three",
        "node: failed: test_four",
        "node: skipped: test_two: no such program",
    ]


@pytest.mark.parametrize("code", [0, 1])
def test_what_failed_may_pass_alone_and_is_named(code: int, results: Path) -> None:
    outcome = Outcome(tier="node", code=code, once_more=True, logs=Path("logs"))
    outcome.read(results)
    assert outcome.failed(strict=False) is bool(code)
    first, *rest = outcome.lines(strict=False)
    assert ("2 failed, which passed alone" in first) is not bool(code)
    assert rest[0] == "node: failed: test_three"


def test_what_tests_tell_is_shown_with_the_outcome(results: Path) -> None:
    shown = results.parent / "shown"
    shown.mkdir()
    (shown / "upgrade.told").write_text("3.1 s  it begins\n9.0 s  it ends\n")
    outcome = Outcome(tier="node", logs=Path("logs"))
    outcome.read(results)
    assert outcome.lines(strict=False)[1:3] == ["node: upgrade: 3.1 s  it begins", "node: upgrade: 9.0 s  it ends"]


@pytest.mark.parametrize(
    "outcome",
    [Outcome(tier="node", skipped=["only root may"]), Outcome(tier="node", tests=2, tests_skipped=["one: why"])],
)
def test_a_skip_fails_in_ci_alone_and_says_so(outcome: Outcome) -> None:
    assert not outcome.failed(strict=False)
    assert outcome.failed(strict=True)
    assert any("skipped, and CI skips nothing" in line for line in outcome.lines(strict=True))


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(tier="node", left=["mount /x"]),
        Outcome(tier="node", code=3),
        Outcome(tier="node", code=-9),
        Outcome(tier="node", errors=["kubelet can't be built"]),
    ],
)
def test_what_is_left_behind_and_an_end_without_tests_fail(outcome: Outcome) -> None:
    assert outcome.failed(strict=False)
    assert "FAILED" in outcome.lines(strict=False)[0]


def test_a_tier_without_results_has_failed(tmp_path: Path) -> None:
    outcome = Outcome(tier="node")
    outcome.read(tmp_path / "none.xml")
    assert outcome.failed(strict=False)


def test_what_tests_leave_to_be_looked_at_is_named(tmp_path: Path) -> None:
    (tmp_path / "shown").mkdir()
    for name in ("pods.svg", "pods.csv", "rights.txt"):
        (tmp_path / "shown" / name).write_text("")
    lines = Outcome(tier="node", logs=tmp_path, tests=1).lines(strict=False)
    shown = tmp_path / "shown"
    assert lines[1:] == [f"node: shown: {shown / 'pods.svg'}", f"node: shown: {shown / 'rights.txt'}"]


def test_a_picture_has_a_step_for_each_sample_a_gap_where_nobody_was_asked_and_the_limit() -> None:
    counts = [(0.0, 0), (0.1, 3), (0.2, 3), (5.0, 2), (5.1, 1)]
    drawn = ElementTree.fromstring(counts_svg(counts, limit=3, title="pods <of> a & b"))
    space = "{http://www.w3.org/2000/svg}"
    paths = [path.get("d", "") for path in drawn.iter(f"{space}path")]
    assert [path.count("V") for path in paths] == [2, 1]
    words = [text.text for text in drawn.iter(f"{space}text")]
    assert {"pods <of> a & b", "limit 3"} <= set(words)
    (limit,) = (line for line in drawn.iter(f"{space}line") if line.get("stroke-dasharray"))
    # The limit lies as high as the samples that reach it.
    assert f"V{limit.get('y1')}" in paths[0]
    assert counts_csv(counts).splitlines()[:3] == ["seconds,pods", "0.000,0", "0.100,3"]
    assert "<path" not in counts_svg([], limit=None, title="none")


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
