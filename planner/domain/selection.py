"""What of a source is chosen: ids, a filter or all of it, minus ids and a filter, narrowed by flags, up to a limit.

Filters stay texts here; what they mean is not pure (`planner.selecting`). What is wrong is told as sentences, all of it
at once. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.domain.schema import ColumnKind, Schema

__all__ = ["FLAGS", "MAX_IDS", "Flags", "LeftOut", "Selection", "flag_columns"]

MAX_IDS = 1_000_000
FLAGS: Mapping[str, tuple[str, ...]] = {
    "org": ("org", "organization", "owner"),
    "repo": ("repo", "repository"),
    "state": ("state",),
}
"""The columns that a flag may mean, the first that is there. An org is looked for in `org/name` of the repo, too."""

_TOLD_COLUMNS = 20


@dataclass(frozen=True)
class Flags:
    """Narrow what is included; upper and lower case of ASCII letters are the same. Empty: not asked for."""

    org: str = ""
    repo: str = ""
    state: str = ""

    def named(self) -> dict[str, str]:
        """Those that are asked for."""
        return {name: value for name in FLAGS if (value := getattr(self, name))}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """One of `ids`, `filter` and `everything`, or none of them where a list of keys comes ready from elsewhere.

    limit: at most so many items, the first in order; 0: all.
    """

    ids: Sequence[str] | None = None
    filter: str | None = None
    everything: bool = False
    exclude_ids: Sequence[str] = ()
    exclude_filter: str = ""
    flags: Flags = Flags()
    limit: int = 0

    def problems(self, *, ready: bool) -> list[str]:
        """What is wrong with it by itself; `ready`: there is a list of keys beside it."""
        found = []
        named = [
            name
            for name, given in (
                ("keys", self.ids is not None),
                ("filter", self.filter is not None),
                ("all", self.everything),
            )
            if given
        ]
        if ready and named:
            found.append(
                f"the items are chosen by a list that comes with the request, and by {' and '.join(named)}, too"
            )
        elif not ready and len(named) != 1:
            given = f"{' and '.join(named)} are given" if named else "none is given"
            found.append(f"a selection has one of keys, filter and all; {given}")
        if self.filter is not None and not self.filter.strip():
            found.append("the filter is empty; `all` selects everything")
        for name, ids in (("keys", self.ids or ()), ("exclude_keys", self.exclude_ids)):
            if len(ids) > MAX_IDS:
                found.append(f"{name} are {len(ids):,}, at most {MAX_IDS:,} are taken; a filter selects any number")
        if self.limit < 0:
            found.append(f"limit is {self.limit}; it may be 1 or more, or 0 for no limit")
        return found

    def identity(self, *, ordered: bool) -> dict[str, object]:
        """What a plan's id hashes of it, without what is not set; `ordered`: the order of the ids counts."""
        values: dict[str, object] = {}
        if self.ids is not None:
            values["ids"] = _digest(list(dict.fromkeys(self.ids)) if ordered else sorted(set(self.ids)))
        if self.filter is not None:
            values["filter"] = self.filter.strip()
        if self.everything:
            values["all"] = True
        if self.exclude_ids:
            values["exclude_ids"] = _digest(sorted(set(self.exclude_ids)))
        if self.exclude_filter.strip():
            values["exclude_filter"] = self.exclude_filter.strip()
        values.update(self.flags.named())
        if self.limit:
            values["limit"] = self.limit
        return values

    @property
    def rule(self) -> str:
        """What chose its items, for the why of each."""
        if self.ids is not None:
            return "ids"
        return f"filter: {self.filter.strip()}" if self.filter is not None else "all"


@dataclass(frozen=True)
class LeftOut:
    """Rows that were included and are not in the plan. `examples`: keys of the first of them by key."""

    reason: str
    count: int
    examples: tuple[str, ...]


def flag_columns(flags: Flags, schema: Schema) -> tuple[dict[str, str], list[str]]:
    """The columns that the flags ask, by flag, and what is wrong with flags that have none."""
    columns = {flag: name for flag in FLAGS if (name := _flag_column(flag, schema))}
    problems = []
    for flag in flags.named():
        if flag in columns or (flag == "org" and "repo" in columns):
            continue
        wanted = " or ".join(FLAGS[flag] + (FLAGS["repo"] if flag == "org" else ()))
        names = [column.name for column in schema.columns]
        more = f" and {len(names) - _TOLD_COLUMNS:,} more" if len(names) > _TOLD_COLUMNS else ""
        problems.append(
            f"{flag} needs a column of texts called {wanted}; there are {', '.join(names[:_TOLD_COLUMNS])}{more}"
        )
    return columns, problems


def _flag_column(flag: str, schema: Schema) -> str:
    texts = [column.name for column in schema.columns if column.kind is ColumnKind.TEXT]
    for wanted in FLAGS[flag]:
        if wanted in texts:
            return wanted
        if folded := [name for name in texts if name.lower() == wanted]:
            return folded[0]
    return ""


def _digest(ids: Sequence[str]) -> str:
    found = hashlib.sha256()
    for one in ids:
        encoded = one.encode()
        found.update(b"%d:" % len(encoded) + encoded)
    return f"{len(ids)}:{found.hexdigest()}"
