"""One seed, played: 150 steps, then everything is mended and every item must come to its end.

`Play.run` answers the violation, or None. The same seed and the same steps give the same history, byte for byte.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import orjson

from penstock.runtime.errors import PenstockError, Unavailable
from penstock.v1 import scheduler_pb2 as pb
from tests.simulator.drawing import ILLS
from tests.simulator.invariants import Model, Violation
from tests.simulator.operators import RUNS, mend, prepare
from tests.simulator.sql_side import SqlWorld
from tests.simulator.steps import STEPS, take
from tests.simulator.wire import Wire
from tests.simulator.workers import LEASE, SimWorker, Work
from tests.simulator.world import TERM_SECONDS, World

__all__ = ["Play"]

FULL_CHECK_EVERY = 25
ITEM_SECONDS = 5.0
"""An item takes no longer in one slot, its second witness included."""
WORKERS = 3


class Play:
    """`left_out`: numbers of steps that are not taken."""

    def __init__(self, seed: int, sql: SqlWorld, client: Wire, folder: Path, *, steps: int = 150) -> None:
        self.seed = seed
        self.steps = steps
        self.world = World(seed, sql, client, folder)
        self.model = Model(self.world)
        self.work = Work()
        self.workers: list[SimWorker] = []
        self.taken = 0
        self.mended = False
        self.lifted: set[int] = set()
        self.model.workers = self.workers

    def run(self, left_out: Collection[int] = ()) -> Violation | None:
        try:
            return self._played(left_out)
        finally:
            self.world.loop.end()

    def _played(self, left_out: Collection[int]) -> Violation | None:
        world = self.world
        for _ in range(2 if world.shared else 1):
            world.start_scheduler()
        for _ in range(WORKERS):
            self.new_worker()
        prepare(self)
        kinds = list(STEPS)
        weights = [STEPS[kind][0] for kind in kinds]
        for number in range(self.steps):
            source = random.Random(f"{self.seed}:step:{number}")
            (kind,) = source.choices(kinds, weights)
            pause = source.choice((0.0, 0.02, 0.05, 0.1, 0.15, 0.4))
            if number not in left_out:
                take(self, "start" if number == 0 else kind, source)
            self._go_on(world.loop.now + pause)
            self.taken = number + 1
            if (number + 1) % FULL_CHECK_EVERY == 0:
                self.model.check_all()
            if self._broken():
                return self.model.broken[0]
        self._mend()
        return self._drain()

    # -- what steps need

    def new_worker(self) -> None:
        name = f"worker-{len(self.workers) + 1}"
        worker = SimWorker(self.world, self.work, self.model, name, self.world.net.choice((1, 4, 16)))
        self.workers.append(worker)
        worker.start()

    def some_worker(self, source: random.Random) -> SimWorker | None:
        there = [worker for worker in self.workers if worker.process.alive and not worker.over]
        return source.choice(there) if there else None

    def some_run(self, source: random.Random) -> str:
        there = sorted(self.model.numbers.items(), key=lambda one: one[1])[-4:]
        return source.choice(there)[0] if there else ""

    def operate(self, method: str, request: Any) -> None:
        self.world.loop.create_task(self._operate(method, request))

    async def _operate(self, method: str, request: Any) -> None:
        """As a client does: again with the same request id until somebody answers."""
        for _ in range(40):
            try:
                path = method if method.startswith("/") else RUNS + method
                answer = await self.world.call("operator", path, request)
            except Unavailable:
                await asyncio.sleep(0.3)
                continue
            except PenstockError as error:
                self.world.tell("operator", f"{method} refused", error.message)
                return
            self.model.commanded(method, request, answer)
            return

    def report_again(self, worker: SimWorker, held: Any, outcome: pb.Outcome, *, different: bool) -> None:
        self.world.loop.create_task(self._report_again(worker, held, outcome, different))

    async def _report_again(self, worker: SimWorker, held: Any, outcome: pb.Outcome, different: bool) -> None:
        copy = pb.Outcome()
        copy.CopyFrom(outcome)
        if different:
            copy.kind = pb.OUTCOME_KIND_FAILED
            copy.error = "another word"
        batch = pb.OutcomeBatch(run_id=held.run_id, stage=held.stage, outcomes=[copy])
        request = pb.ReportRequest(session=worker.session, outcomes=[batch])
        try:
            response = await self.world.call(worker.name, LEASE + "Report", request)
        except PenstockError:
            return
        self.world.fired("report_different" if different else "report_again")
        reason = response.refused[0].reason if response.refused else ""
        self.model.answered(worker.session.session, held.key, copy, reason)

    # -- inside

    def _go_on(self, until: float, done: Callable[[], bool] | None = None) -> None:
        self.world.loop.run(until=until, done=done or self._broken)
        lost = [worker for worker in self.workers if worker.process.alive and not worker.over]
        while len(lost) < WORKERS:
            self.new_worker()
            lost.append(self.workers[-1])

    def _broken(self) -> bool:
        return bool(self.model.broken)

    def _mend(self) -> None:
        world = self.world
        world.tell("step", "all faults end")
        world.calm = True
        world.both_lead_until = 0.0
        world.next_calls.clear()
        world.redis.down_until = world.sql.down_until = world.planner.down_until = 0.0
        world.redis.lose_replies = 0
        world.sql.next_writes.clear()
        for scheduler in world.schedulers:
            scheduler.process.fuse = None
            scheduler.process.stalled_until = 0.0
        if self.model.bounds.stood_until > world.loop.now:
            self.model.bounds.stood_until = -TERM_SECONDS  # it goes on earlier
        for worker in self.workers:
            worker.process.fuse = None
            worker.process.stalled_until = 0.0
            worker.late = worker.never = 0
        mend(self)

    def _drain(self) -> Violation | None:
        """Everything that is left must end in time."""
        world, model = self.world, self.model
        limit, live = 0.0, set[int]()
        while True:
            if not live.issuperset(model.live()):
                # Also what an order brings that was given before, and is given again until somebody answers.
                limit = max(limit, world.loop.now + 3 * TERM_SECONDS + 30.0 + self._work_left())
            live = set(model.live())
            if world.loop.now >= limit:
                break
            self._go_on(min(world.loop.now + 2.0, limit), lambda: self._broken() or not model.live())
            if self._broken() or not model.live():
                break
            mend(self)
        if model.live() and not self._broken():
            for number in model.live():
                self._stuck(number)
        elif not self._broken():
            self._let_go()
        model.check_all()
        return model.broken[0] if model.broken else None

    def _let_go(self) -> None:
        """Nothing runs any more: so nothing may be held, once the sweeps have had their turns."""
        world = self.world
        limit = world.loop.now + 5 * TERM_SECONDS
        while held := world.redis.held():
            if self.model.live():
                self._drain()  # a call that was made before has come through only now
                return
            if world.loop.now >= limit:
                self._tell_redis("")
                self.model.breach("slots", f"nothing runs, and Redis holds {held}")
                return
            self._go_on(world.loop.now + 0.5)

    def _work_left(self) -> float:
        """Seconds that one slot needs for what is left, each ill of each item counted."""
        seconds = 0.0
        query = (
            "SELECT r.number, r.plan_id, r.run_id, s.stage FROM runs r JOIN stages s ON s.run = r.number "
            "WHERE s.state IN ('pending', 'running', 'waiting', 'stopped')"
        )
        for number, plan_id, run_id, stage in self.world.sql.raw.execute(query).fetchall():
            for item in self.world.planner.items(plan_id, stage):
                row = self.model.rows.get((number, stage, item.seq))
                if row is None or row.settled is None:
                    nature = orjson.loads(item.payload)
                    seconds += ITEM_SECONDS
                    for ill, cost in ILLS.items():
                        seconds += cost * max(nature.get(ill, 0) - self.work.done[run_id, stage, item.seq, ill], 0)
        return seconds

    def _stuck(self, number: int) -> None:
        """Tells which item of a run comes to no end."""
        told = self.world.sql.raw.execute(
            "SELECT stage, state, total, running, retry, deferred, completed, failed FROM stages WHERE run = ?",
            (number,),
        ).fetchall()
        subject = str(number)
        self._tell_redis(f":{number}:")
        for stage, state, total, *_ in told:
            if state == "running":
                rows = (self.model.rows.get((number, stage, seq)) for seq in range(total))
                first = [seq for seq, row in enumerate(rows) if row is None or row.settled is None]
                subject = f"{number}/{stage}/{first[0]}" if first else subject
        self.model.breach("all ends", f"the run is {self.model.runs[number]}: {told}", subject)

    def _tell_redis(self, part: str) -> None:
        client = self.world.redis.client
        for key in sorted(client.scan_iter()):
            name, kind = key.decode(), client.type(key)
            if part in name or not any(sign in name for sign in (":ready:", ":leases:", ":fed:")):
                value = client.hgetall(key) if kind == b"hash" else client.zrange(key, 0, 8, withscores=True)
                self.world.tell("redis", name.rpartition("}")[2], value)
