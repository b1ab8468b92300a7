"""`python -m tests.chaos --minutes 10`: traffic x faults x model x validator x report, over real processes.

20,000 items in ten minutes under at least ten SIGKILLs a minute, and all else that can break; ends non-zero when
anything that must hold does not, when too little was killed, and when a kind of fault or of call never came about.
`--mutant NAME` runs the same over a scheduler with that defect of the museum: then something must fall.
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

import orjson
import redis

from tests.chaos.cluster import ROOT, TERM_SECONDS, Cluster
from tests.chaos.faults import Faults
from tests.chaos.gathering import gather
from tests.chaos.model import Problem
from tests.chaos.operators import Operators
from tests.chaos.report import report
from tests.chaos.slots import unlike_leases
from tests.chaos.traffic import Traffic
from tests.chaos.validator import RULES, judge
from tests.museum.__main__ import changed, exhibits

ITEMS_A_MINUTE = 2_000
KILLS_A_MINUTE = 10
DRAIN_SECONDS = 600.0
SLOTS, CHAOS, CALLS = "slots are leases", "enough was broken", "operators were answered"


class Chaos:
    """One run of it; `problems` when it is over."""

    def __init__(self, minutes: float, seed: int, *, items: int, root: Path) -> None:
        source = random.Random(seed)
        self.minutes = minutes
        self.folder = Path(tempfile.mkdtemp(prefix="pc-"))
        self.cluster = Cluster(self.folder, source, root=root)
        self.traffic: Traffic | None = None
        self.source = source
        self.items = items or int(ITEMS_A_MINUTE * minutes)
        self.problems: list[Problem] = []

    def run(self) -> None:
        cluster, source = self.cluster, self.source
        began = time.monotonic()
        cluster.start()
        addresses = f"127.0.0.1:{cluster.planner_port}", f"127.0.0.1:{cluster.proxy.port}"
        traffic = Traffic(*addresses, source, items=self.items, seconds=self.minutes * 60)
        self.traffic = traffic
        traffic.begin()
        faults = Faults(cluster, random.Random(source.random()))
        operators = Operators(traffic, cluster.executions, random.Random(source.random()))
        operators.start()
        self._break(faults)
        operators.stop()
        if self.problems:  # what has fallen already may come to no end
            return
        self._drain(traffic, operators)
        self._at_rest()
        evidence = gather(cluster, traffic, operators, disturbances=sum(faults.struck.values()))
        (self.folder / "evidence.json").write_bytes(
            orjson.dumps(evidence, default=list, option=orjson.OPT_NON_STR_KEYS)
        )
        self.problems += judge(evidence)
        self.problems += [Problem(CHAOS, f"never: {name}") for name in faults.never]
        self.problems += [Problem(CALLS, text) for text in operators.problems]
        self.problems += [Problem(CALLS, f"never: {name}") for name in operators.kinds if not operators.done[name]]
        lines = report(
            evidence,
            self.problems,
            [*RULES, SLOTS, CALLS, CHAOS],
            faults=dict(sorted(faults.struck.items())),
            kills=faults.kills,
            calls=dict(sorted(operators.done.items())) | {"(calls made again)": traffic.repeated},
            seconds=time.monotonic() - began,
        )
        for line in lines:
            print(line)

    def _break(self, faults: Faults) -> None:
        began = time.monotonic()
        wanted = int(KILLS_A_MINUTE * self.minutes)
        pause = 60.0 / KILLS_A_MINUTE / 2.6
        lasts = self.minutes * 60
        # On a machine that is busy with others a little longer, until enough was killed.
        while (since := time.monotonic() - began) < lasts or (faults.kills < wanted and since < 1.5 * lasts):
            time.sleep(self.source.uniform(0.3, 1.7) * pause)
            print(f"{time.monotonic() - began:7.1f} s  {faults.strike()}", flush=True)
            self.cluster.tend()
            with contextlib.suppress(redis.exceptions.RedisError):
                # In the middle of it all the held slots are the live leases.
                self.problems += [Problem(SLOTS, text) for text in unlike_leases(self.cluster.redis_client())]
            if self.problems:
                return
        if faults.kills < wanted:
            self.problems.append(Problem(CHAOS, f"{faults.kills} SIGKILLs in {self.minutes:g} minutes, not {wanted}"))

    def _drain(self, traffic: Traffic, operators: Operators) -> None:
        """All faults end: everything comes to its end in time."""
        deadline = time.monotonic() + DRAIN_SECONDS
        left = 1
        while time.monotonic() < deadline:
            self.cluster.tend()
            operators.settle()
            left = traffic.left()
            if not left and not any(program.stopped_until for program in self.cluster.programs):
                return
            time.sleep(0.5)
        self.problems.append(Problem("nothing is lost", f"{left} items came to no end in {DRAIN_SECONDS:g} s"))

    def _at_rest(self) -> None:
        """Nothing runs, so nobody holds a lease or a slot: at the latest when the last one has run out."""
        client = self.cluster.redis_client()
        deadline = time.monotonic() + 10 * TERM_SECONDS
        while True:
            held = {key.decode(): client.zcard(key) for key in client.scan_iter("*:leases:*")}
            wrong = [f"{name} still has {count} leases" for name, count in held.items() if count]
            wrong += unlike_leases(client)
            if not wrong or time.monotonic() > deadline:
                self.problems += [Problem(SLOTS, text) for text in wrong]
                return
            time.sleep(0.2)

    def close(self) -> None:
        if self.traffic is not None:
            self.traffic.close()
        self.cluster.stop()


def chaos(minutes: float, seed: int, *, items: int = 0, root: Path = ROOT) -> list[Problem]:
    """What is wrong; prints what happened."""
    one = Chaos(minutes, seed, items=items, root=root)
    held = False
    try:
        one.run()
        held = not one.problems
        return one.problems
    finally:
        one.close()
        if held:
            shutil.rmtree(one.folder, ignore_errors=True)
        else:
            print(f"the programs' logs and the witnesses' are in {one.folder}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--items", type=int, default=0)
    parser.add_argument("--mutant", default="")
    arguments = parser.parse_args()
    print(f"chaos for {arguments.minutes:g} minutes, seed {arguments.seed} {arguments.mutant}".rstrip(), flush=True)
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(changed(dict(exhibits())[arguments.mutant])) if arguments.mutant else ROOT
        problems = chaos(arguments.minutes, arguments.seed, items=arguments.items, root=root)
    for problem in problems[:50]:
        print(f"WRONG: {problem}", file=sys.stderr)
    print("nothing was lost, nothing recorded twice" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
