"""Workers as local processes.

A worker has a slot (0 …) and a generation; its row is written before its process starts, and the process is known by
pid and start time, so that a restarted scheduler adopts the living and never starts one twice. Workers outlive the
scheduler when it dies; they hold the supervisor's lifeline and end with it. Scale-in is SIGTERM: the worker drains by
itself. When the scheduler itself is told to stop, its workers drain first, while it can still take their reports.

Failure story: a worker that is gone is found within a poll; its session is ended, so that its leases return at once. A
crash between row and process leaves a row without pid: its session is ended, its slot is free. A worker that dies
young is started again with back-off.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from penstock.runtime import lifeline, metrics
from penstock.runtime.clock import Clock, IdSource
from penstock.runtime.logs import get_logger
from penstock.runtime.pauses import doubled
from penstock.runtime.settings import Settings
from penstock.runtime.sql import Database
from scheduler.domain.states import RunState, StageState
from scheduler.domain.workers import Demand, wanted_workers
from scheduler.engine import Engine
from scheduler.store.effects import Effects
from scheduler.store.held import busy_sessions, running_alone
from scheduler.store.leases import Session
from scheduler.store.schema import runs, stages, workers

__all__ = ["ProcessBackend", "start_time"]

POLL_SECONDS = 0.25
YOUNG_SECONDS = 2.0
DRAIN_GRACE_SECONDS = 1.0
DRAIN_POLL_SECONDS = 0.05
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.2, 5.0

log = get_logger("workers")


@dataclass
class _Worker:
    session: str
    slot: int
    generation: int
    pid: int
    pid_start: int
    since: float
    draining: bool = False
    process: subprocess.Popen[bytes] | None = None

    def alive(self) -> bool:
        if self.process is not None:
            return self.process.poll() is None
        return start_time(self.pid) == self.pid_start


def start_time(pid: int) -> int | None:
    """Start time of a living process in clock ticks since boot; None when it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] == "Z" else int(fields[19])


