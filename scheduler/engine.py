"""The lease engine: propose (Redis), decide (SQL), answer; and what happens when Redis is lost.

One acquire is: settle and grant in one transaction, shared with other calls; then Redis hears of it; then the worker.
An item is granted when that transaction has committed, never before. While `granting` is off (at start, after Redis
was lost) acquires settle what they report and wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.runtime import metrics
from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import Clock, IdSource
from penstock.runtime.errors import InvalidInput, PenstockError, Unavailable
from penstock.runtime.logs import get_logger
from penstock.runtime.settings import SchedulerSection
from penstock.runtime.sql import Database
from penstock.v1 import scheduler_pb2 as pb
from scheduler.commit import Effects, GroupCommit
from scheduler.domain.outcomes import Backoff
from scheduler.domain.states import ItemState, RunState
from scheduler.ready import Lost, Ready, StageKey
from scheduler.store import leases
from scheduler.store.endings import Endings, Refusal, Rules
from scheduler.store.items import Proposal
from scheduler.translate import refusal_message
from scheduler.watching import Phase, Watchers
from scheduler.windows import OpenStage, Windows

__all__ = ["Engine"]

INLINE_PAYLOAD_BYTES = 64_000
MAX_WAIT_SECONDS = 20.0
MAX_LEASES = 10_000
REBUILD_SECONDS = 0.5

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
        new_id: IdSource,
        jitter: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._windows = windows
        self._ready = ready
        self._blobs = blobs
        self._clock = clock
        self._new_id = new_id
        self.commits = GroupCommit(database, self._apply, queue_size=settings.commit_queue)
        self.rules = Rules(Backoff(settings.retry_first_seconds, settings.retry_max_seconds), jitter)
        self.watchers = Watchers()
        self.phases: dict[tuple[str, int], Phase] = {}
        self.granting = False
        self.quiet_until_ms = 0
        self._lost = asyncio.Event()
        self._lost.set()
        self._wake = asyncio.Event()
        self._moved: asyncio.Queue[int] = asyncio.Queue()

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
        outcomes = list(request.outcomes)
        refused: list[Refusal] = []
        first = True
        while True:
            woken = self._wake
            proposals = await self._propose(request, most, outcomes) if most and self.granting else {}
            if proposals or outcomes or first:
                opened = dict(self._windows.stages)
                answer = await self._record(session, request, outcomes, proposals, again=first)
                refused += answer.refused
                outcomes, first = [], False
                if answer.batches or not most:
                    return await self._response(answer.batches, refused, opened)
            left = deadline - loop.time()
            if left <= 0 or not most:
                return await self._response([], refused, {})
            if proposals:
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), left)

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
        answer = pb.RenewResponse(term_seconds=self._settings.lease_term_seconds)

        def work(connection: sa.Connection, effects: Effects) -> pb.RenewResponse:
            confirmed = 0
            for batch in request.held:
                rows = leases.held_rows(connection, batch.run_id, batch.stage, [held.seq for held in batch.leases])
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
                    confirmed = max(confirmed, row.grant_number)
                    effects.renew.setdefault((row.number, batch.stage), []).append(held.seq)
                    if not held.begun and row.run_state != RunState.RUNNING:
                        answer.wanted_back.append(lease)
            leases.seen(connection, session, self.now_ms(), confirmed=confirmed)
            return answer

        response = await self.commits.run(work)
        for batch in request.held:
            for held in batch.leases:
                if held.phase or held.progress:
                    self.phases[batch.run_id, batch.stage] = Phase(held.progress, held.phase)
        return response

    async def end_session(self, session: leases.Session, reason: str, *, handed_back: bool) -> int:
        """Takes back all that a session holds; returns how many. `handed_back`: its worker says so itself, and no
        item pays a try; else the worker is gone."""

        def work(connection: sa.Connection, effects: Effects) -> int:
            with contextlib.suppress(PenstockError):
                leases.seen(connection, session, self.now_ms())
            endings = self._endings(connection, effects)
            count = 0
            for (run, stage), seqs in leases.session_rows(connection, session.session).items():
                count += endings.lose(run, stage, seqs, reason=reason, handed_back=handed_back)
            leases.end_session(connection, session.session)
            return count

        return await self.commits.run(work)

    async def lose(self, key: StageKey, seqs: Sequence[int], reason: str) -> int:
        """Ends leases that ran out; returns how many still ran."""

        def work(connection: sa.Connection, effects: Effects) -> int:
            return self._endings(connection, effects).lose(*key, seqs, reason=reason)

        return await self.commits.run(work)

    # -- inside

    def _session(self, session: pb.WorkerSession) -> leases.Session:
        if not session.session or not session.worker_class:
            raise InvalidInput("the call names no worker session or class", code="bad_session")
        return leases.Session(session.session, session.worker or session.session, session.worker_class)

    def _endings(self, connection: sa.Connection, effects: Effects) -> Endings:
        return Endings(connection, effects, self.rules, self.now_ms())

    async def _propose(
        self, request: pb.AcquireRequest, most: int, outcomes: Sequence[pb.OutcomeBatch]
    ) -> dict[StageKey, list[Proposal]]:
        """What Redis offers this worker, with keys and groups from the windows."""
        stages = self._windows.for_worker(request.session.worker_class, dict(request.session.processors))
        if not stages:
            return {}
        credit: dict[tuple[str, int], int] = {}
        for batch in outcomes:
            credit[batch.run_id, batch.stage] = credit.get((batch.run_id, batch.stage), 0) + len(batch.outcomes)
        limits = [(s.key, s.row.concurrency + credit.get((s.run_id, s.row.stage), 0)) for s in stages]
        try:
            found = await self._ready.propose(limits, most=most, expiry_ms=self.now_ms() + self.term_ms)
        except (Lost, Unavailable) as error:
            self.redis_lost(str(error) or "its data is gone")
            return {}
        proposals = {}
        for stage in stages:
            seqs = found.get(stage.key)
            if not seqs:
                continue
            missing = self._windows.took(stage, seqs)
            if missing:
                try:
                    await self._windows.read_missing(stage, missing)
                except PenstockError as error:
                    log.warning("items can't be read from the plan now", run_id=stage.run_id, error=error.message)
                    absent = set(missing)
                    await self._return(stage, [seq for seq in seqs if seq in absent])
                    seqs = [seq for seq in seqs if seq not in absent]
            if seqs:
                proposals[stage.key] = [Proposal(seq, stage.items[seq].key, stage.items[seq].group) for seq in seqs]
        return proposals

    async def _return(self, stage: OpenStage, seqs: list[int]) -> None:
        await self._apply([Effects(forget={stage.key: seqs}, ready={stage.key: seqs})])
        await asyncio.sleep(0.2)

    @dataclass(frozen=True)
    class _Answer:
        batches: list[leases.GrantedBatch]
        refused: list[Refusal]

    async def _record(
        self,
        session: leases.Session,
        request: pb.AcquireRequest,
        outcomes: Sequence[pb.OutcomeBatch],
        proposals: dict[StageKey, list[Proposal]],
        *,
        again: bool,
    ) -> _Answer:
        """One transaction; `again`: the grant may be the repetition of one whose answer was lost."""
        generation = self._ready.generation

        def work(connection: sa.Connection, effects: Effects) -> Engine._Answer:
            now = self.now_ms()
            refused = self._endings(connection, effects).settle_reports(session.session, outcomes)
            before = leases.seen(
                connection,
                session,
                now,
                granted=request.grant_number if request.max_leases else 0,
                confirmed=max(request.grant_number - 1, 0),
            )
            batches: list[leases.GrantedBatch] = []
            if again and request.max_leases and before == request.grant_number:
                batches = leases.granted_again(connection, session.session, request.grant_number)
            if proposals and (batches or generation != self._ready.generation or not self.granting):
                effects.forget.update({key: [p.seq for p in wanted] for key, wanted in proposals.items()})
                effects.ready.update({key: [p.seq for p in wanted] for key, wanted in proposals.items()})
            elif proposals:
                batches = leases.grant_batches(connection, effects, session, request.grant_number, proposals, now)
            return Engine._Answer([batch for batch in batches if batch.granted], refused)

        answer = await self.commits.run(work)
        self._counted(answer.refused, outcomes)
        return answer

    async def _response(
        self, batches: list[leases.GrantedBatch], refused: list[Refusal], opened: Mapping[StageKey, OpenStage]
    ) -> pb.AcquireResponse:
        """The answer with payloads; `opened` are the stages as they were when the proposals were made."""
        response = pb.AcquireResponse(term_seconds=self._settings.lease_term_seconds)
        for batch in batches:
            key = batch.stage.run, batch.stage.stage
            # Granted before a restart, its window may not be open: its items are read for this answer alone.
            stage = opened.get(key) or OpenStage(key, batch.run_id, batch.plan_id, batch.stage, after_seq=-1)
            missing = [g.seq for g in batch.granted if g.seq not in stage.items]
            if missing:
                await self._windows.read_missing(stage, missing)
            out = response.batches.add(
                run_id=batch.run_id,
                stage=batch.stage.stage,
                processor=batch.stage.processor,
                parameters=batch.stage.parameters,
                max_run_seconds=batch.stage.max_run_seconds,
            )
            metrics.LEASES_GRANTED.labels(batch.stage.processor).inc(len(batch.granted))
            for granted in batch.granted:
                item = self._windows.granted(stage, granted.seq)
                lease = out.leases.add(
                    seq=granted.seq,
                    attempt=granted.attempt,
                    key=item.key,
                    group=item.group,
                    tries=granted.tries,
                    alone=granted.alone,
                )
                if len(item.payload) > INLINE_PAYLOAD_BYTES:
                    lease.payload_blob.CopyFrom(self._blobs.put(item.payload))
                else:
                    lease.payload = item.payload
        response.refused.extend(refusal_message(r) for r in refused)
        return response

    def _counted(self, refused: list[Refusal], outcomes: Iterable[pb.OutcomeBatch]) -> list[Refusal]:
        total = sum(len(batch.outcomes) for batch in outcomes)
        metrics.ITEMS_SETTLED.labels("reported").inc(total - len(refused))
        for refusal in refused:
            metrics.REPORTS_REFUSED.labels(refusal.reason).inc()
        return refused

    async def _apply(self, effects: list[Effects]) -> None:
        """Carries out what committed transactions mean for Redis, windows and watchers. Never raises."""
        forget: dict[StageKey, list[int]] = {}
        ready: dict[StageKey, list[int]] = {}
        renew: dict[StageKey, list[int]] = {}
        changed: set[int] = set()
        moved: set[int] = set()
        for effect in effects:
            # In order of the calls: what a later call renews is not forgotten by an earlier one.
            for target, source in ((forget, effect.forget), (ready, effect.ready), (renew, effect.renew)):
                for key, seqs in source.items():
                    target.setdefault(key, []).extend(seqs)
            changed |= effect.changed
            moved |= effect.moved
        for key, seqs in forget.items():
            if key in renew:
                renew[key] = [seq for seq in renew[key] if seq not in set(seqs)]
        ready = {key: seqs for key, seqs in ready.items() if seqs and key in self._windows.stages}
        if forget or ready or renew:
            try:
                await self._ready.apply(forget=forget, ready=ready, renew=renew, expiry_ms=self.now_ms() + self.term_ms)
            except Unavailable as error:
                self.redis_lost(error.message)
        for key, seqs in ready.items():
            self._windows.returned(key, len(seqs))
        for number in moved:
            self._moved.put_nowait(number)
        self.watchers.wake(changed)
        if ready or forget:
            self.wake()

    def wake(self) -> None:
        """Lets every waiting acquire look again."""
        self._wake.set()
        self._wake = asyncio.Event()

    # -- loops

    def redis_lost(self, why: str) -> None:
        """Nothing is granted until leases are rebuilt."""
        if self.granting:
            log.warning("Redis was lost; leases are being rebuilt from SQL", reason=why)
        self.granting = False
        self._lost.set()

    async def rebuild(self) -> None:
        """Waits for the loss of Redis and rebuilds it; runs until cancelled."""
        while True:
            await self._lost.wait()
            self._lost.clear()
            try:
                await self._ready.check()
                await self._rebuild_once()
            except Unavailable as error:
                log.warning("leases can't be rebuilt yet", error=error.message)
                self._lost.set()
                await asyncio.sleep(REBUILD_SECONDS)

    async def _rebuild_once(self) -> None:
        # In the writer's queue: every grant before this is in the rows, every one after sees the new generation.
        generation = self._new_id("generation")
        self._ready.generation = generation

        def work(connection: sa.Connection, effects: Effects) -> dict[StageKey, list[int]]:
            return leases.all_running(connection)

        leased = await self.commits.run(work)
        await self._ready.rebuild(generation, leased, self.now_ms() + self.term_ms)
        self.quiet_until_ms = self.now_ms() + self.term_ms
        await self._windows.reopen_all()
        metrics.REDIS_REBUILDS.inc()
        self.granting = not self._lost.is_set()
        log.info("leases were rebuilt", leased=sum(len(seqs) for seqs in leased.values()))
        self.wake()

    async def follow(self) -> None:
        """Opens and closes stages after states moved; runs until cancelled."""
        while True:
            number = await self._moved.get()
            try:
                await self._windows.refresh(number)
            except Unavailable as error:
                self._moved.put_nowait(number)
                if error.code == "redis_unavailable":
                    self.redis_lost(error.message)
                await asyncio.sleep(0.2)
                continue
            self.phases = {key: value for key, value in self.phases.items() if len(self.phases) < 10_000}
            self.wake()

    async def fed(self) -> None:
        """Wakes waiting acquires when a window was filled; runs until cancelled."""
        while True:
            await self._windows.fed.wait()
            self._windows.fed.clear()
            self.wake()
