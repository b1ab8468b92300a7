"""settings → wiring → serve → drain, for HTTP: what `penstock.runtime.program` is for gRPC.

Exits 2 for settings that are wrong, 1 when the port is taken, 0 after SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn

from gateway.app import create_app
from penstock.client.asynchronous import AsyncClient
from penstock.client.discovery import Endpoints
from penstock.runtime import lifeline, logs, metrics, tracing
from penstock.runtime.errors import InvalidInput
from penstock.runtime.settings import Settings, load

GRACE_SECONDS = 3
RETRY_SECONDS = 6.0  # a killed service is back within 5 s: better a slow answer than a 503
BACKLOG = 512

log = logs.get_logger("gateway")


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: ours know the supervisor, and end the event streams first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def endpoints(settings: Settings, token: str | None) -> Endpoints:
    """Where the services are. Raises InvalidInput that names every address that is missing."""
    missing = [
        f"PENSTOCK_{name.upper()}_ADDRESS"
        for name in ("planner", "scheduler", "analyzer")
        if not getattr(settings, f"{name}_address")
    ]
    if missing:
        raise InvalidInput(f"the gateway needs {', '.join(missing)} (host:port)", code="settings")
    return Endpoints(
        planner=settings.planner_address,
        scheduler=settings.scheduler_address,
        analyzer=settings.analyzer_address,
        http=f"http://{settings.gateway.host}:{settings.gateway.port}",
        data=settings.data,
        token=token,
        blobs=settings.blob_folder(),
        blobs_url=settings.blobs_url,
        s3_endpoint=settings.s3_endpoint,
        s3_region=settings.s3_region,
    )


def listening(host: str, port: int) -> socket.socket:
    """A listening socket on loopback. Raises InvalidInput for any other address: HTTP asks for no token."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise InvalidInput(
            f"gateway.host is {host!r}; HTTP asks for no token, so it must be a loopback address like 127.0.0.1",
            code="settings",
        )
    sock = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((str(address), port))
    sock.listen(BACKLOG)
    return sock


async def serve(settings: Settings, where: Endpoints, sock: socket.socket) -> None:
    stopping = asyncio.Event()
    client = AsyncClient(endpoints=where, actor="http", retry_seconds=RETRY_SECONDS)
    async with client:
        server = Server(
            uvicorn.Config(
                create_app(settings, client, stopping),
                log_config=None,
                access_log=False,
                lifespan="off",
                loop="asyncio",
                http="h11",
                ws="none",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )

        def stop() -> None:
            log.info("draining")
            stopping.set()
            server.should_exit = True

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop)
        if lifeline.inherited() is None:
            loop.add_signal_handler(signal.SIGINT, stop)
        log.info("serving", port=sock.getsockname()[1], pid=os.getpid())
        await server.serve(sockets=[sock])
    log.info("stopped")


def main() -> None:
    try:
        settings = load()
        logs.configure("gateway", level=settings.log_level)
        tracing.configure("gateway", settings.trace_exporter)
        where = endpoints(settings, settings.token())
        sock = listening(settings.gateway.host, settings.gateway.port)
    except InvalidInput as error:
        print(f"penstock gateway: {error.message}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        what = "is taken" if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror}"
        print(f"penstock gateway: port {settings.gateway.port} {what}", file=sys.stderr)
        raise SystemExit(1) from None
    metrics.leave_out_schedulers()
    lifeline.watch()
    asyncio.run(serve(settings, where, sock))


if __name__ == "__main__":
    main()
