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
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.runtime import metrics
from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import Clock
from penstock.runtime.errors import Conflict, InvalidInput, PenstockError, Unavailable
from penstock.runtime.logs import get_logger
from penstock.runtime.settings import SchedulerSection
from penstock.v1 import scheduler_pb2 as pb
from scheduler.answers import Answers
from scheduler.commit import GroupCommit
from scheduler.domain.outcomes import Backoff
from scheduler.first_window import FirstWindows
from scheduler.observing import note_grants, note_reports
from scheduler.proposing import Proposer
from scheduler.ready import Lost, Ready, StageKey
from scheduler.redis_errors import OUT_OF_MEMORY
from scheduler.renewing import Renewed, renewed, said, sparing_ms, telling_ms
from scheduler.returning import Returning
from scheduler.store import held, leaders, leases
from scheduler.store.effects import Effects, Slot, merged
from scheduler.store.endings import Endings, Refusal, Rules, Spared
from scheduler.store.items import Stale
from scheduler.store.limits import Caution
from scheduler.store.locking import Units, hold
from scheduler.store.numbers import numbers_of, runs_of
from scheduler.store.remembered import Remembered
from scheduler.translate import refusal_message, session_of
from scheduler.trouble import Trouble
from scheduler.waiting import Kind, Waiting
from scheduler.watching import Begun, Phases, Watchers
from scheduler.windows import Windows

__all__ = ["Engine"]

MAX_WAIT_SECONDS = 20.0
DRAIN_PAUSE_SECONDS = 0.2
MAX_LEASES = 10_000
POLL_SECONDS = 1.0
UNWELL_SECONDS = 3.0
"""Making Redis anew takes no longer; that it does is told."""

log = get_logger("engine")


@dataclass(frozen=True)
class _Answer:
    """What one transaction granted and refused, when, and under which generation of Redis it stands in SQL."""

    batches: list[leases.GrantedBatch]
    refused: list[Refusal]
    granted_ms: int
    generation: str
    drain: bool


