"""What is typed to `penstock plans create`, as one value: which rows, in what order, by whom.

Nothing is sent while it is read, so that what does not fit together is told before anything is made: by InvalidInput,
or by the OSError of a file that can't be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.cli.selecting import columns_of, keys_of, selection_of, sql_of

if TYPE_CHECKING:
    from penstock.client import AsyncClient, Ordering, Selection, StageOptions
    from penstock.v1 import planner_pb2

__all__ = ["PlanAsked", "ordering_asked", "selection_asked"]


@dataclass(frozen=True, kw_only=True)
class PlanAsked:
    """stage: None where the source's kind says who does the work; selection, ordering: None where none was typed."""

    source: str
    stage: StageOptions | None
    selection: Selection | None
    ordering: Ordering | None
    profile: str
    granularity: str
    name: str

    async def made(self, client: AsyncClient, *, only_look: bool) -> planner_pb2.Plan:
        """The plan; asked for again, it rests on what is known by then. only_look: as a draft."""
        return await client.plans.create(
            self.source,
            stages=[] if self.stage is None else [self.stage],
            selection=self.selection,
            ordering=self.ordering,
            profile=self.profile,
            granularity=self.granularity,
            name=self.name,
            validate_only=only_look,
        )


def selection_asked(
    *,
    filter: str,  # noqa: A002
    ids: str,
    everything: bool,
    missing: str,
    reprocess: str,
    threshold: float | None,
    failed_of: str,
    changed_since: str,
    sql: str,
    whole: str,
    exclude_filter: str,
    exclude_ids: str,
    org: str,
    repo: str,
    state: str,
    limit: int,
    again: bool,
) -> Selection | None:
    """whole: what --selection says, beside which nothing else may."""
    from penstock.client import Selection
    from penstock.runtime.errors import InvalidInput

    _check_ways(
        {
            "--filter": filter,
            "--ids": ids,
            "--all": everything,
            "--missing": missing,
            "--reprocess": reprocess,
            "--failed-of": failed_of,
            "--changed-since": changed_since,
            "--sql": sql,
            "--selection": whole,
        },
        exclude_ids=exclude_ids,
    )
    typed = Selection(
        filter=filter or None,
        keys=keys_of(ids) if ids else None,
        missing=missing or None,
        reprocess=reprocess or None,
        threshold=threshold,
        failed_of_run=failed_of or None,
        changed_since_plan=changed_since or None,
        sql=sql_of(sql) if sql else None,
        exclude_filter=exclude_filter,
        exclude_keys=keys_of(exclude_ids) if exclude_ids else (),
        org=org,
        repo=repo,
        state=state,
        limit=limit,
        again=again,
    )
    told = selection_of(whole)
    if told is not None and typed != Selection():
        raise InvalidInput("--selection says all of it: what narrows it stands in there, too", code="bad_selection")
    selection = typed if told is None else told
    return None if selection == Selection() else selection


def ordering_asked(*, pin: list[str] | None, group_order: str, sort: str, as_selected: bool) -> Ordering | None:
    from penstock.client import Ordering

    ordering = Ordering(
        pinned=tuple(pin or ()), groups=columns_of(group_order), sort=columns_of(sort), as_selected=as_selected
    )
    return None if ordering == Ordering() else ordering


def _check_ways(given: Mapping[str, str | bool], *, exclude_ids: str) -> None:
    """Raises InvalidInput for rows that are selected in two ways, and for standard input that is read twice."""
    from penstock.runtime.errors import InvalidInput

    ways = [option for option, value in given.items() if value]
    if len(ways) > 1:
        raise InvalidInput(f"rows are selected in one way: one of {' and '.join(ways)}", code="bad_selection")
    if given["--ids"] == exclude_ids == "-":
        raise InvalidInput("standard input is read once: --ids or --exclude-ids", code="bad_usage")
