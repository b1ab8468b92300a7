"""Which rows a plan takes, and in what order, as JSON: the messages of `penstock/v1/sources.proto`, field by field, but
for `keys`, which is a list.

Shapes alone are checked here: one way of choosing, fields that exist, within the bounds of `penstock.selection_form`.
What a selection means, the planner says.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from gateway.bodies import Always, Body, Truth
from penstock.client.filling import filled
from penstock.runtime.errors import InvalidInput
from penstock.selection_form import FILTER, FORM, KEYS, NAME, WAYS, Amount, Part, Text, Texts
from penstock.v1 import sources_pb2

__all__ = ["MAX_FILTER", "Cells", "OrderingBody", "SelectionBody"]

MAX_FILTER = FILTER.most


def _bounds(part: Part) -> dict[str, Any]:
    """Of a part of the form, as this model states them."""
    match part:
        case Text():
            return {"min_length": part.least or None, "max_length": part.most}
        case Texts():
            return {"max_length": part.most}
        case Amount():
            return {"ge": 0, "le": part.most}
    return {}


def _text(name: str, description: str | None = None) -> Any:
    """A field of texts that may be left out."""
    return Field(None if name in WAYS else "", description=description, **_bounds(FORM[name]))


Cell = Annotated[str, Field(**_bounds(KEYS.each))]
# A million wrong ids would be a million sentences: the first one is told.
Cells = Annotated[list[Cell], Field(fail_fast=True, **_bounds(KEYS))]


class ReprocessBody(Body):
    processor: str = Field(**_bounds(NAME))
    threshold: float = Field(
        strict=True,
        allow_inf_nan=False,
        description="Rows whose latest result of the processor has a lower `confidence`.",
    )


class SelectionBody(Body):
    """One of all, keys, missing, reprocess, failed_of_run, changed_since_plan, sql and filter; none of them: all."""

    all: Always | None = None
    keys: Cells | None = None
    missing: str | None = _text("missing", "Rows without a completed result of this processor.")
    reprocess: ReprocessBody | None = None
    failed_of_run: str | None = _text("failed_of_run")
    changed_since_plan: str | None = _text("changed_since_plan")
    sql: str | None = _text("sql", "One SELECT that returns the key column, over `items` and `results`.")
    filter: str | None = _text("filter", 'As brand = "Razer" AND price < 50.')
    exclude_keys: Cells = Field(default_factory=list)
    exclude_filter: str = _text("exclude_filter")
    org: str = _text("org")
    repo: str = _text("repo")
    state: str = _text("state")
    limit: int = Field(0, strict=True, description="The first so many, in order; 0: all.", **_bounds(FORM["limit"]))
    again: Truth = Field(False, description="What the processor has done already is not left out.")

    @field_validator(*WAYS, mode="before")
    @classmethod
    def _there(cls, given: object) -> object:
        if given is None:
            raise PydanticCustomError("null", "null selects nothing: leave it out, or say what is selected")
        return given

    def message(self) -> sources_pb2.Selection:
        """Raises InvalidInput for two ways of choosing at once."""
        given = [name for name in WAYS if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidInput(
                f"selection: {' and '.join(given)} are given; it has one of {', '.join(WAYS)}",
                code="bad_selection",
            )
        fields: dict[str, Any] = self.model_dump(exclude=set(WAYS))
        if given:
            chosen = getattr(self, given[0])
            fields[given[0]] = chosen
            if given[0] == "keys":
                fields["keys"] = sources_pb2.Selection.Keys(keys=chosen)
            elif given[0] == "reprocess":
                fields["reprocess"] = sources_pb2.Selection.Reprocess(
                    processor=chosen.processor, threshold=chosen.threshold
                )
        return filled(sources_pb2.Selection, **fields)


class OrderingBody(Body):
    """Pinned groups, then groups by priority, then all others by name; within a group the sort columns."""

    pinned: Cells = Field(default_factory=list)
    groups: Cells = Field(default_factory=list)
    sort: Cells = Field(default_factory=list, description="Columns, with ` desc` where wanted.")
    as_selected: Truth = Field(False, description="The order of keys, or of the SELECT.")

    def message(self) -> sources_pb2.Ordering:
        return filled(sources_pb2.Ordering, **self.model_dump())
