"""`make test-cluster [TIER=…]`: the tests on a real cluster, a tier after the other, each in a box of its own.

`python -m tests.cluster [--install] [TIER…] [-- ARGUMENTS OF PYTEST]`. What a tier needs is looked for first, and what
this machine lacks is named: packages (which --install gets by apt-get), Go, the kernel. Programs are built into the
cache before a box is entered, since nothing reaches the network from inside. Ends with 1 when a test failed, when
something outlived its box, or when anything was skipped under PEN_CI.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster import box, kernel, leftovers, packages, tools
from tests.cluster.report import RESULTS, TIER, Outcome
from tests.cluster.tiers import TIERS, Tier
from tools.test import MARK, marked

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "build" / "test-cluster"
KEPT_LOGS = 8
"""Folders of logs a tier; older ones go."""
NOTHING_COLLECTED = 5
"""What pytest ends with then."""


def say(line: str) -> None:
    print(f"test-cluster: {line}", flush=True)


def main(words: list[str]) -> int:
    at = words.index("--") if "--" in words else len(words)
    ours, arguments = words[:at], words[at + 1 :]
    installs = "--install" in ours
    names = [word for word in ours if word != "--install"] or list(TIERS)
    if unknown := [name for name in names if name not in TIERS]:
        print(f"no such tier: {', '.join(unknown)}; there are {', '.join(TIERS)}", file=sys.stderr)
        return 2
    os.environ["PATH"] = packages.search_path()
    os.environ.pop("PYTHONPATH", None)
    strict = bool(os.environ.get("PEN_CI"))
    began = time.monotonic()
    outcomes = [_tier(TIERS[name], arguments, installs=installs) for name in names]
    print()
    for outcome in outcomes:
        for line in outcome.lines(strict=strict):
            say(line)
    failed = any(outcome.failed(strict=strict) for outcome in outcomes)
    say(f"{'FAILED' if failed else 'done'} in {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


def _tier(tier: Tier, arguments: list[str], *, installs: bool) -> Outcome:
    outcome = Outcome(tier=tier.name)
    outcome.skipped = _prepare(tier, installs=installs)
    if outcome.skipped:
        return outcome
    outcome.logs = _logs_folder(tier.name)
    results = outcome.logs / RESULTS
    mark, name = secrets.token_hex(8), secrets.token_hex(4)
    say(f"{tier.name}: {tier.about}")
    command = [sys.executable, "-P", "-m", "pytest", str(tier.folder), f"--junitxml={results}", *arguments]
    environment = {MARK: mark, TIER: tier.name}
    before = leftovers.standing()
    began = time.monotonic()
    if tier.boxed:
        code = box.run(command, logs=outcome.logs, environment=environment, name=name)
    else:
        code = box.beside(command, environment=environment)
    outcome.seconds = time.monotonic() - began
    if code == NOTHING_COLLECTED:
        outcome.skipped = ["it has no such tests"]
        return outcome
    outcome.code = code
    outcome.read(results)
    for pid, line in marked(mark).items():
        outcome.left.append(f"process {pid} {line[:150]}")
        os.kill(pid, signal.SIGKILL)
    outcome.left += leftovers.left(before, name)
    return outcome


def _prepare(tier: Tier, *, installs: bool) -> list[str]:
    """Why the tier can't run here, a line each; the programs are built when there is none."""
    if not tier.folder.is_dir():
        return ["it has no tests yet"]
    missing = packages.lacking(tier.packages)
    if missing and installs:
        say(f"{tier.name}: installing {', '.join(missing)}")
        failed = packages.install(missing)
        missing = packages.lacking(tier.packages)
        if failed and missing:
            say(f"{tier.name}: {failed}")
    reasons = [f"{name} is not installed" for name in missing]
    reasons += kernel.lacking(tier.kernel) if not missing else []
    if shutil.which("go") is None and (
        unbuilt := [name for name in tier.modules if not tools.built(tools.MODULES[name])]
    ):
        reasons.append(f"no Go here to build {', '.join(unbuilt)}")
    if not reasons and tier.modules:
        try:
            tools.build(tier.modules, say=say)
        except tools.BuildFailed as error:
            reasons.append(str(error))
    return reasons


def _logs_folder(name: str) -> Path:
    LOGS.mkdir(parents=True, exist_ok=True)
    older = sorted(LOGS.glob(f"{name}.*"), key=lambda path: path.stat().st_mtime)
    for folder in older[: -KEPT_LOGS + 1]:
        shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}.", dir=LOGS))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
