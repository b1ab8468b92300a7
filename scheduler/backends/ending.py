"""The end of a worker, as both backends carry it out: its last lines are kept, its leases return, its row says how.

In this order: whoever dies in between does it again, and each step done twice changes nothing.
"""

from __future__ import annotations

import asyncio

import sqlalchemy as sa

from penstock.runtime.blobs import BlobStore
from penstock.runtime.errors import PenstockError
from penstock.runtime.logs import get_logger
from scheduler.engine import Engine
from scheduler.store import workers
from scheduler.store.effects import Effects
from scheduler.store.leases import Session

__all__ = ["Ending"]

log = get_logger("workers")


class Ending:
    def __init__(self, engine: Engine, blobs: BlobStore) -> None:
        self._engine = engine
        self._blobs = blobs

    async def end(self, session: str, worker_class: str, *, kind: str, reason: str, tail: bytes = b"") -> int:
        """Returns how many leases it still held. kind: of what is lost with it; "": it ended as it should."""
        blob = await self._kept(session, tail)
        count = await self._engine.end_session(
            Session(session, session, worker_class), reason, handed_back=False, kind=kind
        )
        self._engine.draining.discard(session)

        def work(connection: sa.Connection, effects: Effects) -> None:
            workers.note_end(connection, session, now_ms=self._engine.now_ms(), kind=kind, reason=reason)
            if blob:
                workers.note_log(connection, session, blob)
            workers.forget(connection, worker_class)

        await self._engine.commits.run(work)
        return count

    async def _kept(self, session: str, tail: bytes) -> str:
        """Hash of the blob of its last lines. No worker's end waits for a blob store that is away."""
        if not tail:
            return ""
        try:
            ref = await asyncio.to_thread(self._blobs.put, tail)
        except PenstockError as error:
            log.warning("the log of a worker is lost", session=session, error=error.message)
            return ""
        return ref.sha256
