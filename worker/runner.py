"""Runs processors over leased items: batches, deadlines, cancellation; every item gets exactly one outcome.

Whatever a processor does (raise, answer too few, hang past its deadline) becomes an outcome of the items concerned,
never an end of the worker. A call that goes on after its cancellation is left behind; threads that it holds are
replaced, so that later calls find free ones.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import orjson

from penstock.declared.folder import INSTALLED, Processors
from penstock.processor import (
    Context,
    Failure,
    Mode,
    Outcome,
    Parameters,
    Processor,
    ProcessorError,
    Result,
    ServiceUnavailable,
    Spending,
    WorkItem,
    validate_parameters,
)
from penstock.runtime import metrics
from penstock.runtime.blobs import BlobStore
from penstock.runtime.environment import Environment
from penstock.runtime.errors import PenstockError, Unavailable
from penstock.runtime.logs import get_logger
from penstock.v1 import scheduler_pb2 as pb
from worker.held import Call, HeldLease
from worker.outcomes import INVALID, MAX_WORDS_CHARACTERS, Crash, Ended, Kept, checked, large, outcome, plain, words

T = TypeVar("T")

__all__ = ["Runner", "StageWork", "TopUp"]

CANCEL_SECONDS = 5.0
"""For a processor that was told to stop; then its call is cancelled as at its deadline."""

ABANDON_SECONDS = 2.0
"""For a call that was cancelled; then nobody waits for it any more."""
THREAD_SECONDS = 1.0
"""Within which a thread must be free after a call hung; else the pool is replaced."""
BLOB_THREADS = 2

TopUp = Callable[["StageWork", WorkItem, int], Awaitable[int]]
"""Reserves so much more for an item; answers what is then reserved. Raises BudgetRefused."""

TURNS = 2
"""Of the loop, from a task that runs a batch to the first step of the processor's own."""

_MODES: Mapping[int, Mode] = {pb.MODE_HEAL: "heal", pb.MODE_CONFIRM: "confirm"}

_loads = orjson.loads

log = get_logger("runner")


@dataclass(frozen=True)
class StageWork:
    """What the leases of one stage have in common."""

    run_id: str
    stage: int
    processor: str
    parameters: bytes
    max_run_seconds: int
    mode: int = pb.MODE_WORK
    budgeted: bool = False
    version: str = ""


