"""What the gateway says while a service is away. Over services of the test's own, which can be away on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
from grpc_health.v1 import health_pb2

from gateway.app import create_app
from penstock.client import AsyncClient, Endpoints
from penstock.runtime.errors import Unavailable
from penstock.runtime.settings import Settings
from tests.integration.client.services import away, documents_run, serving

NOWHERE = "127.0.0.1:9"


@asynccontextmanager
async def asking(endpoints: Endpoints, *, retry_seconds: float = 0.2) -> AsyncIterator[httpx.AsyncClient]:
    async with AsyncClient(endpoints=endpoints, retry_seconds=retry_seconds) as client:
        transport = httpx.ASGITransport(create_app(Settings(), client, asyncio.Event()))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8420") as http:
            yield http


async def test_readiness_names_the_part_that_is_away(tmp_path: Path) -> None:
    async with serving(tmp_path) as services:
        async with asking(services.endpoints) as http:
            assert (await http.get("/readyz")).status_code == 200
            await services.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
            answer = await http.get("/readyz")
            assert answer.status_code == 503
            assert "can't serve yet" in answer.json()["detail"]
            await services.health.set("sql", health_pb2.HealthCheckResponse.SERVING)
            await services.health.set("redis", health_pb2.HealthCheckResponse.UNKNOWN)
            told = (await http.get("/readyz")).json()["checks"]
            assert told["scheduler"] == "the scheduler can't use Redis: its log says why"
            services.health.causes["redis"] = "Redis is out of memory"
            told = (await http.get("/readyz")).json()["checks"]
            assert told["scheduler"] == "the scheduler can't use Redis: Redis is out of memory"
            await services.health.set("sql", health_pb2.HealthCheckResponse.UNKNOWN)
            services.health.causes["sql"] = "its disk is full"
            assert "can't use its SQL database: its disk is full; nor Redis: " in (await http.get("/readyz")).text
            await services.health.set("", health_pb2.HealthCheckResponse.SERVING)
        async with asking(replace(services.endpoints, analyzer=NOWHERE)) as http:
            answer = await http.get("/readyz")
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            told = answer.json()
            assert told["code"] == "not_ready"
            assert told["detail"].startswith("analyzer: ")
            assert told["checks"]["planner"] == "ok"
            assert (await http.get("/healthz")).status_code == 200


async def test_a_service_that_stays_away_is_a_503_that_says_when_to_come_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as services, asking(replace(services.endpoints, scheduler=NOWHERE)) as http:
        answer = await http.get("/api/batch/1/status")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        page = await http.get("/api/batch/1/report", headers={"accept": "text/html"})
        assert page.status_code == 503
        assert "/readyz" in page.text


async def test_what_fails_half_way_is_an_error_before_the_first_byte(tmp_path: Path) -> None:
    async with serving(tmp_path) as services, asking(services.endpoints) as http:
        services.state.runs.append(documents_run(1, total=1, completed=1))
        for route in ("results", "export?format=csv", "export?format=json"):
            answer = await http.get(f"/api/batch/1/{route}")
            assert answer.status_code == 404, route
            assert answer.json()["code"] == "collection_not_found"


async def test_a_full_disk_is_told_plainly(tmp_path: Path) -> None:
    async with serving(tmp_path) as services, asking(services.endpoints) as http:
        full = Unavailable("the disk of the blob store is full: free some space", code="disk_full")
        services.state.fail["CreateSource"] = [full]
        answer = await http.post("/api/batch/upload", files={"files": ("a.txt", b"x" * 3_000_000)})
        assert answer.status_code == 503
        assert answer.json()["code"] == "disk_full"


async def test_a_short_absence_is_waited_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as services, asking(services.endpoints, retry_seconds=20.0) as http:
        services.state.runs.append(documents_run(1, total=1, completed=1))
        services.state.fail["GetRun"] = [away()]
        assert (await http.get("/api/batch/1/status")).status_code == 200
