"""Workers as local processes, of one class: the embedded mode's.

A worker has a slot (0 …) and a generation; its row is written before its process starts, and the process is known by
pid and start time, so that a restarted scheduler adopts the living and never starts one twice. Workers outlive the
scheduler when it dies; they hold the supervisor's lifeline and end with it. Scale-in: the worker is told to drain, by
its session and, so that it hears at once, by SIGUSR1. When the scheduler itself is told to stop, its workers drain
first, while it can still take their reports. Each worker writes a file of its own, of which the tail is kept as a blob.

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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from penstock.runtime import lifeline, metrics
from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import Clock, IdSource
from penstock.runtime.logs import get_logger
from penstock.runtime.pauses import doubled
from penstock.runtime.settings import Settings
from penstock.runtime.sql import Database
from scheduler.backends import ClassNow, WorkerNow
from scheduler.backends.ending import Ending
from scheduler.domain.rules import Kind
from scheduler.draining import Draining
from scheduler.engine import Engine
from scheduler.store import workers as rows
from scheduler.store.demand import demands, wanted_of
from scheduler.store.effects import Effects
from scheduler.store.held import busy_sessions
from scheduler.store.schema import workers

__all__ = ["ProcessBackend", "start_time"]

POLL_SECONDS = 0.25
YOUNG_SECONDS = 2.0
DRAIN_GRACE_SECONDS = 1.0
DRAIN_POLL_SECONDS = 0.05
LOG_BYTES = 65_536
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
    create_ms: int = 0
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


def _tail(path: Path, most_bytes: int) -> bytes:
    """The last bytes of a file; none of one that is not there."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - most_bytes, 0))
            return file.read(most_bytes)
    except OSError:
        return b""


class ProcessBackend:
    """Keeps the wanted number of workers of its class alive."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        database: Database,
        blobs: BlobStore,
        *,
        clock: Clock,
        new_id: IdSource,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._database = database
        self._draining = Draining(engine, database)
        self._ending = Ending(engine, blobs)
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
            metrics.WORKERS.labels(self._class).set(len(self._workers))
            await asyncio.sleep(POLL_SECONDS)

    @property
    def _class(self) -> str:
        return self._settings.worker.worker_class

    async def workers(self) -> Sequence[WorkerNow]:
        return [
            WorkerNow(
                session=worker.session,
                worker_class=self._class,
                slot=worker.slot,
                generation=worker.generation,
                state="working",
                create_ms=worker.create_ms,
                place=f"pid {worker.pid}",
            )
            for worker in sorted(self._workers.values(), key=lambda one: one.slot)
            if worker.alive()
        ]

    async def classes(self) -> Sequence[ClassNow]:
        young = self._failures > 0
        return [
            ClassNow(
                name=self._class,
                slots=self._settings.worker.slots,
                most=self._settings.scheduler.workers,
                code="crash" if young else "",
                text="its workers end as soon as they are started" if young else "",
                advice="read the log of one: penstock workers logs SESSION" if young else "",
            )
        ]

    async def log_tail(self, session: str, most_bytes: int) -> bytes | None:
        if session not in {worker.session for worker in self._workers.values()}:
            return None
        return await asyncio.to_thread(_tail, self._log(session), most_bytes)

    async def _adopt(self) -> None:
        def read() -> list[rows.WorkerRow]:
            with self._database.read() as connection:
                return rows.open_rows(connection)

        for row in await asyncio.to_thread(read):
            session, pid, pid_start = row.session, row.pid, row.pid_start
            if session in {worker.session for worker in self._workers.values()}:
                continue
            if pid is not None and pid_start is not None and start_time(pid) == pid_start:
                since = self._clock.monotonic()
                self._workers[row.slot] = _Worker(
                    session, row.slot, row.generation, pid, pid_start, since, create_ms=row.create_ms
                )
                log.info("adopted a worker", session=session, pid=pid)
            else:
                await self._gone(session, "its worker was gone when the scheduler came back")

    async def _reap(self) -> None:
        for worker in list(self._workers.values()):
            if worker.alive():
                continue
            code = worker.process.returncode if worker.process is not None else None
            log.info("a worker is gone", session=worker.session, pid=worker.pid, code=code)
            if code == 0:
                await self._gone(worker.session, f"its worker (pid {worker.pid}) ended", "")
            else:
                await self._gone(worker.session, f"its worker (pid {worker.pid}) died")
            del self._workers[worker.slot]
            if not worker.draining:
                young = self._clock.monotonic() - worker.since < YOUNG_SECONDS
                self._failures = self._failures + 1 if young else 0
                delay = doubled(FIRST_BACKOFF_SECONDS, self._failures, MAX_BACKOFF_SECONDS) if young else 0.0
                self._not_before = self._clock.monotonic() + delay

    async def _gone(self, session: str, reason: str, kind: str = Kind.WORKER_LOST) -> None:
        """Ends the session, then the worker's row: a crash in between ends it again."""
        path = self._log(session)
        tail = await asyncio.to_thread(_tail, path, LOG_BYTES)
        await self._ending.end(session, self._class, kind=kind, reason=reason, tail=tail)
        if self._settings.data is not None:
            path.unlink(missing_ok=True)

    def _busy(self) -> set[str]:
        with self._database.read() as connection:
            return busy_sessions(connection)

    def _wanted(self) -> int:
        section = self._settings.scheduler
        with self._database.read() as connection:
            return wanted_of(
                connection,
                self._class,
                demands(connection).get(self._class, []),
                slots=self._settings.worker.slots,
                most=section.workers,
                warm=min(section.warm_workers, section.workers),
            )

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
                await self._draining.tell({last.session: self._class})
                self._signal(last, signal.SIGUSR1)  # what it was leased since it was looked at, it still does
                log.info("a worker is no longer needed", session=last.session)

    async def _start(self, slot: int) -> None:
        session, now_ms = self._new_id("session"), self._clock.now_ms()

        def work(connection: sa.Connection, effects: Effects) -> int:
            generation = rows.generations(connection, self._class, [slot]).get(slot, 0) + 1
            row = rows.WorkerRow(
                session=session, worker_class=self._class, slot=slot, generation=generation, create_ms=now_ms
            )
            rows.note_start(connection, [row])
            return generation

        generation = await self._engine.commits.run(work)
        process = self._spawn(session)
        started = start_time(process.pid) or 0
        self._workers[slot] = _Worker(
            session,
            slot,
            generation,
            process.pid,
            started,
            self._clock.monotonic(),
            create_ms=now_ms,
            process=process,
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
            path = self._log(session)
            path.parent.mkdir(parents=True, exist_ok=True)
            output = path.open("ab")
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

    def _log(self, session: str) -> Path:
        data = self._settings.data
        return Path(os.devnull) if data is None else data / "logs" / "workers" / f"{session}.log"

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
