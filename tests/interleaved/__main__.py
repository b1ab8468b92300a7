"""`python -m tests.interleaved`: every pair of operations, interleaved; ends non-zero when one falls.

Each process has servers of its own, and plays its share of the pairs.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.cores import cores
from tests.interleaved.operations import BESIDE_A_GRANT, OPERATIONS
from tests.interleaved.share import share

PAIRS = [f"{first}-{second}" for first in OPERATIONS for second in OPERATIONS]
PAIRS += [f"grant-{second}" for second in BESIDE_A_GRANT]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.interleaved", description=__doc__)
    parser.add_argument("-k", default="", help="only these: words that a pair's name has, with commas between them")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--failures", type=int, default=3, help="a process stops after so many")
    arguments = parser.parse_args()
    words = [word for word in arguments.k.split(",") if word]
    chosen = [name for name in PAIRS if not words or any(word in name for word in words)]
    if not chosen:
        parser.error(f"no pair has {arguments.k!r} in its name; the operations are {', '.join(OPERATIONS)}")
    began = time.monotonic()
    count = min(arguments.processes, len(chosen))
    if count == 1:
        found = [share(0, [], chosen, arguments.failures)]
    else:
        with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
            parts = [chosen[number::count] for number in range(count)]
            found = list(pool.map(share, range(count), [cores()] * count, parts, [arguments.failures] * count))
    played = {name: number for told in found for name, number in told.played.items()}
    fell = [line for told in found for line in told.fell]
    print(
        f"{len(played)} pairs, {sum(played.values())} interleavings in {time.monotonic() - began:.0f} s; "
        f"{len(fell)} fell"
    )
    return 1 if fell or len(played) < len(chosen) else 0


if __name__ == "__main__":
    sys.exit(main())
