"""Which rows of a source a plan takes and in what order, and what a grid asks for, as the planner understands it.

A `Selection` names at most one of its ways to include; none of them means all rows. Nothing is checked here but that,
and the form of what comes as JSON: what a filter or a column means, the planner alone knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.client.filling import filled
from penstock.runtime.errors import InvalidInput
from penstock.selection_form import WAYS, problems_of
from penstock.v1 import sources_pb2

__all__ = ["Ordering", "Selection", "row_query"]

_NAMED = ("missing", "reprocess", "failed_of_run", "changed_since_plan", "sql")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is included, narrowed by org, repo and state, minus what is excluded; then, in order, the first `limit`.

    missing: a processor without a completed result; reprocess: one whose results have a `confidence` below threshold.
    sql: one SELECT that returns the key column, over `items`, the source's name and `results`. again: what the stage's
    processor has done already, with the same payload, version and parameters, is not left out.
    """

    filter: str | None = None
    keys: Sequence[str] | None = None
    missing: str | None = None
    reprocess: str | None = None
    threshold: float | None = None
    failed_of_run: str | None = None
    changed_since_plan: str | None = None
    sql: str | None = None
    exclude_keys: Sequence[str] = ()
    exclude_filter: str = ""
    org: str = ""
    repo: str = ""
    state: str = ""
    limit: int = 0
    again: bool = False

    @classmethod
    def of(cls, told: Mapping[str, object]) -> Selection:
        """From the one form that a selection has as JSON: as HTTP takes it, and as it is told of a plan. Raises
        InvalidInput with everything that is no such field or value."""
        if problems := problems_of(told):
            raise InvalidInput("; ".join(problems), code="bad_selection")
        if "all" in told and (others := [name for name in WAYS if name in told and name != "all"]):
            raise InvalidInput(f"rows are selected in one way, and all and {others[0]} are given", code="bad_selection")
        fields: dict[str, Any] = {name: value for name, value in told.items() if name != "all"}
        if "reprocess" in fields:
            asked = fields["reprocess"]
            fields |= {"reprocess": asked["processor"], "threshold": float(asked["threshold"])}
        return cls(**fields)

    def message(self) -> sources_pb2.Selection:
        """Raises InvalidInput with everything that is wrong at once."""
        given: dict[str, object] = {
            "filter": self.filter,
            "keys": None if self.keys is None else filled(sources_pb2.Selection.Keys, keys=_texts("keys", self.keys)),
            "missing": self.missing,
            "reprocess": self._reprocess(),
            "failed_of_run": self.failed_of_run,
            "changed_since_plan": self.changed_since_plan,
            "sql": self.sql,
        }
        include = {name: value for name, value in given.items() if value is not None}
        # What names nothing, as a variable that was never set, is not to select all there is.
        problems = [f"{name} is empty: it selects nothing" for name in _NAMED if getattr(self, name) == ""]
        if len(include) > 1:
            problems.append(f"rows are selected in one way, and {' and '.join(include)} are given")
        if self.reprocess is not None and self.threshold is None:
            problems.append(f"reprocess {self.reprocess} needs a threshold, as 0.7")
        if self.threshold is not None and self.reprocess is None:
            problems.append("a threshold belongs to reprocess, which names a processor")
        if problems:
            raise InvalidInput("; ".join(problems), code="bad_selection")
        return filled(
            sources_pb2.Selection,
            **(include or {"all": True}),
            exclude_keys=_texts("exclude_keys", self.exclude_keys),
            exclude_filter=self.exclude_filter,
            org=self.org,
            repo=self.repo,
            state=self.state,
            limit=self.limit,
            again=self.again,
        )

    def _reprocess(self) -> sources_pb2.Selection.Reprocess | None:
        if self.reprocess is None:
            return None
        return filled(sources_pb2.Selection.Reprocess, processor=self.reprocess, threshold=self.threshold or 0.0)


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """Pinned groups first, then groups by priority, then all others by name; within a group the sort columns.

    sort: columns with ` desc` where wanted; none: the source's own order. as_selected: the order of the keys, or of the
    SELECT, stands in the place of the sort columns.
    """

    pinned: Sequence[str] = ()
    groups: Sequence[str] = ()
    sort: Sequence[str] = ()
    as_selected: bool = False

    def message(self) -> sources_pb2.Ordering:
        return filled(
            sources_pb2.Ordering,
            pinned=_texts("pinned", self.pinned),
            groups=_texts("groups", self.groups),
            sort=_texts("sort", self.sort),
            as_selected=self.as_selected,
        )


def row_query(
    *,
    filter: str = "",  # noqa: A002
    search: str = "",
    order_by: str = "",
    skip: int = 0,
    page_size: int = 100,
    with_groups: bool = False,
    result_of: str = "",
) -> sources_pb2.RowQuery:
    """A page of rows. order_by: columns by commas, with ` desc` where wanted; empty: the order of source or plan."""
    return filled(
        sources_pb2.RowQuery,
        filter=filter,
        search=search,
        order_by=order_by,
        skip=skip,
        page_size=page_size,
        with_groups=with_groups,
        result_of=result_of,
    )


def _texts(name: str, given: Sequence[str]) -> Sequence[str]:
    """A single text is a sequence of its letters, which nobody means."""
    if isinstance(given, str):
        raise InvalidInput(f"{name} is a list of texts, not one text: [{given[:80]!r}]", code="bad_value")
    return given
