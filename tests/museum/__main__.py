"""`python -m tests.museum`: every known defect is put in, one at a time; the simulator or the interleavings find it.

Each file in `mutants/` says what is changed where, and who must notice. A copy of the scheduler is changed, never the
sources; the rest of the project is linked beside it. A mutant that nobody notices, or whose place is not found in the
source any more, fails the museum: a test that cannot fail is a defect.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.museum import mutants
from tests.museum.mutant import INTERLEAVED, SIMULATOR, Mutant

ROOT = Path(__file__).resolve().parents[2]
LINKED = ("penstock", "planner", "worker", "analyzer", "gateway", "tests", "pyproject.toml")
LIMIT_SECONDS = 600.0


@dataclass(frozen=True)
class Verdict:
    name: str
    killed: bool
    told: str
    seconds: float


def exhibits() -> Iterator[tuple[str, Mutant]]:
    """Every mutant by the name of its file."""
    for module in sorted(pkgutil.iter_modules(mutants.__path__), key=lambda one: one.name):
        yield module.name, importlib.import_module(f"{mutants.__name__}.{module.name}").MUTANT


@contextmanager
def changed(mutant: Mutant | None) -> Iterator[Path]:
    """A folder in which the scheduler is as the mutant has it."""
    with tempfile.TemporaryDirectory(prefix="museum-") as name:
        folder = Path(name)
        for linked in LINKED:
            (folder / linked).symlink_to(ROOT / linked)
        shutil.copytree(ROOT / "scheduler", folder / "scheduler", ignore=shutil.ignore_patterns("__pycache__"))
        for change in mutant.changes if mutant is not None else ():
            file = folder / change.file
            text = file.read_text()
            if text.count(change.find) < 1:
                raise LookupError(
                    f"{change.file} has no {change.find!r} any more: the mutant must be brought up to date"
                )
            file.write_text(text.replace(change.find, change.replace, 1 if change.once else -1))
        yield folder


def command(mutant: Mutant, seeds: int) -> list[str]:
    if mutant.by == SIMULATOR:
        return [
            *(sys.executable, "-P", "-m", "tests.simulator", "--processes", "1", "--failures", "1", "--no-story"),
            *("--seeds", str(seeds), "--first", str(mutant.first)),
        ]
    assert mutant.by == INTERLEAVED
    return [
        *(sys.executable, "-P", "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"),
        *("tests/interleaved", "-k", mutant.pairs, "--timeout", "300", "--rootdir", str(ROOT)),
    ]


def judged(name: str, mutant: Mutant, seeds: int) -> Verdict:
    began = time.monotonic()
    try:
        with changed(mutant) as folder:
            answer = subprocess.run(
                command(mutant, seeds),
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "0"},
                capture_output=True,
                text=True,
                timeout=LIMIT_SECONDS,
                check=False,
            )
    except LookupError as error:
        return Verdict(name, False, str(error), time.monotonic() - began)
    except subprocess.TimeoutExpired:
        return Verdict(name, False, f"no verdict in {LIMIT_SECONDS:g} s", time.monotonic() - began)
    killed, told = _read(mutant, answer)
    return Verdict(name, killed, told, time.monotonic() - began)


def _read(mutant: Mutant, answer: subprocess.CompletedProcess[str]) -> tuple[bool, str]:
    lines = answer.stdout.splitlines()
    if mutant.by == SIMULATOR:
        fell = [line for line in lines if line.startswith("fell: ")]
        if answer.returncode == 1 and fell:
            return True, fell[0].removeprefix("fell: ")
    else:
        # Only a rule that fell counts: a test that could not run at all has noticed nothing.
        fell = [line for line in lines if line.startswith("E ") and "after" in line and "statements" in line]
        if answer.returncode == 1 and fell:
            return True, fell[0][:160]
    return False, "nobody noticed" if answer.returncode == 0 else (lines + answer.stderr.splitlines())[-1][:200]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.museum", description=__doc__)
    parser.add_argument("-k", default="", help="only mutants with this in their name")
    parser.add_argument("--seeds", type=int, default=300, help="so many are tried on each")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    chosen = [(name, mutant) for name, mutant in exhibits() if arguments.k in name]
    with ThreadPoolExecutor(arguments.processes) as pool:
        pending = [pool.submit(judged, name, mutant, arguments.seeds) for name, mutant in chosen]
        verdicts: list[Verdict] = []
        for (name, mutant), one in zip(chosen, pending, strict=True):
            verdicts.append(one.result())
            verdict = verdicts[-1]
            word = "killed" if verdict.killed else "ALIVE "
            print(f"{word} {name:32} {mutant.by:12} {verdict.seconds:5.0f} s  {verdict.told}", flush=True)
    return summary(chosen, verdicts)


def summary(chosen: Sequence[tuple[str, Mutant]], verdicts: Sequence[Verdict]) -> int:
    alive = [verdict.name for verdict in verdicts if not verdict.killed]
    only = sum(mutant.by == INTERLEAVED for _, mutant in chosen)
    print(f"{len(verdicts)} mutants, {len(verdicts) - len(alive)} killed, {only} of them by the interleavings")
    if alive:
        print(f"alive: {', '.join(alive)}", file=sys.stderr)
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
