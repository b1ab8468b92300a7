"""Real services in the test's own event loop: their wiring, their gRPC server, their loops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import grpc

from penstock.runtime.channel import OPTIONS
from penstock.runtime.interceptors import CallInterceptor
from penstock.runtime.program import Service
from penstock.runtime.settings import Settings
from tests.servers.schemas import laid

__all__ = ["Served", "serve"]


@dataclass
class Served:
    """A service that serves at `address`; `stop` ends it as SIGTERM would, `crash` as a kill would: no drain."""

    service: Service
    server: grpc.aio.Server
    address: str
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def stop(self) -> None:
        await self.service.drain()
        await self.crash()

    async def crash(self) -> None:
        left = set(self.tasks)
        while left:
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=0.5)
        ends = await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.server.stop(None)
        await self.service.close()
        raised = [end for end in ends if isinstance(end, Exception)]
        assert not raised, f"loops raised: {raised}"


async def serve(
    build: Callable[[Settings], Awaitable[Service]], settings: Settings, *, address: str = "127.0.0.1:0"
) -> Served:
    """Builds and serves, on a schema that is there; a loop that raises fails the test when it stops."""
    name = build.__module__.partition(".")[0]
    laid(getattr(getattr(settings, name, None), "database_url", ""), name)
    service = await build(settings)
    server = grpc.aio.server(interceptors=[CallInterceptor(None)], options=[*OPTIONS, ("grpc.so_reuseport", 0)])
    service.register(server)
    port = server.add_insecure_port(address)
    await server.start()
    tasks: list[asyncio.Task[None]] = [asyncio.ensure_future(body()) for body in service.loops.values()]
    return Served(service, server, f"127.0.0.1:{port}", tasks)
