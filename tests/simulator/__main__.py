"""`python -m tests.simulator --seeds 2000`: many seeds on every core; ends non-zero when one falls.

A failing seed is played again with ever fewer steps, and its shortened story is printed. Each kind of fault must have
struck often, else the run proves nothing and fails.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.cores import cores
from tests.simulator.stage import Told, part
from tests.simulator.steps import FAULTS

LEAST_FAULTS = 50
FULL_RUN = 500
"""From so many seeds on each fault must have struck LEAST_FAULTS times."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--failures", type=int, default=2, help="stop after so many")
    parser.add_argument("--no-story", action="store_true", help="only say which seeds fell")
    arguments = parser.parse_args()
    began = time.monotonic()
    count = min(arguments.processes, arguments.seeds)
    parts = [range(arguments.first + i, arguments.first + arguments.seeds, count) for i in range(count)]
    total = Told()
    if count == 1:
        found = [part(0, [], parts[0], arguments.steps, arguments.failures, not arguments.no_story)]
    else:
        with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
            settings = ([value] * count for value in (arguments.steps, arguments.failures, not arguments.no_story))
            found = list(pool.map(part, range(count), [cores()] * count, parts, *settings))
    for told in found:
        total.seeds += told.seeds
        total.steps += told.steps
        total.grants += told.grants
        total.fired += told.fired
        total.failed |= told.failed
        total.hashes |= told.hashes
    for seed, story in sorted(total.failed.items()):
        print(f"\n=== seed {seed} fell (again: python -m tests.simulator --seeds 1 --first {seed})\n{story}")
    seconds = time.monotonic() - began
    print(
        f"{total.seeds} seeds, {total.steps} steps, {total.grants} grants in {seconds:.0f} s; {len(total.failed)} fell"
    )
    print("faults that struck: " + ", ".join(f"{name} {total.fired[name]}" for name in FAULTS))
    rare = [name for name in FAULTS if total.fired[name] < LEAST_FAULTS]
    if total.seeds >= FULL_RUN and rare:
        print(f"these faults struck fewer than {LEAST_FAULTS} times: {', '.join(rare)}", file=sys.stderr)
        return 1
    return 1 if total.failed else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of a set of texts must not depend on the process: a seed is to have one history.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
    sys.exit(main())
