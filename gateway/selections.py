"""Which rows a plan takes, and in what order, as JSON: the messages of `penstock/v1/sources.proto`, field by field, but
for `keys`, which is a list.

Shapes alone are checked here: one way of choosing, fields that exist. What a selection means, the planner says.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.bodies import Body, Truth
from penstock.client.filling import filled
from penstock.runtime.errors import InvalidInput
from penstock.v1 import sources_pb2

__all__ = ["MAX_FILTER", "Cells", "OrderingBody", "SelectionBody"]

MAX_FILTER = 10_000
MAX_SQL = 100_000
MAX_CELL = 10_000
Cell = Annotated[str, Field(max_length=MAX_CELL)]
# A million wrong ids would be a million sentences: the first one is told.
Cells = Annotated[list[Cell], Field(max_length=1_000_000, fail_fast=True)]
Processor = Annotated[str, Field(min_length=1, max_length=200)]
INCLUDES = ("all", "keys", "missing", "reprocess", "failed_of_run", "changed_since_plan", "sql", "filter")


class ReprocessBody(Body):
    processor: Processor
    threshold: float = Field(
        strict=True, description="Rows whose latest result of the processor has a lower `confidence`."
    )


class SelectionBody(Body):
    """One of all, keys, missing, reprocess, failed_of_run, changed_since_plan, sql and filter; none of them: all."""

    all: Literal[True] | None = None
    keys: Cells | None = None
    missing: Processor | None = Field(None, description="Rows without a completed result of this processor.")
    reprocess: ReprocessBody | None = None
    failed_of_run: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    changed_since_plan: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    sql: str | None = Field(
        None, max_length=MAX_SQL, description="One SELECT that returns the key column, over `items` and `results`."
    )
    filter: str | None = Field(None, max_length=MAX_FILTER, description='As brand = "Razer" AND price < 50.')
    exclude_keys: Cells = Field(default_factory=list)
    exclude_filter: str = Field("", max_length=MAX_FILTER)
    org: str = Field("", max_length=200)
    repo: str = Field("", max_length=200)
    state: str = Field("", max_length=200)
    limit: int = Field(0, ge=0, le=2**62, strict=True, description="The first so many, in order; 0: all.")
    again: Truth = Field(False, description="What the processor has done already is not left out.")

    def message(self) -> sources_pb2.Selection:
        """Raises InvalidInput for two ways of choosing at once."""
        given = [name for name in INCLUDES if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidInput(
                f"selection: {' and '.join(given)} are given; it has one of {', '.join(INCLUDES)}",
                code="bad_selection",
            )
        fields: dict[str, Any] = self.model_dump(exclude=set(INCLUDES))
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
