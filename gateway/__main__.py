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
from typing import TYPE_CHECKING

import uvicorn

from gateway.app import create_app
from gateway.health import probed
from gateway.tls import CERTIFICATE, KEY, check_folder, renew
from penstock.client.asynchronous import AsyncClient
from penstock.client.discovery import Endpoints
from penstock.runtime import lifeline, logs, metrics, tracing
from penstock.runtime.errors import InvalidInput
from penstock.runtime.probes import Probes
from penstock.runtime.settings import Settings, load
from penstock.runtime.tls import Identity, Proof, proof_of

if TYPE_CHECKING:
    from gateway.auth.identities import Identities
    from penstock.runtime.sql import Database

GRACE_SECONDS = 3
RETRY_SECONDS = 6.0  # a killed service is back within 5 s: better a slow answer than a 503
BACKLOG = 512

log = logs.get_logger("gateway")


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: ours know the supervisor, and end the event streams first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def endpoints(settings: Settings, proof: Proof) -> Endpoints:
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
        http=f"{'https' if settings.gateway.tls_folder else 'http'}://{settings.gateway.host}:{settings.gateway.port}",
        data=settings.data,
        token=proof if isinstance(proof, str) else None,
        blobs=settings.blob_folder(),
        identity=proof if isinstance(proof, Identity) else None,
        blobs_url=settings.blobs_url,
        s3_endpoint=settings.s3_endpoint,
        s3_region=settings.s3_region,
    )


def listening(host: str, port: int, *, loopback: bool = True) -> socket.socket:
    """A listening socket; `loopback`: on loopback alone, since HTTP asks for no token. Raises InvalidInput for an
    address that can't be."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if loopback and (address is None or not address.is_loopback):
        raise InvalidInput(
            f"gateway.host is {host!r}; HTTP asks for no token, so it must be a loopback address like 127.0.0.1, "
            "unless gateway.auth is tokens",
            code="settings",
        )
    if address is None:
        raise InvalidInput(f"gateway.host is {host!r}; an address like 0.0.0.0 or :: is needed", code="settings")
    sock = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((str(address), port))
    sock.listen(BACKLOG)
    return sock


def who_may_ask(settings: Settings) -> tuple[Identities, Database] | None:
    """None where nobody is asked who they are. Raises InvalidInput."""
    if settings.gateway.auth == "none":
        return None
    from gateway.auth.opening import make_identities

    return make_identities(settings)


def opened(settings: Settings) -> tuple[socket.socket, tuple[Identities, Database] | None]:
    """The socket, and who may ask there. Raises InvalidInput for settings that can't be, OSError for a port that is
    taken."""
    asked = who_may_ask(settings)
    if settings.gateway.tls_folder:
        check_folder(settings.gateway.tls_folder)
    return listening(settings.gateway.host, settings.gateway.port, loopback=asked is None), asked


async def serve(
    settings: Settings, where: Endpoints, sock: socket.socket, asked: tuple[Identities, Database] | None = None
) -> None:
    stopping = asyncio.Event()
    client = AsyncClient(endpoints=where, actor="http", retry_seconds=RETRY_SECONDS)
    who, store = asked or (None, None)
    folder = settings.gateway.tls_folder
    beside: list[asyncio.Task[None]] = []
    probes = Probes()
    await probes.start(settings)
    async with client:
        probes.ready = probed(client, who)
        config = uvicorn.Config(
            create_app(settings, client, stopping, who, database=store),
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="asyncio",
            http="h11",
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ssl_certfile=folder / CERTIFICATE if folder else None,
            ssl_keyfile=folder / KEY if folder else None,
        )
        server = Server(config)
        if folder:
            config.load()
            assert config.ssl is not None
            beside.append(asyncio.create_task(renew(config.ssl, folder)))
        if asked:
            from gateway.auth.opening import open_database

            beside.append(asyncio.create_task(open_database(*asked, stopping, settings.database)))

        def stop() -> None:
            log.info("draining")
            probes.not_ready("it stops")
            stopping.set()
            server.should_exit = True

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop)
        if lifeline.inherited() is None:
            loop.add_signal_handler(signal.SIGINT, stop)
        log.info("serving", port=sock.getsockname()[1], pid=os.getpid())
        await server.serve(sockets=[sock])
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
    await probes.stop()
    if asked:
        asked[1].close()
    log.info("stopped")


def main() -> None:
    try:
        settings = load()
        logs.configure("gateway", level=settings.log_level)
        tracing.configure("gateway", settings.trace_exporter)
        where = endpoints(settings, proof_of(settings))
        if where.identity is not None:
            where.identity.expect("gateway")
        sock, asked = opened(settings)
    except InvalidInput as error:
        print(f"penstock gateway: {error.message}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        what = "is taken" if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror}"
        print(f"penstock gateway: port {settings.gateway.port} {what}", file=sys.stderr)
        raise SystemExit(1) from None
    metrics.leave_out_schedulers()
    metrics.expose(settings.gateway.metrics_port, settings.metrics_host)
    lifeline.watch()
    try:
        asyncio.run(serve(settings, where, sock, asked))
    except InvalidInput as error:
        print(f"penstock gateway: {error.message}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
