"""gRPC of workers and classes, for operators: validate, call, translate; nothing is decided here.

Lists join three: what the backend sees, what SQL says of sessions, and the rows of workers. Workers that nobody here
started are told, too, as long as they call. While the machine, or the API server, can't be asked, what calls is told
all the same, and the classes say why there is no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import to_timestamp
from penstock.runtime.errors import InvalidInput, NotFound, Unavailable
from penstock.runtime.plain_text import plain_text
from penstock.runtime.sql import Database
from penstock.v1 import workers_pb2 as pb
from penstock.v1 import workers_pb2_grpc
from scheduler.backends import Backend, ClassNow, WorkerNow
from scheduler.domain.workers import wanted_workers
from scheduler.draining import Draining
from scheduler.engine import Engine
from scheduler.run_calls import Context, actor_of, page_size, reason_of
from scheduler.store import workers as rows
from scheduler.store.class_troubles import TroubleNow, troubles
from scheduler.store.demand import demands
from scheduler.store.held import leases_by_session

__all__ = ["WorkerService"]

LOG_BYTES = 65_536
SILENT_SECONDS = 60.0
"""A worker that nobody here started, and that gives no sign for so long, is left out."""


@dataclass(frozen=True)
class _Known:
    """What SQL says."""

    sessions: dict[str, rows.SessionNow]
    rows: list[rows.WorkerRow]
    leases: dict[str, int]


class WorkerService(workers_pb2_grpc.WorkerServiceServicer):
    """`backend` is None where nobody starts workers."""

    def __init__(self, engine: Engine, database: Database, blobs: BlobStore, backend: Backend | None) -> None:
        self._engine = engine
        self._database = database
        self._blobs = blobs
        self._backend = backend
        self._draining = Draining(engine, database)

    async def ListWorkers(self, request: pb.ListWorkersRequest, context: Context) -> pb.ListWorkersResponse:
        most = page_size(request.page_size, 200, 1_000)
        worker_class = plain_text(request.worker_class, "worker_class")
        skip = _position(plain_text(request.page_token, "page_token"))
        every = await self._all()
        if worker_class:
            await self._check_class(worker_class, every)
        found = [one for one in every if worker_class in ("", one.worker_class)]
        if request.with_ended:
            found += await asyncio.to_thread(self._ended, worker_class, {one.session for one in found})
        page = found[skip : skip + most]
        more = str(skip + most) if len(found) > skip + most else ""
        return pb.ListWorkersResponse(workers=page, next_page_token=more)

    async def DrainWorkers(self, request: pb.DrainWorkersRequest, context: Context) -> pb.DrainWorkersResponse:
        worker_class = plain_text(request.worker_class, "worker_class")
        actor_of(request.actor)
        reason_of(request.reason)
        if bool(request.sessions) == bool(worker_class):
            raise InvalidInput("name the workers to drain, or their class: one of both", code="bad_workers")
        there = await self._all()
        every = {one.session: one for one in there if one.state != "ended"}
        if worker_class:
            await self._check_class(worker_class, there)
            chosen = {name: one for name, one in every.items() if one.worker_class == worker_class}
        else:
            for name in request.sessions:
                if plain_text(name, "sessions") not in every:
                    known = ", ".join(sorted(every)[:5]) or "none at all"
                    raise NotFound(f"there is no worker {name!r}; there are: {known}", code="worker_not_found")
            chosen = {name: every[name] for name in request.sessions}
        fresh = {name: one.worker_class for name, one in chosen.items() if not one.HasField("drain_time")}
        if request.validate_only or not fresh:
            return pb.DrainWorkersResponse(sessions=sorted(fresh))
        return pb.DrainWorkersResponse(sessions=await self._draining.tell(fresh))

    async def GetWorkerLog(self, request: pb.GetWorkerLogRequest, context: Context) -> pb.GetWorkerLogResponse:
        session = plain_text(request.session, "session")
        if request.most_bytes < 0:
            raise InvalidInput(f"most_bytes {request.most_bytes} is negative", code="bad_most_bytes")
        most = min(request.most_bytes or LOG_BYTES, LOG_BYTES)
        tail = await self._backend.log_tail(session, most) if self._backend is not None else None
        if tail is not None:
            return pb.GetWorkerLogResponse(tail=_whole_lines(tail, most))

        def read() -> rows.WorkerRow | None:
            with self._database.read() as connection:
                return rows.row_of(connection, session)

        row = await asyncio.to_thread(read)
        if row is None:
            known = ", ".join(sorted(one.session for one in await self._all())[:5]) or "none at all"
            text = f"there is no worker {session!r} that was started here; there are: {known}"
            raise NotFound(text, code="worker_not_found")
        if not row.log_blob:
            return pb.GetWorkerLogResponse(ended=row.end_ms is not None)
        kept = await asyncio.to_thread(self._blobs.get, row.log_blob)
        return pb.GetWorkerLogResponse(tail=_whole_lines(kept[-most:], most), ended=True)

    async def ListClasses(self, request: pb.ListClassesRequest, context: Context) -> pb.ListClassesResponse:
        workers = await self._all()
        configured: dict[str, ClassNow] = {}
        if self._backend is not None:
            configured = {one.name: one for one in await self._backend.classes()}

        def read() -> tuple[dict[str, TroubleNow], dict[str, tuple[int, int, int]]]:
            with self._database.read() as connection:
                found = {}
                for name, of_class in demands(connection).items():
                    own = configured.get(name)
                    wanted = wanted_workers(of_class, slots=own.slots, most=own.most, warm=0) if own else 0
                    leased, claimable = sum(d.leased for d in of_class), sum(d.claimable for d in of_class)
                    found[name] = (wanted, leased, claimable)
                return troubles(connection), found

        wrong, work = await asyncio.to_thread(read)
        names = sorted({*configured, *work, *(one.worker_class for one in workers)})
        return pb.ListClassesResponse(
            classes=[
                _class(name, configured.get(name), wrong.get(name), work.get(name, (0, 0, 0)), workers)
                for name in names
            ]
        )

    async def _all(self) -> list[pb.Worker]:
        """Every worker there is, in order of class and slot."""
        seen: Sequence[WorkerNow] = ()
        if self._backend is not None:
            try:
                seen = await self._backend.workers()
            except Unavailable:
                seen = ()
        known = await asyncio.to_thread(self._known)
        started = {row.session for row in known.rows}
        found = [_worker(one, known) for one in seen]
        names = {one.session for one in found}
        recent = self._engine.now_ms() - round(SILENT_SECONDS * 1000)
        for name, one in known.sessions.items():
            if name not in names and not one.ended and one.worker and one.seen_ms >= recent:
                state = "draining" if one.drain_ms is not None else "working"
                message = pb.Worker(
                    session=name,
                    worker_class=one.worker_class,
                    state=state,
                    place=one.worker,
                    slot=-1,
                    started_here=name in started,
                )
                _told(message, one, known)
                found.append(message)
        return sorted(found, key=lambda one: (one.worker_class, one.slot < 0, one.slot, one.session))

    async def _check_class(self, name: str, workers: Sequence[pb.Worker]) -> None:
        """A class is one that may have workers, that work waits for, or that had some lately. Raises NotFound for any
        other: nobody has looked at it, rather than it has none."""
        known = {one.worker_class for one in workers}
        if self._backend is not None:
            known |= {one.name for one in await self._backend.classes()}
        else:
            known.add("default")  # of whoever names none

        def read() -> set[str]:
            with self._database.read() as connection:
                return {*demands(connection), *(row.worker_class for row in rows.workers_of(connection))}

        if name not in known and name not in (known := known | await asyncio.to_thread(read)):
            raise _no_class(name, known)

    def _known(self) -> _Known:
        with self._database.read() as connection:
            open_rows = rows.open_rows(connection)
            sessions = rows.sessions_now(connection)
            return _Known(sessions, open_rows, leases_by_session(connection))

    def _ended(self, worker_class: str, without: set[str]) -> list[pb.Worker]:
        with self._database.read() as connection:
            found = [row for row in rows.workers_of(connection, worker_class) if row.end_ms is not None]
        return [
            pb.Worker(
                session=row.session,
                worker_class=row.worker_class,
                state="ended",
                note=row.reason,
                create_time=to_timestamp(row.create_ms),
                end_time=to_timestamp(row.end_ms),
                end_kind=row.kind,
                slot=row.slot,
                generation=row.generation,
                started_here=True,
            )
            for row in sorted(found, key=lambda row: -(row.end_ms or 0))
            if row.session not in without
        ]


def _no_class(name: str, known: Collection[str]) -> NotFound:
    told = ", ".join(sorted(known)) or "none at all"
    return NotFound(f"there is no worker class {name!r}; there are: {told}", code="class_not_found")


def _worker(now: WorkerNow, known: _Known) -> pb.Worker:
    message = pb.Worker(
        session=now.session,
        worker_class=now.worker_class,
        state=now.state,
        place=now.place,
        note=now.note,
        create_time=to_timestamp(now.create_ms),
        slot=now.slot,
        generation=now.generation,
        started_here=True,
    )
    one = known.sessions.get(now.session)
    if one is not None:
        _told(message, one, known)
        if one.drain_ms is not None and now.state in ("working", "starting"):
            message.state = "draining"
    return message


def _told(message: pb.Worker, one: rows.SessionNow, known: _Known) -> None:
    message.leases = known.leases.get(one.session, 0)
    if one.worker:
        message.seen_time.FromMilliseconds(one.seen_ms)
    if one.drain_ms is not None:
        message.drain_time.FromMilliseconds(one.drain_ms)


def _class(
    name: str,
    own: ClassNow | None,
    wrong: TroubleNow | None,
    work: tuple[int, int, int],
    workers: Sequence[pb.Worker],
) -> pb.WorkerClass:
    mine = [one for one in workers if one.worker_class == name]
    wanted, leased, claimable = work
    message = pb.WorkerClass(
        name=name,
        slots=own.slots if own else 0,
        most=own.most if own else 0,
        wanted=wanted,
        workers=len(mine),
        working=sum(1 for one in mine if one.state == "working"),
        draining=sum(1 for one in mine if one.state == "draining"),
        leased=leased,
        claimable=claimable,
    )
    if own is not None and own.code:
        message.trouble, message.text, message.advice = own.code, own.text, own.advice
    elif wrong is not None:
        trouble = wrong.trouble
        message.trouble, message.text, message.advice = trouble.code, trouble.text, trouble.advice
        message.since_time.FromMilliseconds(wrong.since_ms)
    return message


def _whole_lines(tail: bytes, most: int) -> bytes:
    """Without the beginning of a line that was cut."""
    if len(tail) < most:
        return tail
    _, newline, rest = tail.partition(b"\n")
    return rest if newline else tail


def _position(token: str) -> int:
    if not token:
        return 0
    if not token.isdecimal() or len(token) > 9:
        raise InvalidInput(f"page_token {token[:40]!r} is none of an answer", code="bad_page_token")
    return int(token)
