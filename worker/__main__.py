"""Settings -> wiring -> serve -> drain.

A worker owns nothing: what it holds is told by its leases. It ends when its session has, on SIGTERM after a drain, on
SIGUSR1 as soon as what it has begun is done, and within a second when the supervisor is gone; settings that are wrong
end it with one sentence.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

from penstock.declared.folder import Processors
from penstock.runtime import lifeline, logs, metrics, tracing
from penstock.runtime.blob_place import open_blobs
from penstock.runtime.channel import open_channel
from penstock.runtime.clock import random_id
from penstock.runtime.environment import Environment
from penstock.runtime.errors import InvalidInput, PenstockError
from penstock.runtime.logs import get_logger
from penstock.runtime.probes import Probes
from penstock.runtime.settings import Settings, load
from penstock.runtime.tls import Identity, proof_of
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import scheduler_pb2_grpc
from worker.agent import Agent
from worker.processors.extract_child import Extractor
from worker.runner import Runner
from worker.services import Services

log = get_logger("worker")


async def serve(settings: Settings) -> None:
    if not settings.scheduler_address:
        raise InvalidInput(
            "scheduler_address (PENSTOCK_SCHEDULER_ADDRESS) is not set: it says where work comes from",
            code="no_address",
        )
    proof = proof_of(settings)
    if isinstance(proof, Identity):
        proof.expect("worker")
        await proof.check()
    probes = Probes()
    await probes.start(settings)
    addresses = {
        "planner": settings.planner_address,
        "scheduler": settings.scheduler_address,
        "analyzer": settings.analyzer_address,
    }
    channels = {name: open_channel(address, proof, service=name) for name, address in addresses.items() if address}
    extractor = Extractor(
        settings.worker.extract_seconds,
        settings.worker.extract_memory_bytes,
        asyncio.Semaphore(max(1, os.cpu_count() or 1)),
    )
    runner = Runner(
        open_blobs(settings),
        Services({**channels, "extractor": extractor}),
        Processors(settings.processor_folder()),
        Environment(settings.worker.secrets_folder),
    )
    session = pb.WorkerSession(
        session=os.environ.get("PENSTOCK_WORKER_SESSION") or random_id("session"),
        worker=f"{socket.gethostname()}/{os.getpid()}",
        worker_class=settings.worker.worker_class,
        processors=runner.versions(),
    )
    agent = Agent(session, scheduler_pb2_grpc.LeaseServiceStub(channels["scheduler"]), runner, settings.worker)
    metrics.expose(settings.worker.metrics_port, settings.metrics_host)
    probes.ready = agent.ready
    drains: set[asyncio.Task[None]] = set()
    retires: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if not drains:
            drains.add(asyncio.create_task(agent.drain()))

    def retire() -> None:
        if not retires:
            retires.add(asyncio.create_task(agent.retire()))

    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGUSR1, retire)
    if lifeline.inherited() is None:
        loop.add_signal_handler(signal.SIGINT, stop)
    # The tail of one that was killed is never empty: it was this far.
    log.info("takes work", session=session.session, worker_class=session.worker_class, slots=settings.worker.slots)
    try:
        await agent.serve()
    finally:
        for channel in channels.values():
            await channel.close()
        await probes.stop()


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
