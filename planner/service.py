"""The planner's gRPC methods: validate, call, translate. What blocks runs in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
import orjson

from penstock.processor import processor_names
from penstock.runtime.clock import Clock, to_timestamp
from penstock.runtime.errors import InvalidInput, Overloaded, PenstockError, Unavailable
from penstock.runtime.logs import get_logger
from penstock.runtime.paging import page_position
from penstock.runtime.plain_text import plain_text
from penstock.v1 import common_pb2, planner_pb2, planner_pb2_grpc
from planner.deriving import Deriving
from planner.domain.rows import TOO_DEEP, too_deep
from planner.domain.stages import StageRequest
from planner.planning import Planning, PlanRequest, load
from planner.reading import PlanReader
from planner.rules import as_message
from planner.sources import Part, Sources
from planner.store import PlanRow, SourceRow, StageRow, Store

__all__ = ["PlannerService"]

MAX_CHUNK_BYTES = 1 << 20
MAX_SEQS = 100_000
LANES_PAGE, MAX_LANES_PAGE = 1_000, 10_000
IDLE_SECONDS = 120.0
"""An upload that sends nothing for so long is given up."""

TURN_SECONDS = 30.0
"""An upload waits so long for one of the others to end."""

_BATCH_BYTES = 1 << 20
_BATCH_PARTS = 512
_UPLOADS_AT_ONCE = 8

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")

log = get_logger("planner")


class PlannerService(planner_pb2_grpc.PlannerServiceServicer):
    def __init__(
        self,
        *,
        sources: Sources,
        planning: Planning,
        deriving: Deriving,
        reader: PlanReader,
        store: Store,
        clock: Clock,
    ) -> None:
        self._sources = sources
        self._deriving = deriving
        self._planning = planning
        self._reader = reader
        self._store = store
        self._clock = clock
        self._uploads = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    async def CreateSource(
        self, request_iterator: AsyncIterator[planner_pb2.CreateSourceRequest], context: Context
    ) -> planner_pb2.Source:
        header = await _header(request_iterator)
        plain_text(header.request_id, "request_id")
        async with self._turn():
            with self._sources.staging.upload() as folder:
                upload = self._sources.begin(folder, kind=header.kind, archive=header.zip)
                try:
                    async for batch in _batches(request_iterator):
                        await _in_thread(lambda batch=batch: upload.feed(batch))  # type: ignore[misc]
                    row = await _in_thread(lambda: upload.finish(header.request_id))
                except BaseException:
                    upload.stop.set()
                    raise
        log.info("a source was made", source=row.source_id, items=row.item_count, bytes=row.size_bytes)
        return _source(row)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of the uploads under way at once. Raises Overloaded when none ends in time."""
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._uploads.acquire()
        except TimeoutError:
            raise Overloaded(
                f"{_UPLOADS_AT_ONCE} uploads are under way and none ended in {TURN_SECONDS:g} s; try again later",
                code="uploads_busy",
            ) from None
        try:
            yield
        finally:
            self._uploads.release()

    async def GetSource(self, request: planner_pb2.GetSourceRequest, context: Context) -> planner_pb2.Source:
        return _source(await asyncio.to_thread(self._store.source, plain_text(request.source_id, "source_id")))

    async def CreatePlan(self, request: planner_pb2.CreatePlanRequest, context: Context) -> planner_pb2.Plan:
        wanted = PlanRequest(
            source_id=plain_text(request.source_id, "source_id"),
            stages=[_stage_request(number, stage) for number, stage in enumerate(request.stages)],
            granularity=plain_text(request.granularity, "granularity"),
            name=plain_text(request.name, "name"),
            draft=request.validate_only,
            request_id=plain_text(request.request_id, "request_id"),
        )
        row = await _in_thread(lambda: self._planning.create(wanted))
        log.info("a plan was made", plan=row.plan_id, source=row.source_id, draft=row.draft)
        return _plan(row)

    async def GetPlan(self, request: planner_pb2.GetPlanRequest, context: Context) -> planner_pb2.Plan:
        plan_id = plain_text(request.plan_id, "plan_id")
        return _plan(await asyncio.to_thread(self._store.plan, plan_id, now_ms=self._clock.now_ms()))

    async def KeepPlan(self, request: planner_pb2.KeepPlanRequest, context: Context) -> planner_pb2.Plan:
        plan_id = plain_text(request.plan_id, "plan_id")
        return _plan(await asyncio.to_thread(self._store.keep_draft, plan_id, now_ms=self._clock.now_ms()))

    async def ReadPlanItems(
        self, request: planner_pb2.ReadPlanItemsRequest, context: Context
    ) -> planner_pb2.ReadPlanItemsResponse:
        plan_id = plain_text(request.plan_id, "plan_id")
        if request.seqs:
            window = await self._reader.exactly(plan_id, stage=request.stage, seqs=request.seqs)
        else:
            window = await self._reader.window(
                plan_id,
                stage=request.stage,
                after_seq=request.after_seq,
                limit=request.limit,
                only=request.only_lanes,
                without=request.without_lanes,
            )
        answer = planner_pb2.ReadPlanItemsResponse(end=window.end, last_seq=window.last)
        add = answer.items.add
        for seq, key, group, payload, lane in window.items:
            add(seq=seq, key=key, group=group, payload=payload, lane=lane)
        return answer

    async def ListPlanLanes(
        self, request: planner_pb2.ListPlanLanesRequest, context: Context
    ) -> planner_pb2.ListPlanLanesResponse:
        plan_id = plain_text(request.plan_id, "plan_id")
        limit = request.page_size or LANES_PAGE
        if not 1 <= limit <= MAX_LANES_PAGE:
            raise InvalidInput(
                f"page_size is {limit}, it may be 1-{MAX_LANES_PAGE:,} (0: {LANES_PAGE:,})", code="bad_page_size"
            )
        # A token is the first seq of the next page's first lane; no two lanes have the same.
        position = page_position(request.page_token) or 0
        found = await self._reader.lanes(plan_id, stage=request.stage, after=position - 1, limit=limit + 1)
        lanes = [planner_pb2.PlanLane(lane=lane, count=count, first_seq=first) for lane, count, first in found[:limit]]
        token = str(found[limit][2]) if len(found) > limit else ""
        return planner_pb2.ListPlanLanesResponse(lanes=lanes, next_page_token=token)

    async def DerivePlan(
        self, request_iterator: AsyncIterator[planner_pb2.DerivePlanRequest], context: Context
    ) -> planner_pb2.Plan:
        parts = aiter(request_iterator)
        first = await _next(parts)
        if first is None or first.WhichOneof("part") != "header":
            raise InvalidInput("a derived plan begins with a header message", code="bad_stream")
        plan_id = plain_text(first.header.plan_id, "plan_id")
        name, request_id = plain_text(first.header.name, "name"), plain_text(first.header.request_id, "request_id")
        async with self._turn():
            with self._deriving.staging.upload() as folder:
                derivation = await _in_thread(lambda: self._deriving.begin(folder, plan_id, first.header.stage))
                while (part := await _next(parts)) is not None:
                    if part.WhichOneof("part") != "seqs" or len(part.seqs.seqs) > MAX_SEQS:
                        raise InvalidInput(
                            f"after the header come seqs, at most {MAX_SEQS:,} a message", code="bad_stream"
                        )
                    await _in_thread(lambda seqs=part.seqs.seqs: derivation.feed(seqs))  # type: ignore[misc]
                row = await _in_thread(lambda: derivation.finish(name=name, request_id=request_id))
        log.info("a plan was derived", plan=row.plan_id, of=plan_id, items=row.stages[0].item_count)
        return _plan(row)

    async def ListProcessors(
        self, request: planner_pb2.ListProcessorsRequest, context: Context
    ) -> planner_pb2.ListProcessorsResponse:
        return planner_pb2.ListProcessorsResponse(processors=await asyncio.to_thread(_processors))


