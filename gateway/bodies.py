"""What routes of the resource API share: bodies and queries that refuse what they do not know, ids, page tokens,
commands.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from gateway.wiring import Parts
from penstock.client.views import RunView, run_view
from penstock.runtime.errors import InvalidInput
from penstock.runtime.paging import whole_number
from penstock.runtime.plain_text import MAX_CHARACTERS
from penstock.strict_json import NotStrict, read_json
from penstock.v1 import scheduler_pb2

__all__ = [
    "Always",
    "Body",
    "CommandAnswer",
    "CommandBody",
    "Flag",
    "RunId",
    "StageNumber",
    "Token",
    "Truth",
    "Whole",
    "commanded",
    "flag_of",
    "resource_router",
    "run_of",
]

RunId = Annotated[str, Path(max_length=MAX_CHARACTERS, description="The run's id, or its number.")]
Token = Annotated[str, Query(max_length=1000, description="next_page_token of the page before.")]
# Shapes alone are checked here; what is absurd the services tell, all of it at once.
Whole = Annotated[int, Field(ge=-(2**31 - 1), le=2**31 - 1, strict=True)]
Truth = Annotated[bool, Field(strict=True)]
"""true or false: what confirms a cost is no text that happens to read so."""


def _true(given: object) -> object:
    if given is not True:  # a literal of its own would take 1, too
        raise PydanticCustomError("literal_error", "Input should be true")
    return given


Always = Annotated[Literal[True], BeforeValidator(_true)]
"""true, where nothing else means anything."""

_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def flag_of(text: str) -> bool | None:
    """What a parameter or a field of a form says, which has text alone: true, 1, false or 0, in capitals or not; None
    for anything else."""
    return _FLAGS.get(text.lower())


def _flag(given: object) -> bool:
    said = given if isinstance(given, bool) else flag_of(str(given))
    if said is None:
        words = "{given} is neither true (or 1) nor false (or 0)"
        raise PydanticCustomError("flag", words, {"given": repr(given)[:80]})
    return said


Flag = Annotated[bool, BeforeValidator(_flag)]
"""A parameter that is true or false."""

StageNumber = Annotated[int, Query(ge=0, le=1_000, description="From 0.")]


def _known_parameters(request: Request) -> None:
    """Raises InvalidInput for parameters that the route does not know: a filter that is mistyped is not left out."""
    route: APIRoute = request.scope["route"]
    known = [parameter.alias for parameter in route.dependant.query_params]
    if unknown := sorted(set(request.query_params) - set(known)):
        there = f"it takes {', '.join(known)}" if known else "it takes none"
        raise InvalidInput(
            f"{request.method} {route.path} has no parameter {', '.join(name[:80] for name in unknown[:10])}; {there}",
            code="unknown_parameter",
        )


class _StrictRequest(Request):
    """Reads JSON as it is defined. Where it breaks the grammar, the framework tells."""

    async def json(self) -> object:
        try:
            return read_json(await self.body(), what="the body")
        except NotStrict as error:
            raise HTTPException(400, str(error)) from error


class _StrictRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[object, object, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


def resource_router() -> APIRouter:
    """Of a part of /api/v1."""
    return APIRouter(prefix="/api/v1", dependencies=[Depends(_known_parameters)], route_class=_StrictRoute)


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CommandBody(Body):
    reason: str = Field("", max_length=2_000, description="Kept with the event.")
    request_id: str = Field(
        "", max_length=MAX_CHARACTERS, description="The same one is carried out once, for 24 hours."
    )


class CommandAnswer(TypedDict):
    """changed: false where it was already so."""

    run: RunView
    changed: bool


def commanded(answer: scheduler_pb2.RunCommandResponse) -> CommandAnswer:
    return {"run": run_view(answer.run), "changed": answer.changed}


async def run_of(run_id: str, parts: Parts) -> scheduler_pb2.Run:
    """By id, or by number. Raises NotFound."""
    number = whole_number(run_id)
    return await parts.client.runs.get(run_id if number is None else number)
