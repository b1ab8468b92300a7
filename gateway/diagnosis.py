"""`/api/v1/diagnosis`: what every program finds of all that it needs, gathered for `penstock cluster doctor`.

Each program is asked once, side by side, and the gateway asks itself; one that does not answer is told as such. Nothing
is judged here and nothing is tried again: a program that starts just now is away. Of several replicas one answers.
"""

from __future__ import annotations

import asyncio
import time

from gateway.bodies import resource_router
from gateway.wiring import Parts, Wired
from penstock import __version__
from penstock.client.asynchronous import AsyncClient
from penstock.client.diagnosis_views import DiagnosisView, ProgramView, program_away, program_view
from penstock.client.worker_views import WorkerClassView, worker_class_view
from penstock.runtime.channel import calling
from penstock.runtime.errors import PenstockError
from penstock.v1 import diagnosis_pb2, diagnosis_pb2_grpc, workers_pb2

__all__ = ["router"]

ANSWER_SECONDS = 10.0
"""A program asks what it needs for half of that."""

router = resource_router()


@router.get("/diagnosis", tags=["diagnosis"])
async def diagnosis(parts: Wired) -> DiagnosisView:
    """What each program is and finds: its dependencies, clocks, schema, certificate; of the scheduler its rights and
    worker classes. A program that is away is told with `problem`. It writes and removes a blob of a few bytes."""
    names = list(parts.client.connection.channels)
    *programs, classes = await asyncio.gather(
        _own(parts), *(_asked(parts.client, name) for name in names), _classes(parts.client)
    )
    return {
        "version": __version__,
        "now_ms": time.time_ns() // 1_000_000,
        "programs": [one for one in programs if isinstance(one, dict)],
        "classes": classes if isinstance(classes, list) else None,
    }


async def _own(parts: Parts) -> ProgramView:
    # SQLAlchemy comes with it, which a gateway that asks nobody who they are has no other use for.
    from penstock.runtime.diagnosing import Diagnosing, blobs_probe

    client, where = parts.client, parts.client.endpoints
    probes = {"blobs": blobs_probe(lambda: client.connection.blobs)} if where.blobs or where.blobs_url else {}
    began = time.monotonic()
    told = await Diagnosing("gateway", database=parts.database, proof=where.identity, probes=probes).diagnose()
    return program_view(told, answer_ms=_since(began), ahead_ms=0)


async def _asked(client: AsyncClient, name: str) -> ProgramView:
    stub: diagnosis_pb2_grpc.DiagnosisServiceAsyncStub = diagnosis_pb2_grpc.DiagnosisServiceStub(
        client.connection.channels[name]
    )
    began = time.monotonic()
    try:
        with calling():
            told = await stub.Diagnose(diagnosis_pb2.DiagnoseRequest(), timeout=ANSWER_SECONDS)
    except PenstockError as error:
        return program_away(name, error.message, answer_ms=_since(began))
    # Its clock was read when it had asked everything: right before the answer came.
    ahead_ms = round(told.now.ToNanoseconds() / 1e6 - time.time() * 1000)
    return program_view(told, answer_ms=_since(began), ahead_ms=ahead_ms)


async def _classes(client: AsyncClient) -> list[WorkerClassView] | None:
    try:
        with calling():
            answer = await client.connection.workers.ListClasses(
                workers_pb2.ListClassesRequest(), timeout=ANSWER_SECONDS
            )
    except PenstockError:  # the scheduler's own part says why
        return None
    return [worker_class_view(one) for one in answer.classes]


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
