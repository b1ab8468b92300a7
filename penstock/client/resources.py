"""Collections and processors: one method a call, typed, with the retry that is safe for it.

`penstock.client.sources` and `penstock.client.plans` are the same for what comes before; their names stand here, too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from penstock.client.connection import Connection
from penstock.client.plans import Plans, StageOptions
from penstock.client.sources import Sources
from penstock.v1 import analyzer_pb2, planner_pb2

__all__ = ["Collections", "Plans", "Processors", "Sources", "StageOptions"]


class Processors:
    """The processors that plans may name."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self) -> list[planner_pb2.Processor]:
        request = planner_pb2.ListProcessorsRequest()
        answer = await self._connection.read(lambda: self._connection.planner.ListProcessors(request))
        return list(answer.processors)

    async def get(self, name: str) -> planner_pb2.Processor:
        """One as it is now; a declaration that is wrong with its problems. Raises NotFound that lists all names."""
        request = planner_pb2.GetProcessorRequest(name=name)
        return await self._connection.read(lambda: self._connection.planner.GetProcessor(request))


class Collections:
    """Analysed sets of documents, by run."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, run_id: str) -> analyzer_pb2.Collection:
        """Raises NotFound until the collection stage of the run is done."""
        request = analyzer_pb2.GetCollectionRequest(run_id=run_id)
        return await self._connection.read(lambda: self._connection.analyzer.GetCollection(request))

    async def documents_page(
        self, run_id: str, *, page_size: int = 1000, page_token: str = "", seqs: Sequence[int] = ()
    ) -> analyzer_pb2.ListCollectionDocumentsResponse:
        """In cluster order; or exactly those with the given seqs."""
        request = analyzer_pb2.ListCollectionDocumentsRequest(
            run_id=run_id, page_size=page_size, page_token=page_token, seqs=seqs
        )
        return await self._connection.read(lambda: self._connection.analyzer.ListCollectionDocuments(request))

    async def pages(
        self, run_id: str, page_size: int = 5000
    ) -> AsyncIterator[Sequence[analyzer_pb2.CollectionDocument]]:
        token = ""
        while True:
            page = await self.documents_page(run_id, page_size=page_size, page_token=token)
            yield page.documents
            token = page.next_page_token
            if not token:
                return
