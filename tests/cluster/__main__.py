"""`make test-cluster [TIER=…]`: the tests on a real cluster, three tiers at once, each in a box of its own.

`python -m tests.cluster [--install] [TIER…] [-- ARGUMENTS OF PYTEST]`. What a tier needs is looked for first, and what
this machine lacks is named: packages (which --install gets by apt-get), Go, the kernel. Programs are built into the
cache before a box is entered, since nothing reaches the network from inside. Ends with 1 when a test failed, when
something outlived its box, or when anything was skipped under PEN_CI.
Machines of CI stall for seconds: there a test that failed may pass once more, by itself, and is named.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cluster import box, images, kernel, leftovers, packages, store_images, tools
from tests.cluster.report import RESULTS, TIER, Outcome
from tests.cluster.tiers import TIERS, Tier
from tools.image.engines import EngineFailed
from tools.test import MARK, ONCE_MORE, marked

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "build" / "test-cluster"
KEPT_LOGS = 8
"""Folders of logs a tier; older ones go."""
TESTS_FAILED, NOTHING_COLLECTED = 1, 5
"""What pytest ends with then."""
AT_ONCE = 3
"""Of two cores: most of their time tiers wait, for pods, probes, leases."""
CAME_TO = "PENSTOCK_CLUSTER_CAME_TO"
"""Where a run of one tier among several writes the lines of its outcome."""
CALLER = "PENSTOCK_CLUSTER_CALLER"
PR_SET_PDEATHSIG = 1


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
    began = time.monotonic()
    if installs:
        _install([TIERS[name] for name in names])
    tiers = [TIERS[name] for name in names]
    if CAME_TO in os.environ:
        _end_with_caller()
    lines, failed = _several(tiers, arguments) if len(tiers) > 1 else _one(tiers[0], arguments)
    print()
    for line in lines:
        say(line)
    say(f"{'FAILED' if failed else 'done'} in {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


def _end_with_caller() -> None:
    """Whoever ends the run of several tiers, by any signal, ends each of them; a box is cleaned up by its guard."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(os.environ.get(CALLER, os.getppid())):
        raise SystemExit(128 + signal.SIGTERM)


def _install(tiers: Sequence[Tier]) -> None:
    missing = sorted({name for tier in tiers for name in packages.lacking(tier.packages)})
    if missing:
        say(f"installing {', '.join(missing)}")
        if failed := packages.install(missing):
            say(failed)


def _several(tiers: Sequence[Tier], arguments: Sequence[str]) -> tuple[list[str], bool]:
    """What each came to, in their order, and whether one failed. Each is a run of this program of its own, so that
    Ctrl-C reaches all; what it prints is shown whole when it has ended."""
    together = [tier for tier in tiers if not tier.alone]
    found: dict[str, tuple[list[str], bool]] = {}
    LOGS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tiers.", dir=LOGS) as text:
        folder = Path(text)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            names = [tier.name for tier in together]
            found.update(zip(names, pool.map(lambda tier: _child(tier, arguments, folder), together), strict=True))
        for tier in tiers:
            if tier.alone:
                found[tier.name] = _child(tier, arguments, folder)
    return [line for tier in tiers for line in found[tier.name][0]], any(failed for _, failed in found.values())


def _child(tier: Tier, arguments: Sequence[str], folder: Path) -> tuple[list[str], bool]:
    printed, came_to = folder / f"{tier.name}.out", folder / f"{tier.name}.lines"
    say(f"{tier.name} begins")
    command = [sys.executable, "-m", "tests.cluster", tier.name, "--", *arguments]
    environment = {**os.environ, CAME_TO: str(came_to), CALLER: str(os.getpid())}
    with printed.open("w") as output:
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=output, check=False).returncode
    print(printed.read_text(errors="replace"), flush=True)
    lines = came_to.read_text().splitlines() if came_to.exists() else [f"{tier.name}: FAILED: it ended with {code}"]
    return lines, code != 0


def _one(tier: Tier, arguments: Sequence[str]) -> tuple[list[str], bool]:
    strict = bool(os.environ.get("PEN_CI"))
    outcome = _tier(tier, arguments, strict=strict)
    lines = outcome.lines(strict=strict)
    if path := os.environ.get(CAME_TO):
        Path(path).write_text("".join(f"{line}\n" for line in lines))
    return lines, outcome.failed(strict=strict)


def _tier(tier: Tier, arguments: Sequence[str], *, strict: bool) -> Outcome:
    outcome = Outcome(tier=tier.name)
    outcome.skipped = _lacking(tier)
    if outcome.skipped:
        return outcome
    try:
        tools.build(tier.modules, say=say)
        archives = _images() if tier.images else {}
    except (tools.BuildFailed, EngineFailed, subprocess.CalledProcessError) as error:
        outcome.errors.append(str(error))
        return outcome
    logs = outcome.logs = _logs_folder(tier.name)
    results = logs / RESULTS
    mark, name = secrets.token_hex(8), secrets.token_hex(4)
    say(f"{tier.name}: {tier.about}")
    kept = ("-o", f"cache_dir={logs / 'cache'}")
    command = [sys.executable, "-P", "-m", "pytest", str(tier.folder), *kept, *arguments]
    environment = {MARK: mark, TIER: tier.name, **archives}
    before = leftovers.standing()
    began = time.monotonic()

    def run(*more: str) -> int:
        if tier.boxed:
            return box.run([*command, *more], logs=logs, environment=environment, name=name)
        return box.beside([*command, *more], environment=environment)

    code = run(f"--junitxml={results}")
    if code == TESTS_FAILED and strict:
        say(f"{tier.name}: what failed, once more and alone")
        code = run(*ONCE_MORE)
        outcome.once_more = True
    outcome.seconds = time.monotonic() - began
    if code == NOTHING_COLLECTED:
        outcome.skipped = ["it has no such tests"]
        return outcome
    outcome.code = code
    outcome.read(results)
    for pid, line in marked(mark).items():
        outcome.left.append(f"process {pid} {line[:150]}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    outcome.left += leftovers.left(before, name)
    return outcome


def _lacking(tier: Tier) -> list[str]:
    """Why the tier can't run on this machine, a line each."""
    if not tier.folder.is_dir():
        return ["it has no tests yet"]
    missing = packages.lacking(tier.packages)
    reasons = [f"{name} is not installed" for name in missing]
    reasons += kernel.lacking(tier.kernel) if not missing else []
    reasons += images.lacking() if tier.images and not missing else []
    if shutil.which("go") is None and (
        unbuilt := [name for name in tier.modules if not tools.built(tools.MODULES[name])]
    ):
        reasons.append(f"no Go here to build {', '.join(unbuilt)}")
    return reasons


def _images() -> dict[str, str]:
    """Where a box finds them, as its environment says it. Minutes, when there are none yet."""
    began = time.monotonic()
    made = {images.ARCHIVE: images.built(tools.cache()), store_images.ARCHIVE: store_images.built(tools.cache())}
    say(f"images are there after {time.monotonic() - began:.0f} s")
    return {name: str(path) for name, path in made.items()}


def _logs_folder(name: str) -> Path:
    LOGS.mkdir(parents=True, exist_ok=True)
    older = sorted(LOGS.glob(f"{name}.*"), key=lambda path: path.stat().st_mtime)
    for folder in older[: -KEPT_LOGS + 1]:
        shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}.", dir=LOGS))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
