"""The gateway's application: routes, errors, schema, guard."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from gateway import api, batch, health, items, limits, pages, plans, problems, products, runs, sources, workers
from gateway.guard import PLANS, UPLOADS, Guard
from gateway.wiring import Parts, attach
from penstock import __version__
from penstock.client.asynchronous import AsyncClient
from penstock.runtime.settings import Settings

__all__ = ["create_app"]

_NAMES_OTHERS = {
    ("post", "/api/v1/runs"),
    ("post", "/api/v1/plans"),
    ("get", "/api/v1/items"),
    ("get", "/api/v1/events"),
    ("post", "/api/v1/sources/add"),
    *(("post", f"/api/v1/indexlab/batch/{verb}") for verb in ("plan", "start", "pause", "resume", "stop")),
    ("get", "/api/v1/indexlab/batch/latest"),
}
"""Routes that name a thing by id elsewhere than in their path."""


def create_app(settings: Settings, client: AsyncClient, stopping: asyncio.Event) -> ASGIApp:
    """`client` must be open before the first request; `stopping` ends the event streams."""
    app = FastAPI(title="Penstock", version=__version__, docs_url=None, redoc_url=None)
    attach(app, Parts(client, settings, stopping))
    problems.install(app)
    for router in (pages, batch, api, sources, plans, products, runs, items, limits, workers, health):
        app.include_router(router.router)
    app.openapi = lambda: _schema(app)  # type: ignore[method-assign]
    return Guard(app, settings.gateway.cors_origins)


def _schema(app: FastAPI) -> dict[str, Any]:
    """The schema as it is true here: errors are problems, and what FastAPI calls 422 is 400."""
    if app.openapi_schema:
        return app.openapi_schema
    schema = get_openapi(title=app.title, version=app.version, routes=app.routes, description=api.__doc__ or "")
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = {
        "type": "object",
        "description": problems.Problem.__doc__,
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string"},
            "about": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    }
    answer = {"content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            answers = route["responses"]
            answers.pop("422", None)
            if path in ("/healthz", "/metrics"):
                continue
            answers["503"] = {"description": "A service is away.", **answer}
            if path == "/readyz":
                continue
            answers["400"] = {"description": "Bad input; nothing was kept.", **answer}
            answers["403"] = {"description": "Not from this machine, or a foreign origin.", **answer}
            names = "{" in path or (method, path) in _NAMES_OTHERS
            if names:
                answers["404"] = {"description": "There is no such thing.", **answer}
            if method in ("post", "put", "patch", "delete") and names:
                answers["409"] = {
                    "description": "Its state does not allow it, or request_id was used before.",
                    **answer,
                }
            if method == "post" and path in UPLOADS | PLANS:
                answers["413"] = {"description": "Too many bytes, documents or rows.", **answer}
    app.openapi_schema = schema
    return schema
