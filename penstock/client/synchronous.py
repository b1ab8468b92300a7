"""`Client`: the same for code without an event loop.

One background thread runs the loop; every method hands its call over and waits. An interrupt (Ctrl-C) while waiting
cancels the call and comes up in the caller's thread. A client may be shared by threads; it does not survive a fork.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from penstock.client.asynchronous import AsyncClient
from penstock.client.blocking import Loop
from penstock.client.connection import RETRY_SECONDS
from penstock.client.discovery import Endpoints
from penstock.client.documents import DocumentView, Results
from penstock.client.jobs import JobStatus
from penstock.client.runs import RunRef
from penstock.client.synchronous_limits import Gates, Limits, Prices, Retries
from penstock.client.synchronous_runs import Items, RunHandle, Runs
from penstock.client.synchronous_sources import Plans, Sources
from penstock.client.synchronous_tokens import Tokens
from penstock.client.synchronous_workers import Workers
from penstock.client.uploads import PathLike
from penstock.v1 import analyzer_pb2, planner_pb2, scheduler_pb2

__all__ = ["Client"]


class Documents:
    """See `penstock.client.documents.Documents`."""

    def __init__(self, loop: Loop, client: AsyncClient) -> None:
        self._loop, self._it, self._client = loop, client.documents, client

    def analyze(
        self,
        paths: Sequence[PathLike],
        *,
        zip: bool = False,  # noqa: A002
        granularity: str = "sentence",
        name: str = "",
        on_upload: Callable[[planner_pb2.Source], None] = lambda source: None,
    ) -> JobStatus:
        return self._loop.run(self._it.analyze(paths, zip=zip, granularity=granularity, name=name, on_upload=on_upload))

    def start(self, source_id: str, *, granularity: str = "sentence", name: str = "") -> JobStatus:
        return self._loop.run(self._it.start(source_id, granularity=granularity, name=name))

    def status(self, job: RunRef) -> JobStatus:
        return self._loop.run(self._it.status(job))

    def jobs(self, *, skip: int = 0, limit: int = 50) -> list[JobStatus]:
        return self._loop.run(self._it.jobs(skip=skip, limit=limit))

    def wait(self, job: RunRef, *, on_change: Callable[[JobStatus], None] = lambda status: None) -> JobStatus:
        """`on_change` is called on the client's own thread."""
        return self._loop.run(self._it.wait(job, on_change=on_change))

    def results(self, job: RunRef) -> Results:
        return self._loop.run(self._it.results(job))

    def document(self, job: RunRef, document_id: int) -> DocumentView:
        return self._loop.run(self._it.document(job, document_id))

    def collection(self, job: RunRef) -> analyzer_pb2.Collection | None:
        """Clusters, matrix, most similar pairs, duplicates; None until the job is COMPLETED."""

        async def get() -> analyzer_pb2.Collection | None:
            return await self._it.collection(await self._it.run(job))

        return self._loop.run(get())

    def export(self, job: RunRef, format: str = "csv") -> Iterator[bytes]:  # noqa: A002
        """The export (`csv` or `json`), piece by piece."""
        return self._loop.each(self._client.export(job, format))


class Processors:
    """See `penstock.client.resources.Processors`."""

    def __init__(self, loop: Loop, client: AsyncClient) -> None:
        self._loop, self._it = loop, client.processors

    def list(self) -> builtins.list[planner_pb2.Processor]:
        return self._loop.run(self._it.list())

    def get(self, name: str) -> planner_pb2.Processor:
        return self._loop.run(self._it.get(name))


class Client:
    """A running Penstock. Use it as `with Client() as penstock`, or call `close` when done.

    Takes what `AsyncClient` takes. Raises Unavailable (code `not_running`) when there is none.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        data: Path | str | None = None,
        endpoints: Endpoints | None = None,
        api_token: str | None = None,
        actor: str = "sdk",
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._loop = Loop()
        client = AsyncClient(
            url=url, data=data, endpoints=endpoints, api_token=api_token, actor=actor, retry_seconds=retry_seconds
        )
        try:
            self._client = self._loop.run(client.open())
        except BaseException:
            self._loop.stop()
            raise
        self.endpoints = self._client.endpoints
        self.sources = Sources(self._loop, self._client)
        self.plans = Plans(self._loop, self._client)
        self.runs = Runs(self._loop, self._client)
        self.items = Items(self._loop, self._client)
        self.gates = Gates(self._loop, self._client)
        self.limits = Limits(self._loop, self._client)
        self.prices = Prices(self._loop, self._client)
        self.retries = Retries(self._loop, self._client)
        self.documents = Documents(self._loop, self._client)
        self.processors = Processors(self._loop, self._client)
        self.tokens = Tokens(self._loop, self._client)
        self.workers = Workers(self._loop, self._client)

    def run(self, run: RunRef | scheduler_pb2.Run) -> RunHandle:
        """One run to wait for, to follow and to command: by its number, its id, or as `runs.start` answered it."""
        return RunHandle(self._loop, self._loop.run(self._client.run(run)))

    def close(self) -> None:
        self._loop.run(self._client.close())
        self._loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
