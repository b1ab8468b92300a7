"""`python -m tests.chaos --minutes 10`: traffic x faults x model x validator x report, over real processes.

20,000 items in ten minutes under at least ten SIGKILLs a minute, and all else that can break; ends non-zero when
anything that must hold does not.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import redis

from tests.chaos.cluster import Cluster
from tests.chaos.faults import Faults
from tests.chaos.slots import unlike_leases
from tests.chaos.traffic import Traffic
from tests.chaos.validator import validate

ITEMS_A_MINUTE = 2_000
KILLS_A_MINUTE = 10
DRAIN_SECONDS = 240.0


def chaos(minutes: float, seed: int, *, items: int = 0) -> list[str]:
    """What is wrong; prints what happened."""
    source = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="pc-"))
    items = items or int(ITEMS_A_MINUTE * minutes)
    cluster = Cluster(folder, source)
    traffic: Traffic | None = None
    held = False
    try:
        cluster.start()
        addresses = f"127.0.0.1:{cluster.planner_port}", f"127.0.0.1:{cluster.proxy.port}"
        traffic = Traffic(*addresses, source, items=items, seconds=minutes * 60)
        traffic.begin()
        faults = Faults(cluster, source)
        problems: list[str] = []
        began = time.monotonic()
        wanted = int(KILLS_A_MINUTE * minutes)
        pause = 60.0 / KILLS_A_MINUTE / 2.6
        while time.monotonic() - began < minutes * 60 or faults.kills < wanted:
            time.sleep(source.uniform(0.3, 1.7) * pause)
            print(f"{time.monotonic() - began:7.1f} s  {faults.strike()}", flush=True)
            cluster.tend()
            problems += counted(cluster)
            if source.random() < 0.15:
                traffic.command()
        problems += drained(cluster, traffic)
        verdict = validate(cluster, traffic, disturbances=sum(faults.struck.values()))
        problems += verdict.problems
        print(f"{items} items, {verdict.executions} executions ({verdict.repeated} repeated), {faults.kills} SIGKILLs")
        print("struck: " + ", ".join(f"{name} {count}" for name, count in sorted(faults.struck.items())))
        print(
            f"connections cut after a request: {cluster.proxy.cuts}; leases of a domain at most "
            f"{verdict.most_in_domain}; {time.monotonic() - began:.0f} s"
        )
        held = not problems
        return problems
    finally:
        if traffic is not None:
            traffic.close()
        cluster.stop()
        if held:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"the programs' logs and the witnesses' are in {folder}", flush=True)


def counted(cluster: Cluster) -> list[str]:
    """In the middle of it all the held slots are the live leases."""
    with contextlib.suppress(redis.exceptions.RedisError):
        return list(unlike_leases(cluster.redis_client()))
    return []


def drained(cluster: Cluster, traffic: Traffic) -> list[str]:
    """All faults end: everything comes to its end in time."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline:
        cluster.tend()
        traffic.settle()
        left = traffic.left()
        if not left and not any(program.stopped_until for program in cluster.programs):
            return []
        time.sleep(0.5)
    return [f"{traffic.left()} items came to no end in {DRAIN_SECONDS:g} s"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--items", type=int, default=0)
    arguments = parser.parse_args()
    print(f"chaos for {arguments.minutes:g} minutes, seed {arguments.seed}")
    problems = chaos(arguments.minutes, arguments.seed, items=arguments.items)
    for problem in problems[:50]:
        print(f"WRONG: {problem}", file=sys.stderr)
    print("nothing was lost, nothing recorded twice" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