class ProcessBackend:
    """Keeps the wanted number of workers of the default class alive."""

    def __init__(
        self, settings: Settings, engine: Engine, database: Database, *, clock: Clock, new_id: IdSource
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._workers: dict[int, _Worker] = {}
        self._failures = 0
        self._not_before = 0.0
        self._idle_since: float | None = None
        self._stopping = False

    async def serve(self) -> None:
        """Adopts what lives, then keeps count; runs until cancelled."""
        await self._adopt()
        while True:
            await self._reap()
            if not self._stopping:
                wanted = await asyncio.to_thread(self._wanted)
                await self._scale(wanted)
            metrics.WORKERS.labels(self._settings.worker.worker_class).set(len(self._workers))
            await asyncio.sleep(POLL_SECONDS)

    async def _adopt(self) -> None:
        def read() -> list[tuple[str, int, int, int | None, int | None]]:
            with self._database.read() as connection:
                columns = (workers.c.session, workers.c.slot, workers.c.generation, workers.c.pid, workers.c.pid_start)
                return [tuple(row) for row in connection.execute(sa.select(*columns))]

        for session, slot, generation, pid, pid_start in await asyncio.to_thread(read):
            if session in {worker.session for worker in self._workers.values()}:
                continue
            if pid is not None and pid_start is not None and start_time(pid) == pid_start:
                self._workers[slot] = _Worker(session, slot, generation, pid, pid_start, self._clock.monotonic())
                log.info("adopted a worker", session=session, pid=pid)
            else:
                await self._gone(session, "its worker was gone when the scheduler came back")

    async def _reap(self) -> None:
        for worker in list(self._workers.values()):
            if worker.alive():
                continue
            code = worker.process.returncode if worker.process is not None else None
            log.info("a worker is gone", session=worker.session, pid=worker.pid, code=code)
            await self._gone(worker.session, f"its worker (pid {worker.pid}) died")
            del self._workers[worker.slot]
            if not worker.draining:
                young = self._clock.monotonic() - worker.since < YOUNG_SECONDS
                self._failures = self._failures + 1 if young else 0
                delay = doubled(FIRST_BACKOFF_SECONDS, self._failures, MAX_BACKOFF_SECONDS) if young else 0.0
                self._not_before = self._clock.monotonic() + delay

    async def _gone(self, session: str, reason: str) -> None:
        """Ends the session, then forgets the worker: a crash in between ends it again."""
        worker_class = self._settings.worker.worker_class
        await self._engine.end_session(Session(session, session, worker_class), reason, handed_back=False)

        def work(connection: sa.Connection, effects: Effects) -> None:
            connection.execute(sa.delete(workers).where(workers.c.session == session))

        await self._engine.commits.run(work)

    def _busy(self) -> set[str]:
        with self._database.read() as connection:
            return busy_sessions(connection)

    def _wanted(self) -> int:
        columns = (
            stages.c.running,
            stages.c.concurrency,
            (
                stages.c.total
                - stages.c.running
                - stages.c.retry
                - stages.c.deferred
                - stages.c.completed
                - stages.c.failed
                - stages.c.skipped
                - stages.c.stopped
            ),
            runs.c.state,
        )
        query = (
            sa.select(*columns)
            .join(runs, runs.c.number == stages.c.run)
            .where(
                stages.c.state == StageState.RUNNING,
                stages.c.worker_class == self._settings.worker.worker_class,
                runs.c.state.in_([RunState.RUNNING, RunState.PAUSED, RunState.STOPPING]),
            )
        )
        with self._database.read() as connection:
            demands = [
                Demand(leased, queued if state == RunState.RUNNING else 0, concurrency)
                for leased, concurrency, queued, state in connection.execute(query)
            ]
            section = self._settings.scheduler
            wanted = partial(
                wanted_workers,
                demands,
                slots=self._settings.worker.slots,
                most=section.workers,
                warm=min(section.warm_workers, section.workers),
            )
            # Who runs items alone makes it more, if more there may be: only then are all leases looked through.
            if wanted() < section.workers:
                return wanted(alone=running_alone(connection, self._settings.worker.worker_class))
            return section.workers

    async def _scale(self, wanted: int) -> None:
        now = self._clock.monotonic()
        count = len(self._workers)
        if count < wanted:
            self._idle_since = None
            if now >= self._not_before:
                slot = next(i for i in range(wanted) if i not in self._workers)
                await self._start(slot)
            return
        serving = [w for w in self._workers.values() if not w.draining]
        if len(serving) <= wanted:
            self._idle_since = None
            return
        self._idle_since = self._idle_since or now
        if now - self._idle_since >= self._settings.scheduler.idle_seconds:
            busy = await asyncio.to_thread(self._busy)
            idle = [worker for worker in serving if worker.session not in busy]
            if idle:
                last = max(idle, key=lambda w: w.slot)
                last.draining = True
                self._signal(last, signal.SIGUSR1)  # what it was leased since it was looked at, it still does
                log.info("a worker is no longer needed", session=last.session)

    async def _start(self, slot: int) -> None:
        session = self._new_id("session")

        def work(connection: sa.Connection, effects: Effects) -> int:
            generation = connection.execute(sa.select(sa.func.max(workers.c.generation))).scalar() or 0
            connection.execute(
                sa.insert(workers).values(
                    session=session,
                    worker_class=self._settings.worker.worker_class,
                    slot=slot,
                    generation=generation + 1,
                    create_ms=self._clock.now_ms(),
                )
            )
            return int(generation) + 1

        generation = await self._engine.commits.run(work)
        process = self._spawn(session)
        started = start_time(process.pid) or 0
        self._workers[slot] = _Worker(
            session, slot, generation, process.pid, started, self._clock.monotonic(), process=process
        )

        def note(connection: sa.Connection, effects: Effects) -> None:
            connection.execute(
                sa.update(workers).where(workers.c.session == session).values(pid=process.pid, pid_start=started)
            )

        await self._engine.commits.run(note)
        log.info("started a worker", session=session, pid=process.pid, slot=slot, generation=generation)

    def _spawn(self, session: str) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        environment["PENSTOCK_WORKER_SESSION"] = session
        environment["PENSTOCK_HEALTH_PORT"] = "0"  # ours; here a worker's process is looked at itself
        fd = lifeline.inherited()
        output = None
        if self._settings.data is not None:
            folder = self._settings.data / "logs"
            folder.mkdir(exist_ok=True)
            output = (folder / "worker.log").open("ab")
        try:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "worker"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=() if fd is None else (fd,),
            )
        finally:
            if output is not None:
                output.close()

    def _signal(self, worker: _Worker, number: int) -> None:
        try:
            os.kill(worker.pid, number)
        except ProcessLookupError:
            return

    async def drain(self) -> None:
        """Ends the workers in order: they finish and report what fits their drain time, and hand back the rest."""
        self._stopping = True
        for worker in self._workers.values():
            worker.draining = True
            self._signal(worker, signal.SIGTERM)
        limit = self._settings.worker.drain_seconds + DRAIN_GRACE_SECONDS
        for _ in range(int(limit / DRAIN_POLL_SECONDS)):
            # `serve` goes on meanwhile: it notes the ends and takes the dead off the list.
            if not self._workers:
                return
            await asyncio.sleep(DRAIN_POLL_SECONDS)