class Engine:
    """Leases of this scheduler. `windows` are its open stages, `commits` its only writer, which is served with `apply`.
    shared: there may be other schedulers; moved: is told of runs whose stages may be others now; committed: of every
    commit, which runs it moved and which it changed."""

    def __init__(
        self,
        settings: SchedulerSection,
        commits: GroupCommit,
        windows: Windows,
        ready: Ready,
        blobs: BlobStore,
        *,
        shared: bool,
        clock: Clock,
        jitter: Callable[[], float],
        moved: Callable[[int], None],
        committed: Callable[[set[int], set[int]], None] | None,
    ) -> None:
        self._settings = settings
        self._windows = windows
        self._ready = ready
        self._answers = Answers(windows, blobs, settings.lease_term_seconds)
        self._clock = clock
        self.commits = commits
        self.moved = moved
        self._committed = committed
        self.caution = Caution()
        self.rules = Rules(Backoff(settings.retry_first_seconds, settings.retry_max_seconds), jitter, self.caution)
        self.watchers = Watchers()
        self.begun = Begun()
        self._remembered = Remembered()
        self.phases = Phases()
        self.granting = False
        self.quiet_until_ms = 0
        self.lost = asyncio.Event()
        self.lost.set()
        self._shared = shared
        self.trouble = Trouble(
            "nothing is leased, Redis is of no use", patience_seconds=UNWELL_SECONDS, monotonic=clock.monotonic
        )
        self.unsaid = False
        """Whether Redis did not hear of a commit since it had no memory: its data is whole, and not what SQL says."""
        self.waiting = Waiting(clock.now_ms)
        self.draining: set[str] = set()
        """Sessions that this process has told to drain: their calls do not wait for work. SQL alone says who drains."""
        self._returning = Returning(commits, ready, self.apply, term_seconds=settings.lease_term_seconds)
        self._proposer = Proposer(
            windows,
            ready,
            hand_back=self._returning.undecided,
            lost=self.redis_lost,
            moved=moved,
            look_at=self.waiting.wake_at,
            weights=settings.owner_weights,
        )
        self.first = FirstWindows(windows, ready, now_ms=clock.now_ms)

    @property
    def term_ms(self) -> int:
        return int(self._settings.lease_term_seconds * 1000)

    @property
    def quiet(self) -> bool:
        """Whether no lease may be declared lost now."""
        return self.now_ms() < self.quiet_until_ms

    def now_ms(self) -> int:
        return self._clock.now_ms()

    # -- workers' calls

    async def acquire(self, request: pb.AcquireRequest) -> pb.AcquireResponse:
        """Settles what is reported, then leases; waits for work when there is none."""
        session = session_of(request.session)
        most = min(request.max_leases, MAX_LEASES)
        if most and request.grant_number < 1:
            raise InvalidInput("grant_number must be 1 or more", code="bad_grant_number")
        if math.isnan(request.wait_seconds):
            raise InvalidInput("wait_seconds is not a number", code="bad_wait")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(request.wait_seconds, MAX_WAIT_SECONDS)
        arrived_ms = self.now_ms()
        outcomes = list(request.outcomes)
        refused: list[Refusal] = []
        first = look = True
        while True:
            woken = self.waiting.word
            looked = loop.time()
            left = deadline - looked if session.session not in self.draining else 0.0
            proposals = await self._proposed(request, most, outcomes, look=look) if most and self.granting else {}
            # Also the last time, empty-handed: the same call, made twice, may have been granted something meanwhile.
            if proposals or first or left <= 0:
                opened = dict(self._windows.stages)
                try:
                    answer = await self._record(session, request, outcomes, proposals, again=not first)
                except Conflict:  # the session has ended; what it reports is heard all the same
                    if outcomes:
                        await self.report(pb.ReportRequest(session=request.session, outcomes=outcomes))
                    raise
                refused += answer.refused
                outcomes, first = [], False
                if answer.batches:
                    note_grants(answer.batches, answer.granted_ms, loop.time() - looked)
                if answer.drain and not answer.batches and left > 0:
                    await asyncio.sleep(min(left, DRAIN_PAUSE_SECONDS))  # one that does not know the word asks again
                if answer.batches or answer.drain or not most or left <= 0:
                    response = await self._answers.response(answer.batches, opened)
                    response.refused.extend(refusal_message(r) for r in refused)
                    response.granted_after_seconds = (answer.granted_ms - arrived_ms) / 1000
                    response.drain = answer.drain
                    return response
            if proposals:
                continue
            look = True
            with contextlib.suppress(TimeoutError):
                # Whoever waits looks now and then all the same: a word between schedulers may be lost.
                async with asyncio.timeout_at(min(deadline, loop.time() + POLL_SECONDS)):
                    await woken.wait()
                    look = False

    async def report(self, request: pb.ReportRequest) -> list[Refusal]:
        """Settles outcomes; answers the refused ones."""
        session = session_of(request.session)

        def work(connection: sa.Connection, effects: Effects) -> list[Refusal]:
            refused = self._endings(connection, effects).settle_reports(session.session, request.outcomes)
            # Runs are locked before sessions, as when leases are granted. The last word of a session that has ended may
            # come after it: fences judge it, and what it tells of money counts.
            with contextlib.suppress(Conflict):
                leases.seen(connection, session, self.now_ms())
            return refused

        return self._counted(await self.commits.run(work, runs_of(request.outcomes)), request.outcomes)

    async def renew(self, request: pb.RenewRequest) -> pb.RenewResponse:
        """Extends what the rows say is held by this session; names what must be stopped or handed back."""
        session = session_of(request.session)

        def work(connection: sa.Connection, effects: Effects) -> Renewed:
            return renewed(connection, effects, session, request, self.now_ms, untold_ms)

        untold_ms, runs = 0, runs_of(request.held)
        found = await self.commits.run(work, runs)
        if not self.granting or found.read_ms < self.now_ms() - telling_ms(self.term_ms):
            untold_ms = self.term_ms
            found = await self.commits.run(work, runs)
        if suspects := found.suspects:
            await self.commits.run(lambda connection, _: leases.begin_alone(connection, suspects, self.now_ms()))
        words = said(request, found.answer)
        self.begun.note(session.session, words.begun, self.now_ms())
        self.phases.note(session.session, words.phases, self.now_ms())
        found.answer.term_seconds = self._settings.lease_term_seconds
        return found.answer

    async def end_session(self, session: leases.Session, reason: str, *, handed_back: bool, kind: str = "") -> int:
        """Takes back all that a session holds; returns how many. `handed_back`: so says its worker; else it is gone, in
        the way that `kind` says (domain.rules.LOST_KINDS), where that is known."""

        def work(connection: sa.Connection, effects: Effects) -> int:
            # Runs are locked before sessions, as in every call. What was granted to it until its session is locked too
            # lets this call begin again.
            count, name = 0, session.session
            locked = {run for run, _ in held.session_rows(connection, name)}
            if self._shared and locked:
                hold(connection, sorted(locked))
            with contextlib.suppress(PenstockError):
                leases.seen(connection, session, self.now_ms())
            endings = self._endings(connection, effects)
            still = held.session_rows(connection, name)
            if not locked.issuperset(run for run, _ in still):
                raise Stale
            for (run, stage), slots in sorted(still.items()):
                count += endings.lose(
                    run, stage, slots, reason=reason, handed_back=handed_back, session=name, kind=kind
                )
            leases.end_session(connection, name)
            return count

        return await self.commits.run(work)

    async def lose(self, key: StageKey, slots: Sequence[Slot], reason: str, *, read_ms: int) -> int:
        """Ends leases that had run out at `read_ms`; takes up what was never granted; returns how many still ran."""
        spared = Spared(read_ms - self.term_ms, read_ms - sparing_ms(self.term_ms))

        def work(connection: sa.Connection, effects: Effects) -> int:
            return self._endings(connection, effects).lose(*key, slots, reason=reason, spared=spared)

        return await self.commits.run(work, lambda _: key[:1])

    async def time_out(self, key: StageKey, seqs: Sequence[int]) -> int:
        """Ends what runs too long; returns how many still ran."""

        def work(connection: sa.Connection, effects: Effects) -> int:
            return self._endings(connection, effects).time_out(*key, seqs)

        return await self.commits.run(work, lambda _: key[:1])

    # -- inside

    def _endings(self, connection: sa.Connection, effects: Effects, units: Units | None = None) -> Endings:
        return Endings(connection, effects, self.rules, self.now_ms(), self.begun, units, self._remembered)

    async def _proposed(
        self, request: pb.AcquireRequest, most: int, outcomes: Sequence[pb.OutcomeBatch], *, look: bool
    ) -> dict[StageKey, leases.Offer]:
        """What Redis proposes now; nothing where those before this call left nothing (`Waiting`)."""

        async def ask() -> dict[StageKey, leases.Offer]:
            credit: dict[tuple[str, int], int] = {}
            for batch in outcomes:
                credit[batch.run_id, batch.stage] = credit.get((batch.run_id, batch.stage), 0) + len(batch.outcomes)
            stages = self._windows.for_worker(request.session.worker_class, dict(request.session.processors))
            now = self.now_ms()
            until = now + self.term_ms
            return await self._proposer.propose(stages, most=most, credit=credit, now_ms=now, expiry_ms=until)

        return await self.waiting.asked(Kind.of(request.session), most, ask, look=look)

    async def _record(
        self,
        session: leases.Session,
        request: pb.AcquireRequest,
        outcomes: Sequence[pb.OutcomeBatch],
        proposals: dict[StageKey, leases.Offer],
        *,
        again: bool,
    ) -> _Answer:
        """One transaction. A grant number that was granted already, to a call whose answer was lost, gets the same
        leases again. again: this call has been here before."""
        generation = self._ready.generation

        def work(connection: sa.Connection, effects: Effects) -> _Answer:
            now = self.now_ms()
            # Both parts lock their runs at once, in order of number, and each run is written once.
            units = Units(connection, now, proposals)
            reported = numbers_of(connection, {batch.run_id for batch in outcomes})
            number = request.grant_number if request.max_leases else 0
            asking = leases.asking(session, number, now, again=again)
            # While nothing is granted the generation is left to who makes Redis anew.
            look = self._shared and self.granting
            asked = [(leaders.GENERATION, {}), *asking] if look else asking
            answers = units.lock(*reported.values(), *(run for run, _ in proposals), asked=asked)
            current = leaders.generation_of(answers.pop(0)) if look else "" if self._shared else self._ready.generation
            refused = self._endings(connection, effects, units).settle_reports(session.session, outcomes)
            batches, now, drain = leases.asked(connection, session, number, now, answers)
            # A Redis that another scheduler has made anew knows nothing of these, and may propose them to another.
            known = self._returning.known(proposals) if current in ("", generation) else {}
            if batches or drain or generation != current or not self.granting:
                leases.refuse(connection, effects, known)
            elif known:
                batches = leases.grant_batches(
                    connection, effects, session, request.grant_number, known, now, units, self._remembered
                )
            units.leave(effects)
            return _Answer([batch for batch in batches if batch.granted], refused, now, current, drain)

        try:
            answer = await self.commits.run(work, runs_of(outcomes, proposals))
        except PenstockError as error:
            await self._returning.failed(proposals, error)
            raise
        self._counted(answer.refused, outcomes)
        if answer.generation and answer.generation != generation == self._ready.generation:
            self.redis_lost(Lost("another scheduler makes it anew"))
        return answer

    def _counted(self, refused: list[Refusal], outcomes: Iterable[pb.OutcomeBatch]) -> list[Refusal]:
        note_reports(outcomes)
        for refusal in refused:
            metrics.REPORTS_REFUSED.labels(refusal.reason).inc()
        return refused

    async def apply(self, effects: list[Effects]) -> None:
        """Carries out what committed transactions mean for Redis, windows and watchers. Never raises."""
        whole, opened = merged(effects), set[int]()
        metrics.add(whole.counts)
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
            opened = {one.row.run for one in whole.begun if self.granting and await self.first.begin(one)}
        except (Lost, Unavailable) as error:
            self.unsaid = self.unsaid or (isinstance(error, Unavailable) and error.code == OUT_OF_MEMORY)
            self.redis_lost(error)
        for key, places in whole.ready.items():
            self._windows.returned(key, len(places))
        self._windows.learned(whole.learned)
        for number in whole.moved - opened:
            self.moved(number)
        self.watchers.wake(whole.changed)
        if self._committed is not None and (whole.changed or whole.moved or whole.ready or whole.limits):
            self._committed(whole.moved, whole.changed)
        if (whole.ready or whole.forget or whole.limits or whole.used or opened) and self._windows.some_left():
            self.wake()

    def wake(self) -> None:
        """Lets every waiting acquire look again."""
        self.waiting.wake()

    # -- Redis lost

    def redis_lost(self, why: Exception) -> None:
        """Nothing is granted until Redis is what SQL says."""
        if self.trouble.lost(why):
            log.warning("Redis was lost; nothing is leased until it is as SQL says", reason=str(why))
        self.granting = False
        self.lost.set()

    def redis_back(self) -> None:
        """Redis is what SQL says, unless it was lost again meanwhile."""
        self.granting = not self.lost.is_set()
        if self.granting:
            self.trouble.restored()
        self.wake()

    def feeding_lost(self, why: Exception) -> None:
        """Of who reads windows."""
        if self.granting:  # else it is being made anew, and all windows are opened after that
            self.redis_lost(why)
