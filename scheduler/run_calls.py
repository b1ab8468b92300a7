"""What every group of run methods shares: the run that a request names, and the run as an answer.

It only reads. Raises NotFound that names what exists nearby, Unavailable while SQL can't be read.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import sqlalchemy as sa

from penstock.runtime.errors import InvalidInput
from penstock.runtime.plain_text import plain_text
from penstock.runtime.sql import Database
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import scheduler_pb2_grpc
from scheduler.engine import Engine
from scheduler.store import reads
from scheduler.translate import run_message

__all__ = ["Context", "RunCalls", "actor_of", "page_size", "reason_of"]

REASON_CHARACTERS = 2_000

Context = grpc.aio.ServicerContext[Any, Any]


def page_size(asked: int, default: int, most: int) -> int:
    """The size of a page. Raises InvalidInput when negative; more than `most` is `most`."""
    if asked < 0:
        raise InvalidInput(f"page_size {asked} is negative; 1 to {most} are possible", code="bad_page_size")
    return min(asked or default, most)


def actor_of(actor: str) -> str:
    """Who asks; `api` when nobody says. Raises InvalidInput."""
    return plain_text(actor, "actor") or "api"


def reason_of(reason: str) -> str:
    """Why. Raises InvalidInput."""
    return plain_text(reason, "reason", most=REASON_CHARACTERS)


class RunCalls(scheduler_pb2_grpc.SchedulerServiceServicer):
    def __init__(self, engine: Engine, database: Database) -> None:
        self._engine = engine
        self._database = database

    async def _find(self, run_id: str, number: int = 0) -> int:
        """The run's number. Raises NotFound."""
        plain_text(run_id, "run_id")

        def read() -> int:
            with self._database.read() as connection:
                return reads.find_run(connection, run_id=run_id, number=number)

        return await asyncio.to_thread(read)

    async def _run(self, number: int) -> pb.Run:
        """The run as it is now."""

        return await self._read_run(number=number)

    async def _read_run(self, *, run_id: str = "", number: int = 0) -> pb.Run:
        """The run of this id or number, in one snapshot. Raises NotFound."""

        def read() -> pb.Run:
            with self._database.read() as connection:
                return self._message(connection, run_id=run_id, number=number)

        return await asyncio.to_thread(read)

    def _message(self, connection: sa.Connection, *, run_id: str = "", number: int = 0) -> pb.Run:
        run, stages, keys = reads.whole_run(connection, run_id=run_id, number=number)
        return run_message(run, stages, self._engine.phases, exclusive_keys=keys)
