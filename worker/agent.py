"""The worker's session with the scheduler: acquire, run, report, renew, drain.

Three tasks: `_acquire` asks for as many leases as there are free slots, and carries along what there is to report;
`_report` sends outcomes that no acquire took; `_renew` extends what is held, every third of the term. Each batch runs
in a task of its own.

A call whose answer was lost is sent again with the same grant number and the same bytes: the scheduler answers it
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penstock.processor import Failure, ProcessorError
from penstock.runtime.channel import calling
from penstock.runtime.errors import Conflict, InvalidInput, PenstockError, TooLarge, Unavailable
from penstock.runtime.logs import get_logger
from penstock.runtime.settings import WorkerSection
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import scheduler_pb2_grpc
from worker.held import Held, HeldLease
from worker.outbox import Outbox
from worker.outcomes import Ended, failed, put, tells_cost
from worker.runner import Runner, StageWork
from worker.top_ups import TopUps

__all__ = ["Agent"]

RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
CALL_SECONDS = 30.0
RENEW_AGAIN_SECONDS = 0.2
PATIENCE_SECONDS = 0.005
"""After a grant, while few slots are free: items that end at once are then reported by the next acquire, and not each
grant followed by a small one."""
CHANGES_SECONDS = 2.0
"""A worker that waits for work learns within so long of processors that were declared meanwhile."""

log = get_logger("agent")


@dataclass(frozen=True)
class _Batch:
    work: StageWork
    leases: tuple[HeldLease, ...]


class Agent:
    """One session. `serve` ends after `drain`, or when the scheduler has ended the session."""

    def __init__(
        self,
        session: pb.WorkerSession,
        stub: scheduler_pb2_grpc.LeaseServiceAsyncStub,
        runner: Runner,
        settings: WorkerSection,
    ) -> None:
        self._session = session
        self._stub = stub
        self._runner = runner
        self._settings = settings
        self._held = Held()
        self._term = 0.0  # seconds; the scheduler's first answer tells it
        self._term_known = asyncio.Event()
        self._grant_number = 1
        self._outbox = Outbox(self._held)
        self._freed = asyncio.Event()
        self._acquiring = False
        self._reporting = 0
        self._settled_some = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._together: set[asyncio.Task[None]] = set()  # of these, the ones that run beside each other
        self._alone = asyncio.Lock()
        self._draining = asyncio.Event()
        self._over = asyncio.Event()
        self._retiring: asyncio.Task[None] | None = None
        runner.top_up = TopUps(session, stub, self._pause)

    async def serve(self) -> None:
        """Works until drained."""
        tasks = [asyncio.create_task(body()) for body in (self._acquire, self._report, self._renew)]
        over = asyncio.create_task(self._over.wait())
        try:
            done, _ = await asyncio.wait([*tasks, over], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task is not over:
                    task.result()
        finally:
            retiring = {self._retiring} if self._retiring is not None else set()
            await _cancelled({*tasks, over, *retiring, *self._running})

    async def ready(self) -> None:
        """Raises Unavailable before the scheduler's first answer, and once nothing more is taken."""
        if self._draining.is_set():
            raise Unavailable("the worker takes nothing more", cause="it drains")
        if not self._term_known.is_set():
            raise Unavailable("the scheduler has not answered yet", cause="the scheduler has not answered yet")

    async def drain(self) -> None:
        """Stops acquiring, hands back what has not begun, lets the rest finish within the grace, and ends the session
        with what is left.
        """
        await self._leave(self._settings.drain_seconds)

    async def retire(self) -> None:
        """The same, and the rest takes as long as it takes: nobody is in a hurry."""
        await self._leave(None)

    def _told_to_drain(self) -> None:
        """By the scheduler: it is no longer needed, or another takes its place."""
        if self._retiring is None and not self._draining.is_set():
            log.info("the scheduler asks it to drain")
            self._retiring = asyncio.create_task(self.retire())

    async def _leave(self, seconds: float | None) -> None:
        self._draining.set()
        self._freed.set()
        self._outbox.release(lease for lease in list(self._held) if not lease.begun)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(self._held) or self._outbox or self._reporting:
                    self._settled_some.clear()
                    await self._settled_some.wait()
        with contextlib.suppress(PenstockError, TimeoutError):
            async with asyncio.timeout(2.0):
                with calling():
                    await self._stub.EndSession(pb.EndSessionRequest(session=self._session), timeout=2.0)
        self._over.set()

    # -- acquire

    async def _acquire(self) -> None:
        failures, patient_until, now = 0, 0.0, asyncio.get_running_loop().time
        while True:
            # What is done and not reported yet is reported by the very call that asks for more.
            free = self._settings.slots - len(self._held) + self._outbox.of_held
            if self._draining.is_set():
                await self._draining_forever()
            if free <= 0 or self._alone.locked():
                self._freed.clear()
                await self._freed.wait()
                continue
            if free < self._settings.slots // 4 and now() < patient_until:
                self._freed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(patient_until):
                        await self._freed.wait()
                continue
            outcomes = self._outbox.take()
            if self._outbox:
                self._outbox.some.set()
            request = pb.AcquireRequest(
                session=self._session,
                grant_number=self._grant_number,
                max_leases=free,
                wait_seconds=min(self._settings.poll_seconds, CHANGES_SECONDS if self._runner.changes else sys.maxsize),
            )
            put(request.outcomes, outcomes)
            sent = asyncio.get_running_loop().time()
            try:
                self._acquiring = True
                with calling():
                    response = await self._stub.Acquire(request, timeout=self._settings.poll_seconds + CALL_SECONDS)
                failures = 0
            except Conflict as error:
                log.error("the session has ended", error=error.message)
                self._over.set()
                return
            except PenstockError as error:
                self._outbox.put_back(outcomes)
                failures = await self._pause(failures, "acquire", error)
                if isinstance(error, InvalidInput | TooLarge):
                    await self._flush()  # it may be for what is reported: that is judged by itself
                continue
            finally:
                self._acquiring = False
            self._grant_number += 1
            if response.drain:
                self._told_to_drain()
            patient_until = now() + PATIENCE_SECONDS
            self._term = response.term_seconds
            self._term_known.set()
            self._settled(outcomes, response.refused)
            # Not from the answer's arrival: whoever was stopped meanwhile reads it when its leases are long lost.
            self._begin(response, sent + response.granted_after_seconds)
            await self._runner.turn()
            # Only between two grants: an acquire that is sent again names the versions that it named before.
            if self._runner.changes:
                self._session.processors.clear()
                self._session.processors.update(self._runner.versions())

    async def _draining_forever(self) -> None:
        self._outbox.some.set()
        await self._over.wait()

    def _trusted_until(self, since: float) -> float:
        """Leases may be begun until then; `since`: when they were granted, or a renewal sent."""
        return since + self._term - min(self._settings.lease_margin_seconds, self._term / 3)

    def _begin(self, response: pb.AcquireResponse, granted: float) -> None:
        until = self._trusted_until(granted)
        alone: list[_Batch] = []
        for batch in response.batches:
            work = StageWork(
                batch.run_id,
                batch.stage,
                batch.processor,
                batch.parameters,
                batch.max_run_seconds,
                batch.mode,
                batch.budgeted,
                self._session.processors.get(batch.processor, ""),
            )
            held = [HeldLease(batch.run_id, batch.stage, lease, until) for lease in batch.leases]
            held = [lease for lease in held if self._held.add(lease)]
            # This acquire was under way when an item began to run alone: whoever is free may have what it brought.
            if self._draining.is_set() or self._alone.locked():
                self._outbox.release(held)
                continue
            try:
                size = self._runner.batch_size(work.processor, work.version)
            except ProcessorError as error:
                for lease in held:
                    lease.begun = True
                    self._outbox.add((lease, failed(lease, Failure(str(error)))))
                self._outbox.some.set()
                continue
            together = [lease for lease in held if not lease.lease.alone]
            for start in range(0, len(together), size):
                self._spawn(_Batch(work, tuple(together[start : start + size])), alone=False)
            alone += [_Batch(work, (lease,)) for lease in held if lease.lease.alone]
        for one in alone:
            self._spawn(one, alone=True)

    def _spawn(self, batch: _Batch, *, alone: bool) -> None:
        task = asyncio.create_task(self._run_alone(batch) if alone else self._run(batch))
        if not alone:
            self._together.add(task)
            task.add_done_callback(self._together.discard)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    # -- run

    async def _run(self, batch: _Batch) -> None:
        for lease, outcome in await self._runner.run(batch.work, batch.leases, self._begun):
            if self._held.holds(lease):
                self._outbox.add((lease, outcome))
            elif tells_cost(outcome, budgeted=batch.work.budgeted):
                # It will be refused, and its money counts all the same.
                self._outbox.add_unheld((lease, outcome))
        self._outbox.some.set()
        self._freed.set()

    def _begun(self, leases: Sequence[HeldLease]) -> list[HeldLease]:
        """Begins these but for what was handed back, revoked, or can't be trusted any more."""
        now = asyncio.get_running_loop().time()
        held = [lease for lease in leases if self._held.holds(lease)]
        self._held.drop(lease.key for lease in held if lease.trusted_until <= now)
        begun = [lease for lease in held if lease.trusted_until > now]
        for lease in begun:
            lease.begun = True
        return begun

    async def _run_alone(self, batch: _Batch) -> None:
        """An item that may have killed its worker: everything else ends first, and the scheduler knows before it
        begins.
        """
        async with self._alone:
            while self._together:
                await asyncio.wait(set(self._together))
            await self._flush()
            (lease,) = batch.leases
            if await self._confirm(lease):
                await self._run(batch)
                await self._flush()
        self._freed.set()

    async def _confirm(self, lease: HeldLease) -> bool:
        """Tells the scheduler that the lease has been begun; False when it does not hold."""
        lease.begun = True
        failures = 0
        while self._held.holds(lease):
            try:
                await self._renew_once()
                return self._held.holds(lease)
            except PenstockError as error:
                failures = await self._pause(failures, "renew", error)
        return False

    # -- report

    async def _report(self) -> None:
        while True:
            await self._outbox.some.wait()
            self._outbox.some.clear()
            # An acquire that is about to be sent takes them along; one that waits for work does not.
            await asyncio.sleep(0)
            if self._acquiring or self._draining.is_set() or self._alone.locked():
                await self._flush()

    async def _flush(self) -> None:
        """Reports everything that waits; goes on until the scheduler has answered."""
        failures = 0
        while outcomes := self._outbox.take():
            self._reporting += len(outcomes)
            request = pb.ReportRequest(session=self._session)
            put(request.outcomes, outcomes)
            try:
                with calling():
                    response = await self._stub.Report(request, timeout=CALL_SECONDS)
                self._settled(outcomes, response.refused)
                failures = 0
            except Conflict as error:
                log.error("the session has ended", error=error.message)
                self._over.set()
                return
            except PenstockError as error:
                self._outbox.unreported(outcomes, error)
                failures = await self._pause(failures, "report", error)
            finally:
                self._reporting -= len(outcomes)
                self._freed.set()
                self._settled_some.set()

    def _settled(self, outcomes: Sequence[Ended], refused: Sequence[pb.OutcomeAnswer]) -> None:
        self._outbox.settled(outcomes, refused)
        if outcomes:
            self._freed.set()
            self._settled_some.set()

    # -- renew

    async def _renew(self) -> None:
        failures = 0
        await self._term_known.wait()
        while True:
            await asyncio.sleep(self._term / 3 if not failures else RENEW_AGAIN_SECONDS)
            if not len(self._held):
                continue
            try:
                await self._renew_once()
                failures = 0
            except PenstockError as error:
                _tell(failures, "renew", error)
                failures += 1

    async def _renew_once(self) -> None:
        sent = asyncio.get_running_loop().time()
        held = self._held.batches()
        keys = [lease.key for lease in self._held]
        with calling():
            response = await self._stub.Renew(pb.RenewRequest(session=self._session, held=held), timeout=CALL_SECONDS)
        if response.drain:
            self._told_to_drain()
        self._term = response.term_seconds
        self._held.renewed(keys, self._trusted_until(sent))
        reported = self._outbox.keys()
        for lease_id in response.revoked:
            key = (lease_id.run_id, lease_id.stage, lease_id.seq, lease_id.attempt)
            if key not in reported:
                self._held.revoke(key)
        back = []
        for lease_id in response.wanted_back:
            lease = self._held.get((lease_id.run_id, lease_id.stage, lease_id.seq, lease_id.attempt))
            if lease is not None and not lease.begun:
                back.append(lease)
        if back:
            self._outbox.release(back)
        self._freed.set()

    async def _pause(self, failures: int, what: str, error: PenstockError) -> int:
        _tell(failures, what, error)
        await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
        return failures + 1


def _tell(failures: int, what: str, error: PenstockError) -> None:
    """A line when a call first fails, and few while it goes on."""
    if failures in (0, 10) or failures % 100 == 0:
        log.warning("the scheduler can't be reached; trying again", call=what, error=error.message)


async def _cancelled(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancels until all have ended: a call that fails in the very moment of its cancellation can swallow it."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=0.5)
