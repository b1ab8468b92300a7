"""What a request names by another word than its id: a plan by its name, a run by its number.

Two requests that name the same thing otherwise ask for the same plan, so that both stand by their ids before anything
is made of them. A message that was handed in is never changed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

from penstock.runtime.errors import InvalidInput
from penstock.runtime.plain_text import plain_text
from penstock.v1 import sources_pb2
from planner.results.asked import Asked
from planner.store import Store

__all__ = ["plan_id_of", "selection_by_ids"]

_PLAN_ID = re.compile(r"plan-[0-9a-f]{32}")


async def plan_id_of(store: Store, named: str, field: str = "plan_id") -> str:
    """The id of the plan that a request names by its id, or by the name of a kept one. Raises NotFound, and
    InvalidInput for a name that several plans have, or for none at all."""
    text = plain_text(named, field)
    if not text:  # an unnamed plan is not "the one without a name"
        raise InvalidInput(f"{field} is missing: give a plan's id, or the name of a kept one", code="plan_id_missing")
    if _PLAN_ID.fullmatch(text):
        return text
    return await asyncio.to_thread(store.plan_named, text)


async def selection_by_ids(
    asked: sources_pb2.Selection, store: Store, results: Callable[[], Awaitable[Asked]]
) -> sources_pb2.Selection:
    """Another selection, with the ids of the plan and of the run that it names, and with all rows where it names no way
    of choosing. results: asked for where a run is named. A run that nobody knows stays as it is. Raises what
    `plan_id_of` does, and what results does."""
    found = sources_pb2.Selection()
    found.CopyFrom(asked)
    match asked.WhichOneof("include"):
        case None:
            found.all = True
        case "changed_since_plan":
            found.changed_since_plan = await plan_id_of(store, asked.changed_since_plan, "selection.changed_since_plan")
        case "failed_of_run":
            known = await results()
            found.failed_of_run = await asyncio.to_thread(known.run_named, asked.failed_of_run)
    return found
