"""pandas beside Penstock: in an environment of its own, since the project does not have its packages.

`bench-out/pandas` is made on first use, of the pinned and hashed wheels of `tests/bench/requirements.lock` (x86-64 and
ARM Linux, CPython 3.11 to 3.13), and made again when the lock changes. Without a package index there is no pandas: then
the bench says so and measures the others.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.report import OUT

__all__ = ["pandas_plan", "pandas_python"]

_LOCK = Path(__file__).with_name("requirements.lock")
_PROGRAM = Path(__file__).parent / "rivals" / "pandas_plan.py"


def pandas_python() -> Path | None:
    """The Python that has pandas; None, with a word why, where it can't be had."""
    place = OUT / "pandas"
    made_of, lock = place / "made-of", f"{sys.version}\n{_LOCK.read_text()}"
    python = place / "bin" / "python"
    if made_of.exists() and made_of.read_text() == lock:
        return python
    shutil.rmtree(place, ignore_errors=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary=:all:"]
    for command in ([sys.executable, "-m", "venv", str(place)], [*pip, "-r", str(_LOCK)]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            print(f"   pandas is not measured: {(done.stderr or done.stdout).strip().splitlines()[-1:]}", flush=True)
            return None
    made_of.write_text(lock)
    return python


def pandas_plan(python: Path, folder: Path, *, whole: bool, ranks: Sequence[str]) -> dict[str, str | int | float]:
    """What `tests.bench.selection` is told of a plan."""
    part = "whole" if whole else "filtered"
    command = [str(python), "-I", str(_PROGRAM), str(folder), part, json.dumps(list(ranks))]
    told: dict[str, str | int | float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return told