class Runner:
    """Loaded processors, one instance each of a version for this worker's life."""

    def __init__(
        self,
        blobs: BlobStore,
        services: Mapping[str, Any],
        processors: Processors = INSTALLED,
        environment: Environment | None = None,
    ) -> None:
        self._blobs = blobs
        self._environment = environment or Environment()
        self._services = services
        self.top_up: TopUp | None = None
        self._known = processors
        self._declared: dict[tuple[str, str], type[Processor[Any]]] = {}
        self._versions: dict[str, str] = {}
        self._processors: dict[tuple[str, str], Processor[Any]] = {}
        self._parameters: dict[tuple[str, str, bytes], Parameters] = {}
        self._gates: dict[str, asyncio.Semaphore] = {}
        # Not the loop's own pool: processors may fill that with threads that hang.
        self._threads = ThreadPoolExecutor(BLOB_THREADS, thread_name_prefix="blobs")
        self._freeing = asyncio.Lock()
        self._abandoned: set[asyncio.Task[Any]] = set()

    @property
    def changes(self) -> bool:
        """Whether `versions` may answer something else later."""
        return self._known.folder is not None

    def versions(self) -> dict[str, str]:
        """name -> version of every processor, as declared now; one that can't be loaded is left out and logged."""
        if not self._versions:
            for name in self._known.installed:
                try:
                    self._versions[name] = self._known.load(name).version
                except (Exception, SystemExit) as error:
                    log.error("a processor can't be loaded", processor=name, error=str(error), exc_info=error)
        found = dict(self._versions)
        for one in self._known.declared() if self.changes else ():
            if one.processor is not None:
                found[one.name] = one.processor.version
                # Leases are of the version that they were asked for with, also when the file has changed since.
                self._declared[one.name, one.processor.version] = one.processor
        return found

    def batch_size(self, processor: str, version: str = "") -> int:
        """Most items of one `run`. Raises ProcessorError when the processor can't be made."""
        return self._instance(processor, version).batch_size

    async def turn(self) -> None:
        """Lets processors be called with what was just given to `run`, before anything else is done in this loop."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def run(
        self,
        work: StageWork,
        leases: Sequence[HeldLease],
        begin: Callable[[Sequence[HeldLease]], Sequence[HeldLease]],
    ) -> list[Ended]:
        """An outcome for each lease that was begun, in order. Never raises but for cancellation.

        begin: called as soon as the processor takes another call; gives back those that may still be executed.
        """
        most = self._instance(work.processor, work.version).concurrency or sys.maxsize
        async with self._gates.setdefault(work.processor, asyncio.Semaphore(most)):
            begun = begin(leases)
            spending: dict[int, Spending] = {}
            answers = await self._answers(work, begun, spending) if begun else []
        return list(zip(begun, await self._outcomes(work, begun, answers, spending), strict=True))

    async def _answers(self, work: StageWork, leases: Sequence[HeldLease], spending: dict[int, Spending]) -> list[Any]:
        """What the processor answers for each; why, when an item's payload can't be read."""
        items = await self._items(work, leases)
        ready = [(lease, item) for lease, item in zip(leases, items, strict=True) if isinstance(item, WorkItem)]
        metrics.BATCH_ITEMS.labels(work.processor).observe(len(items))
        answers = iter(
            await self._call(work, [lease for lease, _ in ready], [item for _, item in ready], spending)
            if ready
            else ()
        )
        return [item if isinstance(item, Failure) else next(answers) for item in items]

    async def _call(
        self,
        work: StageWork,
        leases: Sequence[HeldLease],
        items: Sequence[WorkItem],
        spending: dict[int, Spending],
    ) -> Sequence[Any]:
        """As many answers as items, whatever they are."""
        loop = asyncio.get_running_loop()
        seconds = work.max_run_seconds or 600
        limit = asyncio.timeout(seconds)
        cancelled = asyncio.Event()

        def progress(share: float, phase: str) -> None:
            for lease in leases:
                lease.progress, lease.phase = share, words(phase, MAX_WORDS_CHARACTERS)

        def revoked() -> None:
            cancelled.set()
            if not limit.expired():
                limit.reschedule(min(loop.time() + CANCEL_SECONDS, context.deadline))

        try:
            instance = self._instance(work.processor, work.version)
            context = Context(
                parameters=self._typed(work, instance),
                blobs=self._blobs,
                deadline=loop.time() + seconds,
                services=self._services,
                cancelled=cancelled,
                on_progress=progress,
                spending=spending,
                environment=self._environment.of((*instance.environment_needs, *instance.environment_allows)),
            )
            if work.budgeted and self.top_up is not None:
                context.on_top_up = functools.partial(self.top_up, work)
            async with limit:
                call = Call(len(leases), revoked)
                for lease in leases:
                    lease.call = call
                answers: Sequence[Outcome]
                if instance.batch_size > 1:
                    answers = await self._abandoning(instance.process_batch(items, context))
                else:
                    answers = [await self._abandoning(instance.process(items[0], context))]
        # A processor may raise what would end the worker: SystemExit, or a cancellation that nobody asked for.
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            if isinstance(error, TimeoutError) and limit.expired():
                failure: Failure = Crash(f"not done within {seconds} s (max_run_seconds)", kind="timeout")
                await self._free_threads()
            else:
                failure = _failure(error)
            if isinstance(failure, Crash):
                failure = self._ended(work, failure, "whether it took effect is not known")
            return [failure] * len(items)
        finally:
            for lease in leases:
                lease.call = None
        told = f"{len(answers)} outcomes" if isinstance(answers, Sequence) else f"a {type(answers).__name__}"
        if not isinstance(answers, Sequence) or len(answers) != len(items):
            problem = f"processor {work.processor} answered {told} for {len(items)} items"
            return [Crash(problem, kind="invalid_result", permanent=True)] * len(items)
        return answers

    async def _abandoning(self, call: Coroutine[Any, Any, Any]) -> Any:
        """The call's answer; when we are cancelled, so is the call, and left behind if it goes on all the same."""

        async def ended() -> tuple[Any, BaseException | None]:
            # A task lets some exceptions (SystemExit) end the loop: they come back as values.
            try:
                return await call, None
            except BaseException as error:
                return None, error

        task = asyncio.create_task(ended())
        try:
            answer, error = await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            _, alive = await asyncio.wait({task}, timeout=ABANDON_SECONDS)
            if alive:
                log.error("a processor goes on after its cancellation; its call is left behind")
                self._abandoned.add(task)
                task.add_done_callback(self._abandoned.discard)
            raise
        if error is not None:
            raise error
        return answer

    async def _free_threads(self) -> None:
        """After a call hung: its threads live on, and must not be the last ones that calls could have."""
        loop = asyncio.get_running_loop()
        async with self._freeing:
            try:
                await asyncio.wait_for(loop.run_in_executor(None, lambda: None), THREAD_SECONDS)
            except TimeoutError:
                log.warning("all threads are held by calls that hang; later calls get new ones")
                loop.set_default_executor(ThreadPoolExecutor())

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _instance(self, name: str, version: str) -> Processor[Any]:
        key = name, version
        if key not in self._processors:
            try:
                self._processors[key] = (self._declared.get(key) or self._known.load(name))()
            except (Exception, SystemExit) as error:
                raise ProcessorError(f"processor {name} can't be made: {_told(error)}") from error
        return self._processors[key]

    def _typed(self, work: StageWork, instance: Processor[Any]) -> Parameters:
        key = work.processor, work.version, work.parameters
        if key not in self._parameters:
            values = orjson.loads(work.parameters) if work.parameters else {}
            self._parameters[key] = validate_parameters(type(instance), values)
        return self._parameters[key]

    def _ended(self, work: StageWork, failure: Failure, why: str) -> Failure:
        """The failure, or its end as unknown where what may have been done must not be done again."""
        try:
            instance = self._instance(work.processor, work.version)
            if instance.is_repeatable(self._typed(work, instance)):
                return failure
        except Exception:  # it was never made, so it did nothing
            return failure
        return Crash(f"{failure.message}; {why}", kind="unknown", permanent=True)

    def _is_paid(self, work: StageWork) -> bool:
        try:
            instance = self._instance(work.processor, work.version)
            return instance.is_paid(self._typed(work, instance))
        except Exception:
            return False

    async def _items(self, work: StageWork, leases: Sequence[HeldLease]) -> list[WorkItem | Failure]:
        def read() -> list[WorkItem | Failure]:
            return [self._item(work, held.lease) for held in leases]

        if any(held.lease.HasField("payload_blob") for held in leases):
            return await self._in_thread(read)
        return read()

    def _item(self, work: StageWork, lease: pb.Lease) -> WorkItem | Failure:
        try:
            payload = lease.payload or (
                self._blobs.get(lease.payload_blob.sha256) if lease.HasField("payload_blob") else b"{}"
            )
            values = _loads(payload)
            context = _loads(lease.context) if lease.context else None
            saved = _loads(lease.saved) if lease.saved else None
        except PenstockError as error:
            return _failure(error)
        except orjson.JSONDecodeError as error:
            return Failure(f"its payload, context or saved state is no JSON: {error}")
        return WorkItem(
            work.run_id,
            work.stage,
            lease.seq,
            lease.key,
            lease.group,
            values,
            lease.attempt,
            lease.tries,
            _MODES.get(work.mode, "work"),
            context,
            saved,
            lease.reserved_micros if work.budgeted else None,
            lease.heals,
        )

    async def _outcomes(
        self, work: StageWork, leases: Sequence[HeldLease], answers: Sequence[Any], spending: Mapping[int, Spending]
    ) -> Sequence[pb.Outcome | Result]:
        if not spending and all(map(plain, answers)):
            return cast("Sequence[Result]", answers)
        kept = [checked(answer) for answer in answers]
        blobs = [(place, one.data) for place, one in enumerate(kept) if isinstance(one, Kept) and large(one)]
        if blobs:
            try:
                refs = await self._in_thread(lambda: self._blobs.put_many([data for _, data in blobs]))
                stored: list[Kept | Failure] = [Kept(b"", ref) for ref in refs]
            except Exception as error:
                done = "it was done, and its result could not be kept"
                stored = [self._ended(work, _failure(error), done)] * len(blobs)
            for (place, _), one in zip(blobs, stored, strict=True):
                kept[place] = one
        paid = self._is_paid(work)
        made: list[pb.Outcome] = []
        for lease, answer, told in zip(leases, answers, kept, strict=True):
            spent = spending.get(lease.lease.seq)
            try:
                made.append(outcome(lease, answer, told, spent, paid=paid))
            except Exception as error:  # what one item answered must not cost the others theirs
                crash = Crash(f"its answer can't be recorded: {_told(error)}", kind=INVALID, permanent=True)
                made.append(outcome(lease, None, crash, spent, paid=paid))
        return made


def _failure(error: BaseException) -> Failure:
    if isinstance(error, ServiceUnavailable | Unavailable):
        return Failure(str(error), kind="unavailable", no_try=True)
    if isinstance(error, ProcessorError):
        return Failure(str(error), kind=error.kind, permanent=error.permanent, fingerprint=error.fingerprint)
    if isinstance(error, PenstockError):
        return Failure(error.message)
    log.error("a processor raised", error=_told(error), exc_info=error)
    return Crash(_told(error))


def _told(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()
