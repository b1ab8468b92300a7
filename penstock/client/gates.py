"""Gates: where a run asks a person before a stage begins."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator

from penstock.client.connection import Connection
from penstock.v1 import rules_pb2, scheduler_pb2

__all__ = ["Gates"]


class Gates:
    """The gates that wait now, and the answers to them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list_page(
        self, *, run_id: str = "", page_size: int = 100, page_token: str = ""
    ) -> scheduler_pb2.ListGatesResponse:
        """Of one run, or of all."""
        request = scheduler_pb2.ListGatesRequest(run_id=run_id, page_size=page_size, page_token=page_token)
        return await self._connection.read(lambda: self._connection.scheduler.ListGates(request))

    async def each(self, *, run_id: str = "") -> AsyncIterator[scheduler_pb2.Gate]:
        token = ""
        while True:
            page = await self.list_page(run_id=run_id, page_token=token)
            for gate in page.gates:
                yield gate
            token = page.next_page_token
            if not token:
                return

    async def list(self, *, run_id: str = "") -> builtins.list[scheduler_pb2.Gate]:
        return [gate async for gate in self.each(run_id=run_id)]

    async def approve(
        self, run_id: str, gate: str, *, reason: str = "", request_id: str = ""
    ) -> scheduler_pb2.RunCommandResponse:
        """The stage begins. Raises Conflict when no gate of that name waits."""
        return await self.answer(run_id, gate, approve=True, reason=reason, request_id=request_id)

    async def reject(
        self, run_id: str, gate: str, *, reason: str = "", request_id: str = ""
    ) -> scheduler_pb2.RunCommandResponse:
        """The run stops. Raises Conflict when no gate of that name waits."""
        return await self.answer(run_id, gate, approve=False, reason=reason, request_id=request_id)

    async def answer(
        self, run_id: str, gate: str, *, approve: bool, reason: str = "", request_id: str = ""
    ) -> scheduler_pb2.RunCommandResponse:
        actor = self._connection.actor
        answer = rules_pb2.GATE_ANSWER_APPROVE if approve else rules_pb2.GATE_ANSWER_REJECT
        return await self._connection.idempotent(
            lambda chosen: self._connection.scheduler.AnswerGate(
                scheduler_pb2.AnswerGateRequest(
                    run_id=run_id, gate=gate, answer=answer, actor=actor, reason=reason, request_id=chosen
                )
            ),
            request_id,
        )
