"""Runs processors over leased items: batches, deadlines, cancellation; every item gets exactly one outcome.

Whatever a processor does (raise, answer too few, hang past its deadline) becomes an outcome of the items concerned,
never an end of the worker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from penstock.processor import (
    Context,
    Failure,
    Outcome,
    Parameters,
    Processor,
    ProcessorError,
    Result,
    ServiceUnavailable,
    WorkItem,
    load_processor,
    processor_names,
    validate_parameters,
)
from penstock.runtime import metrics
from penstock.runtime.blobs import BlobStore
from penstock.runtime.errors import PenstockError, Unavailable
from penstock.runtime.logs import get_logger
from penstock.v1 import scheduler_pb2 as pb
from worker.held import HeldLease

__all__ = ["Runner", "StageWork"]

INLINE_RESULT_BYTES = 64_000
MAX_ERROR_CHARACTERS = 4_000

log = get_logger("runner")


@dataclass(frozen=True)
class StageWork:
    """What the leases of one stage have in common."""

    run_id: str
    stage: int
    processor: str
    parameters: bytes
    max_run_seconds: int


class Runner:
    """Loaded processors, one instance each for this worker's life."""

    def __init__(self, blobs: BlobStore, services: Mapping[str, Any]) -> None:
        self._blobs = blobs
        self._services = services
        self._processors: dict[str, Processor[Any]] = {}
        self._parameters: dict[tuple[str, bytes], Parameters] = {}
        self._gates: dict[str, asyncio.Semaphore] = {}

    def versions(self) -> dict[str, str]:
        """name -> version of every installed processor; one that can't be loaded is left out and logged."""
        found = {}
        for name in processor_names():
            try:
                found[name] = load_processor(name).version
            except Exception as error:
                log.error("a processor can't be loaded", processor=name, error=str(error), exc_info=error)
        return found

    def batch_size(self, processor: str) -> int:
        return self._instance(processor).batch_size

    async def run(self, work: StageWork, leases: Sequence[HeldLease]) -> list[pb.Outcome]:
        """One outcome for each lease, in order. Never raises but for cancellation."""
        started = time.monotonic()
        answers: Sequence[Any]  # a processor may answer anything
        try:
            instance = self._instance(work.processor)
            parameters = self._typed(work, instance)
            items = [await self._item(work, lease) for lease in leases]
            metrics.BATCH_ITEMS.labels(work.processor).observe(len(items))
            if instance.concurrency:
                gate = self._gates.setdefault(work.processor, asyncio.Semaphore(instance.concurrency))
                async with gate:
                    answers = await self._call(instance, parameters, work, items, leases)
            else:
                answers = await self._call(instance, parameters, work, items, leases)
        except Exception as error:
            answers = [_failure(error)] * len(leases)
        if len(answers) != len(leases):
            text = f"processor {work.processor} answered {len(answers)} outcomes for {len(leases)} items"
            answers = [Failure(text, kind="invalid_result", permanent=True)] * len(leases)
        duration_ms = int((time.monotonic() - started) * 1000)
        return [await self._outcome(lease, answer, duration_ms) for lease, answer in zip(leases, answers, strict=True)]

    async def _call(
        self,
        instance: Processor[Any],
        parameters: Parameters,
        work: StageWork,
        items: list[WorkItem],
        leases: Sequence[HeldLease],
    ) -> Sequence[Outcome]:
        seconds = work.max_run_seconds or 600
        cancelled = asyncio.Event()

        def progress(share: float, phase: str) -> None:
            for lease in leases:
                lease.progress, lease.phase = share, phase

        for lease in leases:
            lease.begun = True
            lease.cancelled = cancelled if len(leases) == 1 else None
        context = Context(
            parameters=parameters,
            blobs=self._blobs,
            deadline=asyncio.get_running_loop().time() + seconds,
            services=self._services,
            cancelled=cancelled,
            on_progress=progress,
        )
        try:
            async with asyncio.timeout(seconds):
                if instance.batch_size > 1:
                    return await instance.process_batch(items, context)
                return [await instance.process(items[0], context)]
        except TimeoutError:
            return [Failure(f"not done within {seconds} s (max_run_seconds)", kind="timeout")] * len(items)

    def _instance(self, name: str) -> Processor[Any]:
        if name not in self._processors:
            self._processors[name] = load_processor(name)()
        return self._processors[name]

    def _typed(self, work: StageWork, instance: Processor[Any]) -> Parameters:
        key = work.processor, work.parameters
        if key not in self._parameters:
            values = orjson.loads(work.parameters) if work.parameters else {}
            self._parameters[key] = validate_parameters(type(instance), values)
        return self._parameters[key]

    async def _item(self, work: StageWork, held: HeldLease) -> WorkItem:
        lease = held.lease
        payload = lease.payload
        if lease.HasField("payload_blob"):
            payload = await asyncio.to_thread(self._blobs.get, lease.payload_blob.sha256)
        return WorkItem(
            run_id=work.run_id,
            stage=work.stage,
            seq=lease.seq,
            key=lease.key,
            group=lease.group,
            payload=orjson.loads(payload) if payload else {},
            attempt=lease.attempt,
            tries=lease.tries,
        )

    async def _outcome(self, held: HeldLease, answer: Any, duration_ms: int) -> pb.Outcome:
        lease = held.lease
        if isinstance(answer, Failure):
            return pb.Outcome(
                seq=lease.seq,
                attempt=lease.attempt,
                kind=pb.OUTCOME_KIND_FAILED,
                error_kind=answer.kind,
                error=answer.message[:MAX_ERROR_CHARACTERS],
                duration_ms=duration_ms,
                no_try=answer.no_try,
                permanent=answer.permanent,
            )
        if not isinstance(answer, Result):
            text = f"the processor answered a {type(answer).__name__}, not a Result or a Failure"
            return await self._outcome(held, Failure(text, kind="invalid_result", permanent=True), duration_ms)
        try:
            data = b"" if answer.value is None else orjson.dumps(answer.value)
            blob = answer.blob
            if len(data) > INLINE_RESULT_BYTES and blob is None:
                blob = await asyncio.to_thread(self._blobs.put, data)
                data = b""
        except TypeError as error:
            text = f"its result is no JSON: {error}"
            return await self._outcome(held, Failure(text, kind="invalid_result", permanent=True), duration_ms)
        except PenstockError as error:
            return await self._outcome(held, _failure(error), duration_ms)
        if len(data) > INLINE_RESULT_BYTES:
            text = f"its result has {len(data)} bytes beside a blob; {INLINE_RESULT_BYTES} are possible"
            return await self._outcome(held, Failure(text, kind="invalid_result", permanent=True), duration_ms)
        return pb.Outcome(
            seq=lease.seq,
            attempt=lease.attempt,
            kind=pb.OUTCOME_KIND_COMPLETED,
            result=data,
            result_blob=blob,
            duration_ms=duration_ms,
        )


def _failure(error: Exception) -> Failure:
    if isinstance(error, ServiceUnavailable | Unavailable):
        return Failure(str(error), kind="unavailable", no_try=True)
    if isinstance(error, ProcessorError):
        return Failure(str(error), kind=error.kind, permanent=error.permanent)
    if isinstance(error, PenstockError):
        return Failure(error.message)
    log.error("a processor raised", error=str(error), exc_info=error)
    return Failure(f"{type(error).__name__}: {error}")
