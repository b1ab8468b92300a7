"""Workers of the simulation: the lease protocol as `worker.agent` speaks it, with items that do what their nature says.

What an item does to its attempts is in its payload, so that every worker meets the same: fail so many times, kill its
worker, be throttled, wait for something. `World` may stall a worker, kill it, or keep its reports for later.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from penstock.runtime.errors import Conflict, InvalidInput, PenstockError
from penstock.v1 import scheduler_pb2 as pb
from tests.simulator.drawing import PROCESSORS
from tests.simulator.loop import Process
from tests.simulator.world import HOUR_MS, TERM_SECONDS, World

if TYPE_CHECKING:
    from tests.simulator.invariants import Model

__all__ = ["SimWorker", "Work"]

MARGIN_SECONDS = TERM_SECONDS / 3
MOST_THROTTLES = 4
LEASE = "/penstock.v1.LeaseService/"


@dataclass
class Work:
    """What items did so far, over all workers: (run id, stage, seq) -> how often of each."""

    done: Counter[tuple[str, int, int, str]] = field(default_factory=Counter)
    throttled: Counter[str] = field(default_factory=Counter)

    def next(self, run_id: str, stage: int, seq: int, mode: int, nature: dict[str, Any]) -> str:
        """What this attempt ends in: each ill of the item's nature in turn, then success."""
        ills = ("disagree",) if mode == pb.MODE_CONFIRM else ("kill", "slow", "throttle", "defer", "fail", "release")
        for ill in ills:
            if ill == "throttle" and self.throttled[nature.get("throttle_key", "")] >= MOST_THROTTLES:
                continue  # each one makes its key's closure longer
            if self.done[run_id, stage, seq, ill] < nature.get(ill, 0):
                self.done[run_id, stage, seq, ill] += 1
                self.throttled[nature.get("throttle_key", "")] += ill == "throttle"
                return ill
        return "permanent" if nature.get("permanent") else "complete"


@dataclass
class _Held:
    run_id: str
    stage: int
    lease: pb.Lease
    mode: int
    budgeted: bool
    trusted_until: float
    begun: bool = False

    @property
    def key(self) -> tuple[str, int, int, int]:
        return self.run_id, self.stage, self.lease.seq, self.lease.attempt


