"""Channels to the three services, and the one rule of when a call is tried again.

`read` and `idempotent` try again while a service can't be reached, for at most `retry_seconds`: for calls that change
nothing, and for calls with a request id, which the server answers once. `once` never does. Every failure comes out as
a class of `penstock.runtime.errors`; what the server refuses is never tried again.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

import stamina
import stamina.instrumentation

from penstock.client.discovery import Endpoints
from penstock.runtime.blob_place import blobs_at
from penstock.runtime.blobs import BlobStore
from penstock.runtime.channel import calling, open_channel
from penstock.runtime.clock import IdSource, random_id
from penstock.runtime.errors import Unavailable
from penstock.v1 import analyzer_pb2_grpc, planner_pb2_grpc, scheduler_pb2_grpc, workers_pb2_grpc

if TYPE_CHECKING:
    import grpc

    from penstock.v1.analyzer_pb2_grpc import AnalyzerServiceAsyncStub
    from penstock.v1.planner_pb2_grpc import PlannerServiceAsyncStub
    from penstock.v1.scheduler_pb2_grpc import LimitServiceAsyncStub, SchedulerServiceAsyncStub
    from penstock.v1.workers_pb2_grpc import WorkerServiceAsyncStub

__all__ = ["ACTING", "RETRY_SECONDS", "Connection", "worth_another_try"]

RETRY_SECONDS = 15.0
"""A killed program is back within 5 s; three times that, and the user should hear of it."""

T = TypeVar("T")

_LASTING = frozenset({"disk_full", "deadline_exceeded", "blob_damaged", "not_running"})


_NOBODY = "failed to connect"


def _quiet() -> None:
    """Keeps stamina's notes of retries off the standard output of programs that never set up structlog."""
    structlog = sys.modules.get("structlog")
    if structlog is None or not structlog.is_configured():
        stamina.instrumentation.set_on_retry_hooks(())


def worth_another_try(error: Exception) -> bool:
    """A service that is away for a moment; not a disk that stays full, nor a call that took all of its time."""
    return isinstance(error, Unavailable) and error.code not in _LASTING


ACTING: ContextVar[str] = ContextVar("acting", default="")
"""Whom a task makes its calls for, where one client serves several."""


class Connection:
    """Stubs of the services at `endpoints`. Open it on the event loop that uses it; close it there."""

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        actor: str = "sdk",
        retry_seconds: float = RETRY_SECONDS,
        make_id: IdSource = random_id,
    ) -> None:
        self.endpoints = endpoints
        self._actor = actor
        self.retry_seconds = retry_seconds
        self.make_id = make_id
        self.channels: dict[str, grpc.aio.Channel] = {
            name: open_channel(address, endpoints.proof, service=name)
            for name, address in (
                ("planner", endpoints.planner),
                ("scheduler", endpoints.scheduler),
                ("analyzer", endpoints.analyzer),
            )
        }
        self.planner: PlannerServiceAsyncStub = planner_pb2_grpc.PlannerServiceStub(self.channels["planner"])
        self.scheduler: SchedulerServiceAsyncStub = scheduler_pb2_grpc.SchedulerServiceStub(self.channels["scheduler"])
        self.limits: LimitServiceAsyncStub = scheduler_pb2_grpc.LimitServiceStub(self.channels["scheduler"])
        self.workers: WorkerServiceAsyncStub = workers_pb2_grpc.WorkerServiceStub(self.channels["scheduler"])
        self.analyzer: AnalyzerServiceAsyncStub = analyzer_pb2_grpc.AnalyzerServiceStub(self.channels["analyzer"])
        self._blobs: BlobStore | None = None
        _quiet()

    @property
    def actor(self) -> str:
        """Who asks: whom this task asks for, else the client itself."""
        return ACTING.get() or self._actor

    @property
    def blobs(self) -> BlobStore:
        """The blob store, which a client reads by itself: on the same machine, or in S3 with keys of its own. Raises
        Unavailable where it has none."""
        if self._blobs is None:
            where = self.endpoints
            if where.blobs is None and not where.blobs_url:
                raise Unavailable("this client can't reach the blob store: run it where the data folder is")
            self._blobs = blobs_at(where.blobs, url=where.blobs_url, endpoint=where.s3_endpoint, region=where.s3_region)
        return self._blobs

    async def read(self, call: Callable[[], Awaitable[T]]) -> T:
        """The answer of a call that changes nothing, tried again while the service is away."""
        async for attempt in stamina.retry_context(
            worth_another_try,
            attempts=None,
            timeout=self.retry_seconds,
            wait_initial=0.1,
            wait_max=1.0,
            wait_jitter=0.1,
        ):
            with attempt, self._calling():
                return await call()
        raise AssertionError("a retry context ends with an answer or an error")

    async def idempotent(self, call: Callable[[str], Awaitable[T]], request_id: str = "") -> T:
        """The same for a call that carries the request id that it is handed: it happens once, however often sent."""
        chosen = request_id or self.make_id("req")
        return await self.read(lambda: call(chosen))

    async def once(self, call: Callable[[], Awaitable[T]]) -> T:
        """A call that is never sent twice."""
        with self._calling():
            return await call()

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Errors as our classes; where nobody listens, in words that name the service instead of gRPC's own."""
        try:
            with calling():
                yield
        except Unavailable as error:
            for name in ("planner", "scheduler", "analyzer"):
                address = getattr(self.endpoints, name)
                if error.message.startswith(_NOBODY) and address in error.message:
                    raise Unavailable(
                        f"the {name} does not answer at {address}: it is starting again, or `penstock up` has ended"
                    ) from error
            raise

    async def close(self) -> None:
        for channel in self.channels.values():
            await channel.close()
