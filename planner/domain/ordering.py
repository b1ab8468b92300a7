"""In what order a plan's items stand, and what placed each of them.

Pinned groups come first, in the order in which they are pinned; then groups with a priority by hand, in that order;
then all others. Within that the sort columns decide, texts by their natural order, and what they leave equal goes by
the bytes of the key: so the order is total, and the same on every machine. What is null is less than everything; a text
that is null counts as empty. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from planner.domain.schema import Schema

__all__ = ["MAX_GROUPS", "MAX_SORT_COLUMNS", "Ordering", "Placed", "SortColumn"]

MAX_GROUPS = 100_000
MAX_SORT_COLUMNS = 10
_TOLD = 10


@dataclass(frozen=True)
class SortColumn:
    name: str
    descending: bool = False


@dataclass(frozen=True)
class Placed:
    """`by`: pinned, priority, or sort; `place`: of its group among those, from 1 (0: of sort)."""

    by: str
    place: int


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """sort: None is the default order of the source. as_selected: the order of the ids, or of the list that comes
    ready, stands in the place of the sort columns."""

    pinned: Sequence[str] = ()
    group_order: Sequence[str] = ()
    sort: Sequence[SortColumn] | None = None
    as_selected: bool = False

    @cached_property
    def ranks(self) -> Mapping[str, int]:
        """The rank of each group that has one, from 0; all others come after these."""
        pinned = dict.fromkeys(self.pinned)
        others = (group for group in self.group_order if group not in pinned)
        return {group: rank for rank, group in enumerate((*pinned, *dict.fromkeys(others)))}

    def columns(self, schema: Schema) -> tuple[SortColumn, ...]:
        """What sorts within a rank."""
        if self.as_selected:
            return ()
        return tuple(self.sort) if self.sort is not None else tuple(SortColumn(name) for name in schema.sort)

    def placed(self, group: str) -> Placed:
        """What placed an item of this group; within its rank, the sort columns do."""
        rank = self.ranks.get(group)
        if rank is None:
            return Placed("sort", 0)
        pinned = len(set(self.pinned))
        return Placed("pinned", rank + 1) if rank < pinned else Placed("priority", rank - pinned + 1)

    def problems(self, schema: Schema, *, listed: bool) -> list[str]:
        """What is wrong with it for this source; `listed`: the items are chosen by a list, which has an order."""
        found = []
        for name, groups in (("pinned", self.pinned), ("group_order", self.group_order)):
            if len(groups) > MAX_GROUPS:
                found.append(f"{name} has {len(groups):,} groups, at most {MAX_GROUPS:,} are taken")
            elif twice := [group for group, count in Counter(groups).items() if count > 1]:
                found.append(f"{name} has groups that stand twice: {', '.join(map(repr, twice[:_TOLD]))}")
        if self.as_selected and not listed:
            found.append("only ids, or a query with an ORDER BY, have an order that can be kept as selected")
        if self.as_selected and self.sort is not None:
            found.append("items are ordered as selected or by sort columns, not both")
        sort = self.sort or ()
        if len(sort) > MAX_SORT_COLUMNS:
            found.append(f"{len(sort)} sort columns are given, at most {MAX_SORT_COLUMNS} are taken")
        if twice := [name for name, count in Counter(column.name for column in sort).items() if count > 1]:
            found.append(f"sort columns stand twice: {', '.join(map(repr, twice[:_TOLD]))}")
        return found

    def identity(self) -> dict[str, object]:
        """What a plan's id hashes of it, without what is not set."""
        values: dict[str, object] = {}
        if self.pinned:
            values["pinned"] = list(self.pinned)
        if self.group_order:
            values["group_order"] = list(self.group_order)
        if self.sort is not None:
            values["sort"] = [[column.name, column.descending] for column in self.sort]
        if self.as_selected:
            values["as_selected"] = True
        return values