async def _next(parts: AsyncIterator[T]) -> T | None:
    """The next message; None at the end. Raises Unavailable when none comes."""
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            return await anext(parts, None)
    except TimeoutError:
        raise _idle() from None


async def _header(parts: AsyncIterator[planner_pb2.CreateSourceRequest]) -> planner_pb2.CreateSourceRequest.Header:
    part = await _next(aiter(parts))
    if part is None or part.WhichOneof("part") != "header":
        raise InvalidInput("an upload begins with a header message", code="bad_stream")
    return part.header


async def _batches(parts: AsyncIterator[planner_pb2.CreateSourceRequest]) -> AsyncIterator[list[Part]]:
    """Parts in order, many at a time: a thread switch costs more than a small document."""
    loop = asyncio.get_running_loop()
    batch: list[Part] = []
    size, files = 0, 0
    try:
        async with asyncio.timeout(IDLE_SECONDS) as limit:
            armed = loop.time()  # when the limit was last set
            async for part in parts:
                which = part.WhichOneof("part")
                if which == "file":
                    files += 1
                    batch.append(part.file.name)
                elif which == "chunk" and files and len(part.chunk) <= MAX_CHUNK_BYTES:
                    batch.append(part.chunk)
                    size += len(part.chunk)
                else:
                    raise _out_of_place(part, files)
                if size >= _BATCH_BYTES or len(batch) >= _BATCH_PARTS:
                    limit.reschedule(None)  # what we do ourselves is not the client's idleness
                    yield batch
                    batch, size = [], 0
                # A timer for each message would cost more than the message.
                if limit.when() is None or loop.time() - armed > 1.0:
                    armed = loop.time()
                    limit.reschedule(armed + IDLE_SECONDS)
    except TimeoutError:
        raise _idle() from None
    if batch:
        yield batch


