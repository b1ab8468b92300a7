"""`python -m tests.museum`: every known defect is put in, one at a time; the simulator or the interleavings find it.

Each file in `mutants/` says what is changed where, and who is asked. A copy of the scheduler is changed, never the
sources; the rest of the project is linked beside it. First the same seeds and pairs are played on the scheduler as it
is, and hold. A mutant that nobody notices, or whose place is not found in the source any more, fails the museum: a test
that cannot fail is a defect. So does one that the interleavings alone were to notice, when the simulator does.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
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

from tests.cores import cores, stay
from tests.museum import mutants
from tests.museum.mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]
LINKED = ("penstock", "planner", "worker", "analyzer", "gateway", "tests", "pyproject.toml")
LIMIT_SECONDS = 600.0
LEAST_ALONE = 3
"""Mutants that only the interleavings notice."""


@dataclass(frozen=True)
class Verdict:
    """by: who noticed first; told: the seed or the pair, and the rule that fell."""

    name: str
    killed: bool
    by: str
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


@dataclass(frozen=True)
class Answer:
    """What a player said. fell: the seed or the pair that fell, and its rule; "": all held; odd: it could not play."""

    fell: str = ""
    odd: str = ""


def simulated(folder: Path, seeds: int) -> Answer:
    words = ("tests.simulator", "--seeds", str(seeds), "--processes", "1", "--failures", "1", "--no-story")
    return _asked(folder, words)


def interleaved(folder: Path, pairs: str) -> Answer:
    return _asked(folder, ("tests.interleaved", "-k", pairs, "--processes", "1", "--failures", "1"))


def _asked(folder: Path, words: Sequence[str]) -> Answer:
    # Into a file: the end of a pipe would wait for every server that has it open too.
    with tempfile.TemporaryFile("w+") as told:
        player = subprocess.Popen(
            [sys.executable, "-P", "-m", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "0"},
            stdout=told,
            stderr=subprocess.STDOUT,
        )
        in_time = True
        try:
            player.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            in_time = False
            player.terminate()  # it ends its servers
            player.wait()
        told.seek(0)
        out = told.read()
    # Only a rule that fell counts: a player that could not play at all has noticed nothing.
    fell = [line.removeprefix("fell: ") for line in out.splitlines() if line.startswith("fell: ")]
    if fell:
        return Answer(fell=fell[0])
    if not in_time:
        return Answer(odd=f"no verdict in {LIMIT_SECONDS:g} s")
    if player.returncode == 0:
        return Answer()
    return Answer(odd=(out.strip().splitlines() or ["not a word"])[-1][:200])


def judged(name: str, mutant: Mutant) -> Verdict:
    """Asks the simulator, then the interleavings; stops at the first that notices."""
    began = time.monotonic()

    def verdict(told: str, *, killed: bool = False, by: str = "") -> Verdict:
        return Verdict(name, killed, by, told, time.monotonic() - began)

    try:
        with changed(mutant) as folder:
            held = ""
            if mutant.seeds:
                answer = simulated(folder, mutant.seeds)
                if answer.odd:
                    return verdict(f"simulator: {answer.odd}")
                if answer.fell and mutant.only_interleaved:
                    return verdict(f"the simulator notices it, which it was not to: {answer.fell}")
                if answer.fell:
                    return verdict(answer.fell, killed=True, by="simulator")
                held = f" ({mutant.seeds} seeds held)"
            if not mutant.pairs:
                return verdict(f"nobody noticed{held}")
            answer = interleaved(folder, mutant.pairs)
            if answer.fell:
                return verdict(answer.fell[:120] + held, killed=True, by="interleaved")
            return verdict(answer.odd or f"nobody noticed{held}, nor did {mutant.pairs}")
    except LookupError as error:
        return verdict(str(error))


def prologue(mutants_: Sequence[Mutant], pool: ThreadPoolExecutor) -> list[str]:
    """The same seeds and pairs on the scheduler as it is; what fell of them."""
    began = time.monotonic()
    seeds = max(mutant.seeds for mutant in mutants_)
    pairs = sorted({pair for mutant in mutants_ for pair in mutant.pairs.split(",") if pair})
    with changed(None) as folder:
        pending = [pool.submit(simulated, folder, seeds)] if seeds else []
        pending += [pool.submit(interleaved, folder, ",".join(pairs))] if pairs else []
        fell = [answer.fell or answer.odd for answer in (one.result() for one in pending) if answer != Answer()]
    took = time.monotonic() - began
    print(f"as it is: {seeds} seeds and {len(pairs)} pairs, {len(fell)} fell  {took:.0f} s", flush=True)
    return fell


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.museum", description=__doc__)
    parser.add_argument("-k", default="", help="only mutants with this in their name")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    chosen = [(name, mutant) for name, mutant in exhibits() if arguments.k in name]
    if not chosen:
        parser.error(f"no mutant has {arguments.k!r} in its name")
    numbers, among = itertools.count(), cores()
    with ThreadPoolExecutor(arguments.processes, initializer=lambda: stay(next(numbers), among)) as pool:
        if fell := prologue([mutant for _, mutant in chosen], pool):
            print(f"the scheduler as it is falls, so nothing can be said: {fell}", file=sys.stderr)
            return 1
        # What takes longest begins first.
        waiting = sorted(chosen, key=lambda one: not one[1].only_interleaved)
        pending = [pool.submit(judged, name, mutant) for name, mutant in waiting]
        verdicts: list[Verdict] = []
        for one in pending:
            verdicts.append(one.result())
            verdict = verdicts[-1]
            word = f"killed by {verdict.by}" if verdict.killed else "ALIVE"
            print(f"{verdict.name:32} {word:22} {verdict.seconds:4.0f} s  {verdict.told}", flush=True)
            print(f"{'':32} {_breaks(verdict.name)}", flush=True)
    return summary(verdicts, whole=not arguments.k)


def _breaks(name: str) -> str:
    said = importlib.import_module(f"{mutants.__name__}.{name}").__doc__ or ""
    return " ".join(said.split())


def summary(verdicts: Sequence[Verdict], *, whole: bool) -> int:
    alive = [verdict.name for verdict in verdicts if not verdict.killed]
    only = sum(verdict.by == "interleaved" and "seeds held" in verdict.told for verdict in verdicts)
    print(f"{len(verdicts)} mutants, {len(verdicts) - len(alive)} killed; {only} fell to the interleavings alone")
    if alive:
        print(f"alive: {', '.join(alive)}", file=sys.stderr)
    return 1 if alive or (whole and only < LEAST_ALONE) else 0


if __name__ == "__main__":
    sys.exit(main())
