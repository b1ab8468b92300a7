"""What a file of a plan says of itself, before its items: settings, selection, order, and the source that it needs.

A file is gzip of lines of JSON. The first line is the manifest. Then come the items, as places of their rows in the
source, in order, some thousands a line; then the source's rows, an object a line, unless the file is without them; then
a line with the SHA-256 of all lines before it. Nothing of a stranger's file is trusted but its order: the source's id
is a hash of its rows and the plan's id one of the rest, and both are made again from what came.
Raises InvalidInput (`bad_plan_file`, `plan_file_version`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock.runtime.errors import InvalidInput
from planner.domain.rows import TOO_DEEP, too_deep

__all__ = ["ROWS_A_LINE", "VERSION", "Manifest", "SourceManifest", "StageManifest", "bad_file", "manifest_of"]

VERSION = 1
ROWS_A_LINE = 5_000
_MOST = 2**31 - 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SourceManifest(_Part):
    """table_schema: as `Schema.values` tells it. carried: its rows are in the file."""

    source_id: str = Field(max_length=60)
    kind: Literal["catalog", "table"]
    name: str = Field(max_length=200)
    version: int = Field(ge=0, le=_MOST)
    item_count: int = Field(ge=1, le=_MOST)
    table_schema: dict[str, Any]
    carried: bool


class StageManifest(_Part):
    """As `planner.domain.stages.StageSettings`."""

    processor: str = Field(min_length=1, max_length=200)
    processor_version: str = Field(max_length=200)
    parameters: dict[str, Any]
    concurrency: int
    max_tries: int
    max_run_seconds: int
    worker_class: str = Field(max_length=63)
    rules: dict[str, Any]
    paid: bool
    repeatable: bool


class Manifest(_Part):
    """identity: what the plan's id hashes of its selection; selection, ordering: fields of their messages."""

    penstock_plan: int
    plan_id: str = Field(max_length=60)
    name: str = Field(max_length=1_000)
    actor: str = Field(max_length=1_000)
    item_count: int = Field(ge=1, le=_MOST)
    source: SourceManifest
    stage: StageManifest
    identity: dict[str, Any]
    selection: dict[str, Any]
    ordering: dict[str, Any]
    rule: str = Field(max_length=20_000)

    def line(self) -> bytes:
        return orjson.dumps(self.model_dump(), option=orjson.OPT_APPEND_NEWLINE)


def manifest_of(line: bytes) -> Manifest:
    """Raises InvalidInput."""
    try:
        values = orjson.loads(line)
    except ValueError:
        raise bad_file("its first line is no JSON") from None
    if not isinstance(values, Mapping) or "penstock_plan" not in values:
        raise bad_file("its first line does not say that it is one")
    if too_deep(values):
        raise bad_file(f"its first line is {TOO_DEEP}")
    if values["penstock_plan"] != VERSION:
        raise InvalidInput(
            f"the plan file is of version {str(values['penstock_plan'])[:20]}, and this Penstock reads version "
            f"{VERSION}: export it again with a Penstock like this one",
            code="plan_file_version",
        )
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, one['loc']))[:80]}: {one['msg']}" for one in error.errors(include_input=False)[:5]
        )
        raise bad_file(told) from None


def bad_file(why: str) -> InvalidInput:
    return InvalidInput(f"this is no plan file that can be read: {why}", code="bad_plan_file")