def _idle() -> Unavailable:
    return Unavailable(f"the upload sent nothing for {IDLE_SECONDS:g} s", code="upload_idle")


def _out_of_place(part: planner_pb2.CreateSourceRequest, files: int) -> InvalidInput:
    if part.WhichOneof("part") == "chunk" and files:
        return InvalidInput(
            f"a chunk has {len(part.chunk):,} bytes, at most {MAX_CHUNK_BYTES:,} are taken", code="bad_stream"
        )
    return InvalidInput("after the header come files, each followed by its chunks", code="bad_stream")


async def _in_thread(work: Callable[[], T]) -> T:
    """Like `asyncio.to_thread`, but a call that is given up waits for its thread: the upload's folder goes after it."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _stage_request(number: int, stage: planner_pb2.StageSpec) -> StageRequest:
    try:
        parameters = orjson.loads(stage.parameters) if stage.parameters else {}
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        raise InvalidInput(f"stage {number}: parameters are not a JSON object", code="bad_parameters")
    if too_deep(parameters):
        raise InvalidInput(f"stage {number}: parameters are {TOO_DEEP}", code="bad_parameters")
    return StageRequest(
        processor=plain_text(stage.processor, f"stage {number}: processor"),
        parameters=parameters,
        concurrency=stage.concurrency,
        max_tries=stage.max_tries,
        max_run_seconds=stage.max_run_seconds,
        worker_class=plain_text(stage.worker_class, f"stage {number}: worker_class", most=63),
        rules=stage.rules.SerializeToString(),
    )


def _source(row: SourceRow) -> planner_pb2.Source:
    return planner_pb2.Source(
        source_id=row.source_id,
        kind=planner_pb2.SourceKind.ValueType(row.kind),
        item_count=row.item_count,
        size_bytes=row.size_bytes,
        ignored_count=row.ignored_count,
        snapshot=common_pb2.BlobRef(sha256=row.snapshot_sha256, size_bytes=row.snapshot_bytes),
        create_time=to_timestamp(row.create_ms),
    )


def _plan(row: PlanRow) -> planner_pb2.Plan:
    return planner_pb2.Plan(
        plan_id=row.plan_id,
        source_id=row.source_id,
        kind=planner_pb2.SourceKind.ValueType(row.kind),
        name=row.name,
        stages=[_stage(number, stage) for number, stage in enumerate(row.stages)],
        item_count=row.stages[0].item_count,
        granularity=row.granularity,
        draft=row.draft,
        create_time=to_timestamp(row.create_ms),
    )


def _stage(number: int, row: StageRow) -> planner_pb2.PlanStage:
    settings = row.settings
    return planner_pb2.PlanStage(
        stage=number,
        processor=settings.processor,
        processor_version=settings.processor_version,
        parameters=orjson.dumps(settings.parameters),
        concurrency=settings.concurrency,
        max_tries=settings.max_tries,
        max_run_seconds=settings.max_run_seconds,
        worker_class=settings.worker_class,
        item_count=row.item_count,
        rules=as_message(settings.rules) if settings.rules else None,
        paid=settings.paid,
        repeatable=settings.repeatable,
    )


def _processors() -> list[planner_pb2.Processor]:
    listed = []
    for name in processor_names():
        try:
            processor = load(name)
        except PenstockError as error:
            # One plug-in that does not load must not hide the others.
            log.warning("an installed processor does not load", processor=name, error=error.message)
            continue
        listed.append(
            planner_pb2.Processor(
                name=name,
                version=processor.version,
                description=(processor.__doc__ or "").strip().partition("\n\n")[0].replace("\n", " "),
                parameters_schema=orjson.dumps(processor.parameters_type.model_json_schema()),
                paid=processor.paid,
                repeatable=processor.repeatable,
            )
        )
    return listed
