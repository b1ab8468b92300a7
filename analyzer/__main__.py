"""Starts the analyzer: settings, wiring, serving, draining."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import grpc

from analyzer.collecting import Collecting
from analyzer.domain.detector import Detector
from analyzer.domain.model import default_path, load
from analyzer.embeddings import embedder_of
from analyzer.service import AnalyzerService
from analyzer.store import Store
from penstock.runtime import metrics
from penstock.runtime.blob_place import open_blobs
from penstock.runtime.clock import Clock, SystemClock
from penstock.runtime.diagnosing import NAME, Diagnosing, blobs_probe
from penstock.runtime.program import Service
from penstock.runtime.program import main as run_program
from penstock.runtime.schema import prepare
from penstock.runtime.settings import Settings
from penstock.runtime.sql import Database
from penstock.runtime.tls import proof_of
from penstock.v1 import analyzer_pb2_grpc, diagnosis_pb2_grpc

__all__ = ["build", "main"]


async def build(settings: Settings, clock: Clock | None = None) -> Service:
    """All parts of the analyzer. Raises InvalidInput for settings that can't work, Unavailable while SQL or the blob
    folder can't be used."""
    clock = clock or SystemClock.start()
    section = settings.analyzer
    embedder = embedder_of(section)
    blobs = open_blobs(settings)
    database = Database.of(settings, "analyzer")
    await asyncio.to_thread(prepare, database, settings.database)
    metrics.expose(section.metrics_port, settings.metrics_host)
    store = Store(database)
    # Scoring is bound by the interpreter: one thread each for documents and collections leaves health its turn.
    documents = ThreadPoolExecutor(1, "documents")
    collections = ThreadPoolExecutor(1, "collections")
    collecting = Collecting(store=store, blobs=blobs, embedder=embedder, clock=clock, executor=collections)
    detector = Detector(load(default_path()))
    service = AnalyzerService(detector=detector, collecting=collecting, store=store, executor=documents)

    async def warm() -> None:
        """Imports what the first collection needs while nobody waits for it."""
        await asyncio.to_thread(_import_parts)

    async def close() -> None:
        documents.shutdown(wait=False, cancel_futures=True)
        collections.shutdown(wait=False, cancel_futures=True)
        if embedder is not None:
            await embedder.close()
        await asyncio.to_thread(database.close)

    def register(server: grpc.aio.Server) -> None:
        analyzer_pb2_grpc.add_AnalyzerServiceServicer_to_server(service, server)
        probes = {"blobs": blobs_probe(lambda: blobs)}
        diagnosis = Diagnosing("analyzer", database=database, proof=proof_of(settings), probes=probes)
        diagnosis_pb2_grpc.add_DiagnosisServiceServicer_to_server(diagnosis, server)

    return Service(
        register=register,
        names=["penstock.v1.AnalyzerService", NAME],
        checks={"sql": lambda: asyncio.to_thread(database.ping)},
        loops={"warm": warm},
        close=close,
    )


def _import_parts() -> None:
    import igraph  # noqa: F401
    import scipy.sparse  # noqa: F401


def main() -> None:
    """The analyzer until SIGTERM, as `python -P -m analyzer` and `penstock-analyzer` start it."""
    metrics.leave_out_schedulers()
    run_program("analyzer", build, listen=lambda settings: settings.analyzer.listen)


if __name__ == "__main__":
    main()