class SimWorker:
    """One session. `work` and `model` are the world's."""

    def __init__(self, world: World, work: Work, model: Model, name: str, slots: int) -> None:
        self.world = world
        self.work = work
        self.model = model
        self.name = name
        self.slots = slots
        self.random = world.stream(name)
        self.process = Process(name)
        self.process.on_death.append(lambda: world.tell(name, "dies"))
        self.session = pb.WorkerSession(
            session=world.new_id("session"),
            worker=name,
            worker_class="default",
            processors=dict.fromkeys(PROCESSORS, "1"),
        )
        self.held: dict[tuple[str, int, int, int], _Held] = {}
        self.outbox: list[tuple[_Held, pb.Outcome]] = []
        self.reported: list[tuple[_Held, pb.Outcome]] = []
        self.late = 0
        """So many of the next outcomes are reported only after their lease has run out."""
        self.never = 0
        self.clock_offset_ms = self.random.choice((0, 0, -HOUR_MS, HOUR_MS))
        self.grant_number = 1
        self.freed = asyncio.Event()
        self.ended = asyncio.Event()
        self.over = False

    def start(self) -> None:
        for body in (self._acquire, self._report, self._renew):
            self.world.loop.create_task(body(), context=self.process.context.copy())

    # -- calls

    async def _call(self, method: str, request: Any, *, timeout: float = 25.0) -> Any:
        return await self.world.call(self.name, LEASE + method, request, timeout=timeout)

    async def _acquire(self) -> None:
        while not self.over:
            free = self.slots - (len(self.held) - len(self.outbox))
            if free <= 0:
                self.freed.clear()
                await self.freed.wait()
                continue
            taken, self.outbox = self.outbox, []
            request = pb.AcquireRequest(
                session=self.session,
                grant_number=self.grant_number,
                max_leases=free,
                wait_seconds=self.random.choice((0.0, 2.0, 5.0)),
                outcomes=_batches(taken),
            )
            sent = self.world.loop.now
            try:
                response = await self._call("Acquire", request)
            except (Conflict, InvalidInput) as error:
                self.world.tell(self.name, "ends", error.message)
                self.over = True
                return
            except PenstockError:
                self.outbox[:0] = taken
                await asyncio.sleep(0.1)
                continue
            self.grant_number += 1
            self._settled(taken, response.refused)
            if self.process.alive and self._has_ended():
                return
            until = sent + response.granted_after_seconds + response.term_seconds - MARGIN_SECONDS
            for batch in response.batches:
                for lease in batch.leases:
                    held = _Held(batch.run_id, batch.stage, lease, batch.mode, batch.budgeted, until)
                    if self._takes(held):
                        self.held[held.key] = held
                        asyncio.get_running_loop().create_task(self._run(held))
            if not response.batches:
                await asyncio.sleep(0.5)

    def _takes(self, new: _Held) -> bool:
        """As `worker.held` does: no attempt beside a later one, and an earlier one that has not begun is dropped."""
        for held in [held for held in self.held.values() if held.key[:3] == new.key[:3]]:
            if held.lease.attempt >= new.lease.attempt:
                return False
            if not held.begun:
                del self.held[held.key]
        return True

    async def _report(self) -> None:
        while True:
            self.ended.clear()
            while not self.outbox:
                await self.ended.wait()
                self.ended.clear()
            await asyncio.sleep(self.random.choice((0.1, 0.5)))
            if not self.outbox:
                continue
            taken, self.outbox = self.outbox, []
            request = pb.ReportRequest(session=self.session, outcomes=_batches(taken))
            try:
                response = await self._call("Report", request)
            except (Conflict, InvalidInput):
                self.over = True
                return
            except PenstockError:
                self.outbox[:0] = taken
                continue
            self._settled(taken, response.refused)

    def _settled(self, taken: list[tuple[_Held, pb.Outcome]], refused: Any) -> None:
        why = {(r.run_id, r.stage, r.seq, r.attempt): r.reason for r in refused}
        for held, outcome in taken:
            self.model.answered(self.session.session, held.key, outcome, why.get(held.key, ""))
            self.held.pop(held.key, None)
            self.reported.append((held, outcome))
        self.freed.set()

    async def _renew(self) -> None:
        while not self.over:
            await asyncio.sleep(TERM_SECONDS / 3)
            if not self.held:
                continue
            sent = self.world.loop.now
            batches: dict[tuple[str, int], pb.HeldBatch] = {}
            for held in self.held.values():
                batch = batches.setdefault(
                    (held.run_id, held.stage), pb.HeldBatch(run_id=held.run_id, stage=held.stage)
                )
                batch.leases.add(seq=held.lease.seq, attempt=held.lease.attempt, begun=held.begun)
            keys = list(self.held)
            try:
                answer = await self._call("Renew", pb.RenewRequest(session=self.session, held=batches.values()))
            except (Conflict, InvalidInput):
                self.over = True
                return
            except PenstockError:
                continue
            for key in keys:
                if key in self.held:
                    self.held[key].trusted_until = sent + answer.term_seconds - MARGIN_SECONDS
            waiting = {held.key for held, _ in self.outbox}
            for gone in answer.revoked:
                key = (gone.run_id, gone.stage, gone.seq, gone.attempt)
                if key not in waiting:
                    self.held.pop(key, None)
            for wanted in answer.wanted_back:
                held_back = self.held.get((wanted.run_id, wanted.stage, wanted.seq, wanted.attempt))
                if held_back is not None and not held_back.begun:
                    self._ends(held_back, pb.Outcome(kind=pb.OUTCOME_KIND_RELEASED))
            self.freed.set()

    def _has_ended(self) -> bool:
        """It may have been ended while a call was under way."""
        return self.over

    async def end(self) -> None:
        """Hands everything back."""
        self.over = True
        self.held.clear()
        self.outbox.clear()
        for _ in range(20):
            try:
                await self._call("EndSession", pb.EndSessionRequest(session=self.session))
                return
            except PenstockError:
                await asyncio.sleep(0.2)

    # -- items

    async def _run(self, held: _Held) -> None:
        await asyncio.sleep(self.random.choice((0.0, 0.0, 0.2)))
        if held.key not in self.held or held.trusted_until <= self.world.loop.now:
            self.held.pop(held.key, None)
            self.freed.set()
            return
        held.begun = True
        self.model.executed(self, held.key)
        nature = orjson.loads(held.lease.payload)
        await asyncio.sleep(self.random.choice((0.0, 0.05, 0.5, 2.0)))
        if held.key not in self.held:
            self.freed.set()
            return
        if nature.get("top_up") and held.budgeted:
            await self._top_up(held)
        await self._finish(held, self.work.next(held.run_id, held.stage, held.lease.seq, held.mode, nature), nature)

    async def _top_up(self, held: _Held) -> None:
        """Asks for more money; a refusal is no matter."""
        request = pb.TopUpRequest(session=self.session, micros=held.lease.reserved_micros + 7)
        request.lease.run_id, request.lease.stage = held.run_id, held.stage
        request.lease.seq, request.lease.attempt = held.lease.seq, held.lease.attempt
        request.request_id = f"top-up-{held.run_id}-{held.stage}-{held.lease.seq}-{held.lease.attempt}"
        try:
            answer = await self._call("TopUp", request)
        except PenstockError:
            return
        if answer.granted:
            held.lease.reserved_micros = answer.reserved_micros
            self.world.fired("topped_up")

    async def _finish(self, held: _Held, end: str, nature: dict[str, Any]) -> None:
        outcome = pb.Outcome(kind=pb.OUTCOME_KIND_COMPLETED)
        if end == "kill":
            self.world.fired("item_kills_worker")
            self.process.die()
            return
        if end == "complete":
            outcome.result = orjson.dumps({"attempt": held.lease.attempt})
        elif end == "disagree":
            outcome.kind = pb.OUTCOME_KIND_FAILED
            outcome.error = "the second witness does not agree"
        elif end == "slow":
            await asyncio.sleep(25.0)  # far past max_run_seconds: somebody else must end it
            outcome.kind = pb.OUTCOME_KIND_FAILED
            outcome.error_kind, outcome.error = "timeout", "too slow"
        elif end in ("fail", "permanent"):
            outcome.kind = pb.OUTCOME_KIND_FAILED
            outcome.error_kind, outcome.error = nature.get("kind", "item"), f"broke at {held.lease.seq}"
            outcome.permanent = end == "permanent"
        elif end == "release":
            outcome.kind = pb.OUTCOME_KIND_RELEASED
        elif end == "throttle":
            outcome.kind = pb.OUTCOME_KIND_THROTTLED
            outcome.limit_key = nature["throttle_key"]
            outcome.retry_after_seconds = self.random.choice((0.0, 1.0, 3.0))
        elif end == "defer":
            outcome.kind = pb.OUTCOME_KIND_DEFERRED
            if self.clock_offset_ms:  # it names no time then, but how long
                outcome.retry_after_seconds = 2.0
                self.world.fired("worker_clock_off")
            else:
                outcome.until_time.FromMilliseconds(self.world.now_ms() + 2_000)
            outcome.saved = orjson.dumps({"waited": held.lease.attempt})
        if end != "release" and nature.get("cost"):
            outcome.cost_micros = _cost(held, nature)
        if nature.get("tokens"):
            outcome.used["tokens"] = nature["tokens"]
        if self.never:
            self.never -= 1
            self.world.fired("report_never")
            self.held.pop(held.key, None)
            self.freed.set()
            return
        if self.late:
            self.late -= 1
            self.world.fired("report_late")
            self.held.pop(held.key, None)  # renewed no more
            self.freed.set()
            await asyncio.sleep(TERM_SECONDS * 1.8)
            self.held[held.key] = held
        self._ends(held, outcome)

    def _ends(self, held: _Held, outcome: pb.Outcome) -> None:
        outcome.seq, outcome.attempt = held.lease.seq, held.lease.attempt
        self.outbox.append((held, outcome))
        self.freed.set()
        self.ended.set()


def _cost(held: _Held, nature: dict[str, Any]) -> int:
    """What an attempt costs: the same for the same attempt, seldom more than was reserved."""
    digest = hashlib.blake2b(repr(held.key).encode(), digest_size=2).digest()[0]
    cost: int = nature["cost"] * (60 + digest % 40) // 100
    if held.budgeted and nature.get("overrun") and digest % 8 == 0:
        return cost + held.lease.reserved_micros
    return min(cost, held.lease.reserved_micros) if held.budgeted else cost


def _batches(taken: list[tuple[_Held, pb.Outcome]]) -> list[pb.OutcomeBatch]:
    found: dict[tuple[str, int], pb.OutcomeBatch] = {}
    for held, outcome in taken:
        batch = found.setdefault((held.run_id, held.stage), pb.OutcomeBatch(run_id=held.run_id, stage=held.stage))
        batch.outcomes.append(outcome)
    return list(found.values())
