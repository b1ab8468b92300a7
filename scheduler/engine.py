"""The lease engine: propose (Redis), decide (SQL), answer; and what happens when Redis is lost.

One acquire is: settle and grant in one transaction, shared with other calls; then Redis hears of it; then the worker.
An item is granted when that transaction has committed, never before. While `granting` is off (at start, after Redis
was lost) acquires settle what they report and wait.

What Redis proposed and no transaction granted (the call was cancelled, SQL refused) is handed back at once; a proposal
that nobody knows of any more is found by the sweep of leases that ran out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.runtime import metrics
from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import Clock
from penstock.runtime.errors import InvalidInput, PenstockError, Unavailable
from penstock.runtime.logs import get_logger
from penstock.runtime.settings import SchedulerSection
from penstock.runtime.sql import Database
from penstock.v1 import scheduler_pb2 as pb
from scheduler.answers import Answers
from scheduler.commit import GroupCommit
from scheduler.domain.outcomes import Backoff
from scheduler.domain.states import ItemState, RunState
from scheduler.observing import note_grants, note_reports
from scheduler.proposing import Proposer
from scheduler.ready import Lost, Ready, StageKey
from scheduler.returning import Returning
from scheduler.store import leaders, leases
from scheduler.store.effects import Effects, Slot, merged
from scheduler.store.endings import Endings, Refusal, Rules, Spared
from scheduler.store.items import rows_of
from scheduler.store.limits import Caution
from scheduler.store.numbers import numbers_of
from scheduler.store.unit import Units
from scheduler.translate import refusal_message
from scheduler.watching import Begun, Phase, Phases, Watchers
from scheduler.windows import Windows

__all__ = ["Engine"]

MAX_WAIT_SECONDS = 20.0
MAX_LEASES = 10_000
POLL_SECONDS = 1.0
UNWELL_SECONDS = 3.0

log = get_logger("engine")


class Engine:
    """Leases of this scheduler. `windows` are its open stages, `commits` its only writer."""

    def __init__(
        self,
        settings: SchedulerSection,
        database: Database,
        windows: Windows,
        ready: Ready,
        blobs: BlobStore,
        *,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._windows = windows
        self._ready = ready
        self._answers = Answers(windows, blobs, settings.lease_term_seconds)
        self._clock = clock
        self.commits = GroupCommit(database, self._apply, self._begin, queue_size=settings.commit_queue)
        self.caution = Caution()
        self.rules = Rules(Backoff(settings.retry_first_seconds, settings.retry_max_seconds), jitter, self.caution)
        self.watchers = Watchers()
        self._begun = Begun()
        self.phases = Phases()
        self.granting = False
        self.quiet_until_ms = 0
        self.lost = asyncio.Event()
        self.lost.set()
        self.committed: Callable[[set[int], set[int]], None] = lambda moved, changed: None
        self._shared = not database.is_sqlite
        self._generation = ""
        self._lost_at, self._why = clock.monotonic(), "it has not been asked yet"
        self._wake = asyncio.Event()
        self._moved: set[int] = set()
        self._move = asyncio.Event()
        self._look: asyncio.TimerHandle | None = None
        self._returning = Returning(self.commits, ready, self._apply, term_seconds=settings.lease_term_seconds)
        self._proposer = Proposer(
            windows,
            ready,
            hand_back=self._returning.undecided,
            lost=self.redis_lost,
            moved=self.moved,
            look_at=self.wake_at,
            weights=settings.owner_weights,
        )
        windows.lost, windows.commits = self._feeding_lost, self.commits

    @property
    def term_ms(self) -> int:
        return int(self._settings.lease_term_seconds * 1000)

    def now_ms(self) -> int:
        return self._clock.now_ms()

    # -- workers' calls

    async def acquire(self, request: pb.AcquireRequest) -> pb.AcquireResponse:
        """Settles what is reported, then leases; waits for work when there is none."""
        session = self._session(request.session)
        most = min(request.max_leases, MAX_LEASES)
        if most and request.grant_number < 1:
            raise InvalidInput("grant_number must be 1 or more", code="bad_grant_number")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(request.wait_seconds, MAX_WAIT_SECONDS)
        arrived_ms = self.now_ms()
        outcomes = list(request.outcomes)
        refused: list[Refusal] = []
        first = True
        while True:
            woken = self._wake
            looked = loop.time()
            left = deadline - looked
            proposals = await self._proposed(request, most, outcomes) if most and self.granting else {}
            # Also the last time, empty-handed: the same call, made twice, may have been granted something meanwhile.
            if proposals or first or left <= 0:
                opened = dict(self._windows.stages)
                answer = await self._record(session, request, outcomes, proposals)
                refused += answer.refused
                outcomes, first = [], False
                if answer.batches:
                    note_grants(answer.batches, answer.granted_ms, loop.time() - looked)
                if answer.batches or not most or left <= 0:
                    response = await self._answers.response(answer.batches, opened)
                    response.refused.extend(refusal_message(r) for r in refused)
                    response.granted_after_seconds = (answer.granted_ms - arrived_ms) / 1000
                    return response
            if proposals:
                continue
            with contextlib.suppress(TimeoutError):
                # Whoever waits looks now and then all the same: a word between schedulers may be lost.
                async with asyncio.timeout_at(min(deadline, loop.time() + POLL_SECONDS)):
                    await woken.wait()

    async def report(self, request: pb.ReportRequest) -> list[Refusal]:
        """Settles outcomes; answers the refused ones."""
        session = self._session(request.session)

        def work(connection: sa.Connection, effects: Effects) -> list[Refusal]:
            leases.seen(connection, session, self.now_ms())
            return self._endings(connection, effects).settle_reports(session.session, request.outcomes)

        return self._counted(await self.commits.run(work), request.outcomes)

    async def renew(self, request: pb.RenewRequest) -> pb.RenewResponse:
        """Extends what the rows say is held by this session; names what must be stopped or handed back."""
        session = self._session(request.session)

        def work(connection: sa.Connection, effects: Effects) -> pb.RenewResponse:
            answer = pb.RenewResponse(term_seconds=self._settings.lease_term_seconds)
            for batch in request.held:
                number, state = leases.run_of(connection, batch.run_id) or (0, RunState.STOPPED)
                rows = rows_of(connection, number, batch.stage, [held.seq for held in batch.leases])
                for held in batch.leases:
                    row = rows.get(held.seq)
                    lease = pb.LeaseId(run_id=batch.run_id, stage=batch.stage, seq=held.seq, attempt=held.attempt)
                    if (
                        row is None
                        or row.attempt != held.attempt
                        or row.session != session.session
                        or row.state != ItemState.RUNNING
                    ):
                        answer.revoked.append(lease)
                        continue
                    effects.renew.setdefault((number, batch.stage), []).append(row.slot)
                    if not held.begun and state is not RunState.RUNNING:
                        answer.wanted_back.append(lease)
            leases.seen(connection, session, self.now_ms())
            return answer

        response = await self.commits.run(work)
        revoked = {(lease.run_id, lease.stage, lease.seq, lease.attempt) for lease in response.revoked}
        begun = set()
        phases: dict[tuple[str, int, int], Phase] = {}
        for batch in request.held:
            for held in batch.leases:
                lease = (batch.run_id, batch.stage, held.seq, held.attempt)
                if held.begun:
                    begun.add(lease)
                if lease not in revoked and (held.phase or held.progress):
                    phases[batch.run_id, batch.stage, held.seq] = Phase(held.progress, held.phase)
        self._begun.note(session.session, begun, self.now_ms())
        self.phases.note(session.session, phases, self.now_ms())
        return response

    async def end_session(self, session: leases.Session, reason: str, *, handed_back: bool) -> int:
        """Takes back all that a session holds; returns how many. `handed_back`: so says its worker; else it is gone."""

        def work(connection: sa.Connection, effects: Effects) -> int:
            with contextlib.suppress(PenstockError):
                leases.seen(connection, session, self.now_ms())
            endings = self._endings(connection, effects)
            count, name = 0, session.session
            for (run, stage), slots in leases.session_rows(connection, name).items():
                count += endings.lose(run, stage, slots, reason=reason, handed_back=handed_back, session=name)
            leases.end_session(connection, name)
            return count

        return await self.commits.run(work)

    async def lose(self, key: StageKey, slots: Sequence[Slot], reason: str, *, read_ms: int) -> int:
        """Ends leases that had run out at `read_ms`; takes up what was never granted; returns how many still ran."""
        spared = Spared(read_ms - self.term_ms, read_ms)

        def work(connection: sa.Connection, effects: Effects) -> int:
            return self._endings(connection, effects).lose(*key, slots, reason=reason, spared=spared)

        return await self.commits.run(work)

    async def time_out(self, key: StageKey, seqs: Sequence[int]) -> int:
        """Ends what runs too long; returns how many still ran."""

        def work(connection: sa.Connection, effects: Effects) -> int:
            return self._endings(connection, effects).time_out(*key, seqs)

        return await self.commits.run(work)

    # -- inside

    def _session(self, session: pb.WorkerSession) -> leases.Session:
        if not session.session or not session.worker_class:
            raise InvalidInput("the call names no worker session or class", code="bad_session")
        return leases.Session(session.session, session.worker or session.session, session.worker_class)

    def _endings(self, connection: sa.Connection, effects: Effects, units: Units | None = None) -> Endings:
        return Endings(connection, effects, self.rules, self.now_ms(), self._begun, units)

    async def _proposed(
        self, request: pb.AcquireRequest, most: int, outcomes: Sequence[pb.OutcomeBatch]
    ) -> dict[StageKey, leases.Offer]:
        credit: dict[tuple[str, int], int] = {}
        for batch in outcomes:
            credit[batch.run_id, batch.stage] = credit.get((batch.run_id, batch.stage), 0) + len(batch.outcomes)
        stages = self._windows.for_worker(request.session.worker_class, dict(request.session.processors))
        now = self.now_ms()
        return await self._proposer.propose(stages, most=most, credit=credit, now_ms=now, expiry_ms=now + self.term_ms)

    @dataclass(frozen=True)
    class _Answer:
        batches: list[leases.GrantedBatch]
        refused: list[Refusal]
        granted_ms: int
        generation: str

    async def _record(
        self,
        session: leases.Session,
        request: pb.AcquireRequest,
        outcomes: Sequence[pb.OutcomeBatch],
        proposals: dict[StageKey, leases.Offer],
    ) -> _Answer:
        """One transaction. A grant number that was granted already, to a call whose answer was lost, gets the same
        leases again."""
        generation = self._ready.generation

        def work(connection: sa.Connection, effects: Effects) -> Engine._Answer:
            now = self.now_ms()
            # Both parts lock their runs at once, in order of number, and each run is written once.
            units = Units(connection, now)
            reported = numbers_of(connection, {batch.run_id for batch in outcomes})
            units.lock(*reported.values(), *(run for run, _ in proposals))
            refused = self._endings(connection, effects, units).settle_reports(session.session, outcomes)
            number = request.grant_number if request.max_leases else 0
            before = leases.seen(connection, session, now, granted=number)
            batches: list[leases.GrantedBatch] = []
            if number and before == number:
                batches, now = leases.granted_again(connection, session.session, request.grant_number, now)
            current = self._generation if self._shared else self._ready.generation
            if batches or generation != current or not self.granting:
                leases.refuse(connection, effects, proposals)
            elif proposals:
                batches = leases.grant_batches(connection, effects, session, number, proposals, now, units)
            units.finish(effects)
            return Engine._Answer([batch for batch in batches if batch.granted], refused, now, current)

        try:
            answer = await self.commits.run(work)
        except PenstockError as error:
            await self._returning.failed(proposals, error)
            raise
        self._counted(answer.refused, outcomes)
        if answer.generation and answer.generation != generation == self._ready.generation:
            self.redis_lost("another scheduler makes it anew")
        return answer

    def _counted(self, refused: list[Refusal], outcomes: Iterable[pb.OutcomeBatch]) -> list[Refusal]:
        note_reports(outcomes)
        total = sum(len(batch.outcomes) for batch in outcomes)
        metrics.ITEMS_SETTLED.labels("reported").inc(total - len(refused))
        for refusal in refused:
            metrics.REPORTS_REFUSED.labels(refusal.reason).inc()
        return refused

    def _begin(self, connection: sa.Connection) -> None:
        """Before a transaction: who has made Redis? While nothing is granted the row is left to who makes it anew."""
        if self._shared:
            self._generation = leaders.generation(connection) if self.granting else ""

    async def _apply(self, effects: list[Effects]) -> None:
        """Carries out what committed transactions mean for Redis, windows and watchers. Never raises."""
        whole = merged(effects)
        now = self.now_ms()
        try:
            if whole.rebuild is not None:
                await self._ready.rebuild(
                    self._ready.generation,
                    whole.rebuild,
                    owners=whole.owners,
                    limits={key: state for key, state in whole.limits.items() if state is not None},
                    now_ms=now,
                    expiry_ms=now + self.term_ms,
                )
            await self._ready.apply(whole, now_ms=now, expiry_ms=now + self.term_ms)
        except (Lost, Unavailable) as error:
            self.redis_lost(str(error) or "its data is gone")
        for key, places in whole.ready.items():
            self._windows.returned(key, len(places))
        self._windows.learned(whole.learned)
        for number in whole.moved:
            self.moved(number)
        self.watchers.wake(whole.changed)
        if whole.changed or whole.moved or whole.ready or whole.limits:
            self.committed(whole.moved, whole.changed)
        if (whole.ready or whole.forget or whole.limits or whole.used) and self._windows.some_left():
            self.wake()

    def wake(self) -> None:
        """Lets every waiting acquire look again."""
        self._wake.set()
        self._wake = asyncio.Event()

    def wake_at(self, time_ms: int) -> None:
        """Wakes every waiting acquire when something that limits hold back is worth a look."""
        loop = asyncio.get_running_loop()
        at = loop.time() + max(time_ms - self.now_ms(), 0) / 1000
        if self._look is not None and loop.time() < self._look.when() <= at and not self._look.cancelled():
            return
        if self._look is not None:
            self._look.cancel()
        self._look = loop.call_at(at, self.wake)

    def moved(self, number: int) -> None:
        """Lets the stages of a run be opened and closed as SQL says."""
        self._moved.add(number)
        self._move.set()

    # -- loops

    def redis_lost(self, why: str) -> None:
        """Nothing is granted until leases are rebuilt."""
        if self.granting:
            log.warning("Redis was lost; leases are being rebuilt from SQL", reason=why)
            self._lost_at = self._clock.monotonic()
        self.granting, self._why = False, why
        self.lost.set()

    async def check(self) -> None:
        """Raises Unavailable when nothing has been granted for longer than making Redis anew takes."""
        if not self.granting and self._clock.monotonic() - self._lost_at > UNWELL_SECONDS:
            raise Unavailable(f"nothing is leased: Redis can't be made anew ({self._why})", code="redis_unavailable")

    def _feeding_lost(self, why: str) -> None:
        if self.granting:  # else it is being made anew, and all windows are opened after that
            self.redis_lost(why)

    async def follow(self) -> None:
        """Opens and closes stages after states moved; runs until cancelled."""
        while True:
            await self._some_moved()
            while self._moved:
                number = self._moved.pop()
                try:
                    await self._windows.refresh(number)
                except Lost:
                    self._feeding_lost("its data is gone")  # all stages are opened again when it is back
                except Unavailable as error:
                    self._moved.add(number)
                    if error.code == "redis_unavailable":
                        self.redis_lost(error.message)
                    await asyncio.sleep(0.2)
            self.wake()

    async def _some_moved(self) -> None:
        """Waits for a run that moved; looks now and then for those that a commit moved which was taken for failed."""
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._move.wait()
        except TimeoutError:
            with contextlib.suppress(Unavailable):
                self._moved |= await self._windows.astray() if self.granting else set()
        self._move.clear()

    async def fed(self) -> None:
        """Wakes waiting acquires when a window was filled; runs until cancelled."""
        while True:
            await self._windows.fed.wait()
            self._windows.fed.clear()
            self.wake()
