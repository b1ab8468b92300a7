"""Plain gRPC health on a port of its own, for who has no certificate: a kubelet's probes.

    live   SERVING while the event loop turns; no dependency is asked, so that none can have the program restarted
    ""     readiness: SERVING when `ready` raises nothing, with the cause in the answer when it does

It listens before the program is built, since a program that waits for its database lives, and until it has ended. The
port says nothing else and takes nothing; without one (0) there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from penstock.runtime.errors import InvalidInput, PenstockError, Unavailable
from penstock.runtime.settings import Settings

__all__ = ["CAUSE_KEY", "LIVE", "Probes"]

LIVE = "live"
CAUSE_KEY = "penstock-cause"
"""In the trailing metadata of a health answer about a check that fails: what is wrong, in a few words."""

ANSWER_SECONDS = 0.8
"""A kubelet waits a second unless told otherwise: what takes longer is not ready."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Probes(health_pb2_grpc.HealthServicer):
    """`ready` may be set at any time; until then the program starts, and is not ready."""

    def __init__(self) -> None:
        self.ready: Callable[[], Awaitable[None]]
        self.not_ready("it starts")
        self.address = ""
        self._server: grpc.aio.Server | None = None

    def not_ready(self, cause: str) -> None:
        async def why() -> None:
            raise Unavailable(cause, cause=cause)

        self.ready = why

    async def start(self, settings: Settings) -> None:
        """Raises InvalidInput when the address is taken."""
        if not settings.health_port:
            return
        host = settings.health_host
        address = f"{f'[{host}]' if ':' in host else host}:{settings.health_port}"
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)], maximum_concurrent_rpcs=50)
        health_pb2_grpc.add_HealthServicer_to_server(self, self._server)
        try:
            self._server.add_insecure_port(address)
        except RuntimeError:
            raise InvalidInput(
                f"health_port: {address} is taken or no address of this machine: choose another", code="settings"
            ) from None
        await self._server.start()
        self.address = address

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        if request.service == LIVE:
            return health_pb2.HealthCheckResponse(status=_SERVING)
        if request.service:
            await context.abort(grpc.StatusCode.NOT_FOUND, f'there are "{LIVE}" and "" (readiness)')
        if cause := await self._cause():
            context.set_trailing_metadata(((CAUSE_KEY, cause),))
            return health_pb2.HealthCheckResponse(status=_NOT_SERVING)
        return health_pb2.HealthCheckResponse(status=_SERVING)

    async def _cause(self) -> str:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.ready()
        except TimeoutError:
            return f"no answer in {ANSWER_SECONDS:g} s"
        except PenstockError as error:
            return error.cause or "not ready"
        return ""
