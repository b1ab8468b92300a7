"""Settings -> wiring -> serve -> drain."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

from penstock.runtime import lifeline, logs, metrics, tracing
from penstock.runtime.blobs import BlobStore
from penstock.runtime.channel import open_channel
from penstock.runtime.clock import random_id
from penstock.runtime.errors import PenstockError
from penstock.runtime.settings import Settings, load
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import scheduler_pb2_grpc
from worker.agent import Agent
from worker.processors.extract_child import Extractor
from worker.runner import Runner


async def serve(settings: Settings) -> None:
    token = settings.token()
    channels = {
        "planner": open_channel(settings.planner_address, token),
        "scheduler": open_channel(settings.scheduler_address, token),
        "analyzer": open_channel(settings.analyzer_address, token),
    }
    extractor = Extractor(
        settings.worker.extract_seconds,
        settings.worker.extract_memory_bytes,
        asyncio.Semaphore(max(1, os.cpu_count() or 1)),
    )
    runner = Runner(BlobStore(settings.blob_folder()), {**channels, "extractor": extractor})
    session = pb.WorkerSession(
        session=os.environ.get("PENSTOCK_WORKER_SESSION") or random_id("session"),
        worker=f"{socket.gethostname()}/{os.getpid()}",
        worker_class=settings.worker.worker_class,
        processors=runner.versions(),
    )
    agent = Agent(session, scheduler_pb2_grpc.LeaseServiceStub(channels["scheduler"]), runner, settings.worker)
    metrics.expose(settings.worker.metrics_port)
    drains: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if not drains:
            drains.add(asyncio.create_task(agent.drain()))

    loop.add_signal_handler(signal.SIGTERM, stop)
    if lifeline.inherited() is None:
        loop.add_signal_handler(signal.SIGINT, stop)
    try:
        await agent.serve()
    finally:
        for channel in channels.values():
            await channel.close()


def main() -> None:
    """Works until SIGTERM. Exits 0, or 2 for settings that are wrong."""
    try:
        settings = load()
        logs.configure("worker", level=settings.log_level)
        tracing.configure("worker", settings.trace_exporter)
        metrics.leave_out_schedulers()
        lifeline.watch()
        with asyncio.Runner() as runner:
            runner.run(serve(settings))
            tracing.flush()
            sys.stderr.flush()
            # A processor's thread that hangs would hold up the end of the loop and of the interpreter.
            os._exit(0)
    except PenstockError as error:
        print(f"penstock worker: {error.message}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
