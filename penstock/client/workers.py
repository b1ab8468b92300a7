"""Who executes: workers and their classes; telling workers to drain, and their last lines."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Sequence

from penstock.client.connection import Connection
from penstock.v1 import workers_pb2

__all__ = ["Workers"]


class Workers:
    """Workers by their session, which items name too."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list_page(
        self, *, worker_class: str = "", with_ended: bool = False, page_size: int = 200, page_token: str = ""
    ) -> workers_pb2.ListWorkersResponse:
        request = workers_pb2.ListWorkersRequest(
            worker_class=worker_class, with_ended=with_ended, page_size=page_size, page_token=page_token
        )
        return await self._connection.read(lambda: self._connection.workers.ListWorkers(request))

    async def each(self, *, worker_class: str = "", with_ended: bool = False) -> AsyncIterator[workers_pb2.Worker]:
        """Every worker in order of class and slot, then the ended ones, the latest first."""
        token = ""
        while True:
            page = await self.list_page(
                worker_class=worker_class, with_ended=with_ended, page_size=1000, page_token=token
            )
            for worker in page.workers:
                yield worker
            token = page.next_page_token
            if not token:
                return

    async def list(self, *, worker_class: str = "", with_ended: bool = False) -> builtins.list[workers_pb2.Worker]:
        return [worker async for worker in self.each(worker_class=worker_class, with_ended=with_ended)]

    async def drain(
        self,
        sessions: Sequence[str] = (),
        *,
        worker_class: str = "",
        reason: str = "",
        validate_only: bool = False,
    ) -> builtins.list[str]:
        """Tells these, or all of a class, to finish what they have and end; the sessions that drain since. Raises
        NotFound for one that there is not."""
        request = workers_pb2.DrainWorkersRequest(
            sessions=sessions,
            worker_class=worker_class,
            actor=self._connection.actor,
            reason=reason,
            validate_only=validate_only,
        )
        answer = await self._connection.read(lambda: self._connection.workers.DrainWorkers(request))
        return builtins.list(answer.sessions)

    async def log(self, session: str, *, most_bytes: int = 0) -> workers_pb2.GetWorkerLogResponse:
        """Its last lines; of an ended one, as they were kept. Raises NotFound."""
        request = workers_pb2.GetWorkerLogRequest(session=session, most_bytes=most_bytes)
        return await self._connection.read(lambda: self._connection.workers.GetWorkerLog(request))

    async def classes(self) -> builtins.list[workers_pb2.WorkerClass]:
        request = workers_pb2.ListClassesRequest()
        answer = await self._connection.read(lambda: self._connection.workers.ListClasses(request))
        return builtins.list(answer.classes)
