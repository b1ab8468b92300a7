"""`AsyncClient`: a running Penstock on this event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self

from penstock.client.connection import RETRY_SECONDS, Connection
from penstock.client.discovery import Endpoints, find
from penstock.client.documents import Documents
from penstock.client.exports import export
from penstock.client.gates import Gates
from penstock.client.gateway_calls import GatewayCalls
from penstock.client.handle import RunHandle
from penstock.client.items import Items
from penstock.client.limits import Limits, Prices, Retries
from penstock.client.plans import Plans
from penstock.client.resources import Collections, Processors
from penstock.client.runs import RunRef, Runs
from penstock.client.sources import Sources
from penstock.client.tokens import Tokens
from penstock.client.workers import Workers
from penstock.runtime.clock import IdSource, random_id
from penstock.v1 import scheduler_pb2

__all__ = ["AsyncClient"]


class AsyncClient:
    """Use it as `async with AsyncClient() as penstock`: it finds the server on entry and closes its channels on exit.

    url, data: where the server is (see `penstock.client.discovery`); endpoints: where it is, known already. api_token:
    for a gateway that asks who calls (default: PENSTOCK_TOKEN). actor:
    who acts, as the events tell it. retry_seconds: how long a service may be away before a read gives up.
    """

    endpoints: Endpoints
    connection: Connection
    documents: Documents
    sources: Sources
    plans: Plans
    runs: Runs
    items: Items
    gates: Gates
    limits: Limits
    prices: Prices
    retries: Retries
    workers: Workers
    processors: Processors
    collections: Collections
    tokens: Tokens

    def __init__(
        self,
        *,
        url: str | None = None,
        data: Path | str | None = None,
        endpoints: Endpoints | None = None,
        api_token: str | None = None,
        actor: str = "sdk",
        retry_seconds: float = RETRY_SECONDS,
        make_id: IdSource = random_id,
    ) -> None:
        self._url = url
        self._data = data
        self._given = endpoints
        self._api_token = api_token
        self._actor = actor
        self._retry_seconds = retry_seconds
        self._make_id = make_id

    async def open(self) -> Self:
        """Finds the server. Raises Unavailable (code `not_running`) where there is none."""
        if self._given is not None:
            self.endpoints = self._given
        else:
            self.endpoints = await asyncio.to_thread(find, url=self._url, data=self._data, api_token=self._api_token)
        self.connection = Connection(
            self.endpoints, actor=self._actor, retry_seconds=self._retry_seconds, make_id=self._make_id
        )
        self.sources = Sources(self.connection)
        self.plans = Plans(self.connection)
        self.runs = Runs(self.connection)
        self.items = Items(self.connection)
        self.gates = Gates(self.connection)
        self.limits = Limits(self.connection)
        self.prices = Prices(self.connection)
        self.retries = Retries(self.connection)
        self.workers = Workers(self.connection)
        self.processors = Processors(self.connection)
        self.collections = Collections(self.connection)
        self.tokens = Tokens(lambda: GatewayCalls(self.endpoints.http, self.endpoints.api_token))
        self.documents = Documents(self.connection, sources=self.sources, plans=self.plans, runs=self.runs)
        return self

    async def close(self) -> None:
        await self.connection.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def run(self, run: RunRef | scheduler_pb2.Run) -> RunHandle:
        """One run to wait for, to follow and to command: by its number, its id, or as `runs.start` answered it."""
        found = run if isinstance(run, scheduler_pb2.Run) else await self.runs.get(run)
        return RunHandle(found, runs=self.runs, items=self.items, gates=self.gates)

    async def export(self, job: RunRef, format: str) -> AsyncIterator[bytes]:  # noqa: A002
        """The export of a job (`csv` or `json`), piece by piece."""
        _, write = export(format)
        async for piece in write(self.documents, await self.documents.run(job)):
            yield piece
