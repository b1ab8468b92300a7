"""Errors as people and programs meet them: problems (RFC 9457) with a stable `code`, or a page for a browser."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from http import HTTPStatus
from string import Template
from typing import NotRequired

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from typing_extensions import TypedDict

from gateway.pages import text
from penstock.runtime.errors import PenstockError

__all__ = ["MEDIA_TYPE", "Problem", "install", "problem", "told"]

MEDIA_TYPE = "application/problem+json"

_CODES = {
    401: "unauthenticated",
    404: "no_such_route",
    405: "method_not_allowed",
    400: "invalid_input",
    413: "too_large",
    403: "forbidden",
}
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_MOST_TOLD = 10
_ADVICE = {
    403: "Who may do what is in the documentation; an admin gives roles. With `penstock up`, open this page by the "
    "address that it printed.",
    429: "Wait a little, then try again with the right token.",
    404: "It may have been mistyped. All jobs are on the first page.",
    503: "A part of Penstock is starting again. Wait a few seconds and reload; /readyz says which part.",
}


class Problem(TypedDict):
    """An error: `code` is stable, `detail` is for people, `about` has what programs may want of it (a state, an id)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    about: NotRequired[Mapping[str, str]]


def _wants_page(headers: Mapping[str, str]) -> bool:
    accepted = headers.get("accept", "")
    return "text/html" in accepted and "json" not in accepted.split("text/html")[0]


def problem(
    headers: Mapping[str, str],
    status: int,
    detail: str,
    code: str,
    answer_headers: Mapping[str, str] | None = None,
    *,
    about: Mapping[str, str] | None = None,
) -> Response:
    """The answer for an error, in the form that the request's headers ask for."""
    phrase = HTTPStatus(status).phrase
    if _wants_page(headers):
        page = Template(text("login.html" if status == 401 else "error.html")).substitute(
            status=status, title=escape(phrase), detail=escape(detail), advice=escape(_ADVICE.get(status, ""))
        )
        return Response(page, status, dict(answer_headers or {}), "text/html; charset=utf-8")
    body: Problem = {"type": "about:blank", "title": phrase, "status": status, "detail": detail, "code": code}
    if about:
        body["about"] = about
    return Response(orjson.dumps(body), status, dict(answer_headers or {}), MEDIA_TYPE)


def told(error: PenstockError, headers: Mapping[str, str]) -> Response:
    """The answer for an error of ours, in the form that the request's headers ask for."""
    more = None
    if error.http_status in (429, 503):
        more = {"Retry-After": "2"}
    elif error.http_status == 401:
        why = "" if error.code == "token_missing" else ', error="invalid_token"'
        more = {"WWW-Authenticate": f'Bearer realm="penstock"{why}'}
    return problem(headers, error.http_status, error.message, error.code, more, about=error.metadata)


def _sentence(error: Mapping[str, object]) -> str:
    location = error["loc"]
    assert isinstance(location, tuple)
    where = ".".join(str(part)[:80] for part in location[1:]) or "the request"
    if error["type"] == "json_invalid":
        return "the body is no JSON"
    if location == ("body",):
        return "the body must be a JSON object, sent with Content-Type: application/json"
    return f"{where}: {error['msg']}"


def _invalid(error: RequestValidationError, request: Request) -> Response:
    problems = error.errors()
    for one in problems:
        if one["loc"] and one["loc"][0] == "path":  # an id that can't be one names nothing
            what, given = one["loc"][-1].removesuffix("_id"), one["input"][:80]
            why = "no id is so long" if one["type"] == "string_too_long" else "its id is a number"
            detail = f"there is no {what} {given!r}: {why}"
            return problem(request.headers, 404, detail, "not_found")
    told = "; ".join(_sentence(one) for one in problems[:_MOST_TOLD])
    more = f"; and {len(problems) - _MOST_TOLD:,} more" if len(problems) > _MOST_TOLD else ""
    return problem(request.headers, 400, told + more, "invalid_input")


def _taken(request: Request) -> str:
    """All methods that its path takes: several routes may have one path, and the framework names those of the first."""
    routes = request.app.routes
    asked = dict(request.scope)
    taken = [
        method
        for method in _METHODS
        if any(route.matches({**asked, "method": method})[0] is Match.FULL for route in routes)
    ]
    return ", ".join(taken)


def install(app: FastAPI) -> None:
    """Every error that a route raises leaves as a problem; FastAPI's own 422 as a 400."""

    async def penstock_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, PenstockError)
        return told(error, request.headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _invalid(error, request)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = error.headers
        match error.status_code:
            case 404:
                detail = f"there is nothing at {request.url.path}"
            case 405:
                taken = _taken(request)
                headers = {**(headers or {}), "Allow": taken}
                detail = f"{request.url.path} does not take {request.method}; it takes {taken}"
            case _:
                detail = str(error.detail)
        code = _CODES.get(error.status_code, "http_error")
        return problem(request.headers, error.status_code, detail, code, headers)

    async def defect(request: Request, error: Exception) -> Response:
        # The framework raises it again after the answer: the guard logs it.
        return problem(request.headers, 500, "an error of Penstock's own; the gateway's log has it", "internal")

    app.add_exception_handler(Exception, defect)
    app.add_exception_handler(PenstockError, penstock_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
