"""What routes of the resource API share: bodies that refuse what they do not know, ids, page tokens, commands."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from gateway.wiring import Parts
from penstock.client.views import RunView, run_view
from penstock.runtime.paging import whole_number
from penstock.runtime.plain_text import MAX_CHARACTERS
from penstock.v1 import scheduler_pb2

__all__ = ["Body", "CommandAnswer", "CommandBody", "RunId", "StageNumber", "Token", "commanded", "run_of"]

RunId = Annotated[str, Path(max_length=MAX_CHARACTERS, description="The run's id, or its number.")]
Token = Annotated[str, Query(max_length=1000, description="next_page_token of the page before.")]
StageNumber = Annotated[int, Query(ge=0, le=1_000, description="From 0.")]


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
