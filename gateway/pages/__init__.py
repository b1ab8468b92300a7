"""The page at `/`, the one to sign in at, the error page: plain HTML, CSS and JavaScript files of ours, nothing from
elsewhere."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

__all__ = ["router", "text"]

router = APIRouter(include_in_schema=False)

_MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@cache
def text(name: str) -> str:
    """A file of this package."""
    return resources.files(__package__).joinpath(name).read_text("utf-8")


@cache
def _tag(name: str) -> str:
    return f'"{hashlib.sha256(text(name).encode()).hexdigest()[:16]}"'


def _file(request: Request, name: str) -> Response:
    headers = {"ETag": _tag(name), "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == _tag(name):
        return Response(status_code=304, headers=headers)
    return Response(text(name), headers=headers, media_type=_MEDIA_TYPES[name.rsplit(".", 1)[1]])


@router.get("/")
async def home(request: Request) -> Response:
    return _file(request, "index.html")


@router.get("/app.css")
async def style(request: Request) -> Response:
    return _file(request, "app.css")


@router.get("/app.js")
async def script(request: Request) -> Response:
    return _file(request, "app.js")


@router.get("/amounts.js")
async def amounts(request: Request) -> Response:
    return _file(request, "amounts.js")


@router.get("/operating.js")
async def operating(request: Request) -> Response:
    return _file(request, "operating.js")


@router.get("/login.js")
async def login(request: Request) -> Response:
    return _file(request, "login.js")


@router.get("/openapi.json")
async def schema(request: Request) -> Response:
    return JSONResponse(request.app.openapi())


@router.get("/icon.svg")
async def icon(request: Request) -> Response:
    return _file(request, "icon.svg")
