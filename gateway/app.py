"""The gateway's application: routes, errors, schema, guard."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from gateway import (
    api,
    batch,
    diagnosis,
    health,
    items,
    limits,
    pages,
    plans,
    problems,
    products,
    runs,
    sessions,
    sources,
    tokens,
    workers,
)
from gateway.auth.roles import Role
from gateway.auth.rules import RULES, Rules
from gateway.guard import PLANS, UPLOADS, Guard
from gateway.wiring import Parts, attach
from penstock import __version__
from penstock.client.asynchronous import AsyncClient
from penstock.runtime.settings import Settings

if TYPE_CHECKING:
    from gateway.auth.identities import Identities
    from penstock.runtime.sql import Database

__all__ = ["ROUTERS", "create_app"]

ROUTERS = (
    pages,
    batch,
    api,
    sources,
    plans,
    products,
    runs,
    items,
    limits,
    workers,
    diagnosis,
    sessions,
    tokens,
    health,
)
"""In the order in which they are asked. Which role each of their routes needs is in `gateway.auth.rules`."""

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


def create_app(
    settings: Settings,
    client: AsyncClient,
    stopping: asyncio.Event,
    identities: Identities | None = None,
    *,
    database: Database | None = None,
) -> ASGIApp:
    """`client` must be open before the first request; `stopping` ends the event streams. identities: who may ask;
    None: whoever reaches us by loopback. database: what identities rest on."""
    app = FastAPI(title="Penstock", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    attach(app, Parts(client, settings, stopping, identities, database))
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router.router)
    app.openapi = lambda: _schema(app)  # type: ignore[method-assign]
    if identities is None:
        return Guard(app, settings.gateway.cors_origins)
    from gateway.auth.door import Door

    rules = Rules(route for router in ROUTERS for route in router.router.routes)
    door = Door(identities, rules, settings.gateway.proxies())
    return Guard(app, settings.gateway.cors_origins, door)


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
            if RULES.get(f"{method.upper()} {path}") is not Role.ANYONE:
                answers["401"] = {"description": "Where tokens are asked for: there is none, or it is wrong.", **answer}
            answers["403"] = {"description": "Not from this machine, a foreign origin, or no such role.", **answer}
            names = "{" in path or (method, path) in _NAMES_OTHERS
            if names:
                answers["404"] = {"description": "There is no such thing.", **answer}
            if method in ("post", "put", "patch", "delete") and names:
                answers["409"] = {
                    "description": "Its state does not allow it, or request_id was used before.",
                    **answer,
                }
            if (method, path) == ("post", "/api/v1/tokens"):
                answers["409"] = {"description": "There is one of this name, or nobody is asked for a token.", **answer}
            if method == "post" and path in UPLOADS | PLANS:
                answers["413"] = {"description": "Too many bytes, documents or rows.", **answer}
    app.openapi_schema = schema
    return schema
