"""Is it alive, can it work, how is it doing: for supervisors, load balancers and Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import orjson
from fastapi import APIRouter
from grpc_health.v1 import health_pb2
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from gateway.problems import MEDIA_TYPE
from gateway.wiring import Wired
from penstock.client.asynchronous import AsyncClient
from penstock.runtime.channel import calling
from penstock.runtime.errors import PenstockError, Unavailable
from penstock.runtime.program import CAUSE_KEY, Check, watch_checks

if TYPE_CHECKING:
    from gateway.auth.identities import Identities

__all__ = ["answers", "probed", "router"]

_DEPENDENCIES = {"sql": "its SQL database", "redis": "Redis", "blobs": "the blob store"}
"""The checks by which services answer for what they need."""

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """200 while the process is alive."""
    return {"status": "alive"}


def _check(client: AsyncClient, name: str) -> Check:
    ask = client.connection.channels[name].unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )

    async def status(of: str) -> tuple[int, str]:
        """And the cause, where the service knows it."""
        with calling():
            call = ask(health_pb2.HealthCheckRequest(service=of))
            answer = await call
            told = await call.trailing_metadata()
        return int(answer.status), str(dict(told or ()).get(CAUSE_KEY, ""))

    async def lack(of: str, text: str) -> str:
        """What the service can't use, and why; "" where it can, or does not say."""
        with contextlib.suppress(PenstockError):
            found, cause = await status(of)
            if found == health_pb2.HealthCheckResponse.UNKNOWN:
                return f"{text}: {cause or 'its log says why'}"
        return ""

    async def check() -> None:
        found, _ = await status("")
        if found == health_pb2.HealthCheckResponse.SERVING:
            return
        lacks = await asyncio.gather(*(lack(of, text) for of, text in _DEPENDENCIES.items()))
        away = "; nor ".join(each for each in lacks if each)
        if away:
            raise Unavailable(f"the {name} can't use {away}")
        raise Unavailable(f"the {name} answers that it can't serve yet: its log says what it waits for")

    return check


async def answers(client: AsyncClient, identities: Identities | None = None) -> dict[str, str]:
    """What is needed -> "" when it can work, else why not: the services, our own certificate where we have one, and
    our own database where we ask who calls."""
    checks = {name: _check(client, name) for name in client.connection.channels}
    if client.endpoints.identity is not None:
        checks["certificate"] = client.endpoints.identity.check
    if identities is not None:
        checks["gateway"] = _own_check(identities)
    return await watch_checks(checks)


def _own_check(identities: Identities) -> Check:
    async def check() -> None:
        try:
            await identities.check()
        except PenstockError as error:
            # Anybody may ask for readiness: no more than a cause that names nobody.
            raise Unavailable(f"the gateway can't use its SQL database: {error.cause or 'its log says why'}") from error

    return check


def probed(client: AsyncClient, identities: Identities | None = None) -> Check:
    """The same as one check, for a kubelet."""

    async def ready() -> None:
        away = [name for name, why in (await answers(client, identities)).items() if why]
        if away:
            raise Unavailable(f"away: {', '.join(away)}", cause=f"away: {', '.join(away)}")

    return ready


@router.get("/readyz", responses={503: {"description": "Which part is away, and why."}})
async def readyz(parts: Wired) -> Response:
    """200 when planner, scheduler and analyzer serve, and the gateway can tell who asks; else 503 that says which one
    does not, and why."""
    found = await answers(parts.client, parts.identities)
    away = [f"{name}: {why}" for name, why in found.items() if why]
    checks = {name: why or "ok" for name, why in found.items()}
    if not away:
        return Response(orjson.dumps({"status": "ready", "checks": checks}), media_type="application/json")
    body = {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "; ".join(away),
        "code": "not_ready",
        "checks": checks,
    }
    return Response(orjson.dumps(body), 503, media_type=MEDIA_TYPE)


@router.get("/metrics", response_class=Response)
async def metrics() -> Response:
    """Prometheus metrics of the gateway."""
    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
