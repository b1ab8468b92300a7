"""gRPC of leases: validate, call, translate."""

from __future__ import annotations

from typing import Any

import grpc

from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import scheduler_pb2_grpc
from scheduler.engine import Engine
from scheduler.store.leases import Session
from scheduler.translate import refusal_message

__all__ = ["LeaseService"]

Context = grpc.aio.ServicerContext[Any, Any]


class LeaseService(scheduler_pb2_grpc.LeaseServiceServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def Acquire(self, request: pb.AcquireRequest, context: Context) -> pb.AcquireResponse:
        return await self._engine.acquire(request)

    async def Report(self, request: pb.ReportRequest, context: Context) -> pb.ReportResponse:
        return pb.ReportResponse(refused=[refusal_message(r) for r in await self._engine.report(request)])

    async def Renew(self, request: pb.RenewRequest, context: Context) -> pb.RenewResponse:
        return await self._engine.renew(request)

    async def EndSession(self, request: pb.EndSessionRequest, context: Context) -> pb.EndSessionResponse:
        session = Session(request.session.session, request.session.worker, request.session.worker_class)
        await self._engine.end_session(session, "its worker ended", handed_back=True)
        return pb.EndSessionResponse()
