"""Workers and classes, for code without an event loop; what each call does is told by `penstock.client.workers`."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from penstock.client.asynchronous import AsyncClient
from penstock.client.blocking import Loop
from penstock.v1 import workers_pb2

__all__ = ["Workers"]


class Workers:
    """See `penstock.client.workers.Workers`."""

    def __init__(self, loop: Loop, client: AsyncClient) -> None:
        self._loop, self._it = loop, client.workers

    def list(self, *, worker_class: str = "", with_ended: bool = False) -> builtins.list[workers_pb2.Worker]:
        return self._loop.run(self._it.list(worker_class=worker_class, with_ended=with_ended))

    def drain(
        self,
        sessions: Sequence[str] = (),
        *,
        worker_class: str = "",
        reason: str = "",
        validate_only: bool = False,
    ) -> builtins.list[str]:
        return self._loop.run(
            self._it.drain(sessions, worker_class=worker_class, reason=reason, validate_only=validate_only)
        )

    def log(self, session: str, *, most_bytes: int = 0) -> workers_pb2.GetWorkerLogResponse:
        return self._loop.run(self._it.log(session, most_bytes=most_bytes))

    def classes(self) -> builtins.list[workers_pb2.WorkerClass]:
        return self._loop.run(self._it.classes())
