"""A selection and an order as SQL over one snapshot: what is chosen, what is left out and why, and what comes first.

`problems_of` tells all that is wrong with a request before anything is read. `Choosing` puts the lists of a request
(ids, what is left out, groups with a rank) into tables of its connection and answers the parts of a statement: a list
of 100,000s of ids is joined, never written into a statement, and every value of a user goes as a parameter. Here
nothing is written to disk; `planner.ordered` does that. Raises InvalidInput for ids that the source has not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.filter_nodes import folded
from penstock.filter_places import nearest
from penstock.filters import EVERYTHING, Filter
from penstock.runtime.errors import InvalidInput
from planner.domain.ordering import Ordering
from planner.domain.schema import ColumnKind, Schema
from planner.domain.selection import LeftOut, Selection, flag_columns
from planner.fields import columns_of, fields_of
from planner.filter_duckdb import SqlColumn, condition
from planner.natural_sql import folded_sql, natural_sql

if TYPE_CHECKING:
    import duckdb

__all__ = ["CUSTOM_SQL", "Choosing", "Keys", "Ready", "Wanted", "problems_of", "sort_sql"]

Keys = Sequence[str] | Path
"""Keys in order; or a Parquet file of the blob folder with a column `key`, in the order of its rows."""

_TOLD = 10
_PART = 50_000
_EXCLUDED_IDS, _EXCLUDED_FILTER = "excluded by id", "excluded by filter"


CUSTOM_SQL = "custom SQL"
"""The rule of rows whose keys a SELECT returned."""


@dataclass(frozen=True)
class Ready:
    """The keys that are included, where neither ids nor a filter says it; `rule`: what chose them."""

    keys: Keys
    rule: str


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """left_out: keys that are not to be in the plan though they are included, by reason; those that the source has not
    are no matter."""

    snapshot: Path
    schema: Schema
    selection: Selection
    ordering: Ordering = field(default_factory=Ordering)
    ready: Ready | None = None
    left_out: Mapping[str, Keys] = field(default_factory=dict)

    @property
    def rule(self) -> str:
        """What chose its items, for the why of each."""
        return self.ready.rule if self.ready else self.selection.rule


def problems_of(wanted: Wanted) -> list[InvalidInput]:
    """All that is wrong with a request, as far as its source need not be read for it."""
    selection, ordering, schema = wanted.selection, wanted.ordering, wanted.schema
    listed = wanted.ready is not None or selection.ids is not None
    found = [InvalidInput(text, code="bad_selection") for text in selection.problems(ready=wanted.ready is not None)]
    found += [InvalidInput(text, code="no_such_column") for text in flag_columns(selection.flags, schema)[1]]
    for name, text in (("filter", selection.filter or ""), ("exclude_filter", selection.exclude_filter)):
        try:
            Filter.parse(text, fields_of(schema), name=name)
        except InvalidInput as error:
            found.append(error)
    found += [InvalidInput(text, code="bad_order") for text in ordering.problems(schema, listed=listed)]
    found += [
        InvalidInput(
            f"there is no column {column.name!r} to sort by; {nearest(column.name, schema.names)}", code="bad_order"
        )
        for column in ordering.sort or ()
        if schema.place(column.name) is None
    ]
    return found


def sort_sql(schema: Schema, name: str, *, prefix: str = "") -> str:
    """What a column is sorted by: texts by their natural key, stored or made here; null is less than everything."""
    if name in schema.sort:
        return f"coalesce({prefix}s{schema.sort.index(name)}, '')"
    column = f'{prefix}"{schema.place(name)}"'
    if schema.kind(name) in (ColumnKind.TEXT, ColumnKind.JSON):
        return natural_sql(f"coalesce({column}, '')")
    return column


class Choosing:
    """One request on one connection of its own, whose temporary tables it makes."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, wanted: Wanted) -> None:
        """Raises InvalidInput (`unknown_ids`)."""
        self._connection = connection
        self._wanted = wanted
        self.values: dict[str, object] = {"snapshot": str(wanted.snapshot.resolve())}
        self._columns = columns_of(wanted.schema, "items.")
        self._joins: list[str] = []
        self._where: list[str] = []
        self._reasons: list[str] = []
        self._reason = "NULL"
        self._include()
        self._exclude()
        self._rank()

    @property
    def chosen(self) -> str:
        """FROM … WHERE of the rows that are in the plan, before any limit; the snapshot's columns are `items.…`, with
        `items.file_row_number`."""
        return self.joined("")

    def joined(self, join: str) -> str:
        """The same with one more JOIN."""
        return self._from([*self._where, *([f"{self._reason} IS NULL"] if self._reasons else [])], join)

    @property
    def order(self) -> str:
        """ORDER BY of these rows: total."""
        wanted = self._wanted
        parts = [f"coalesce(ranks.rank, {len(wanted.ordering.ranks)})"] if wanted.ordering.ranks else []
        parts += ["ids.place"] if wanted.ordering.as_selected else []
        for column in wanted.ordering.columns(wanted.schema):
            direction = "DESC NULLS LAST" if column.descending else "ASC NULLS FIRST"
            parts.append(f"{sort_sql(wanted.schema, column.name, prefix='items.')} {direction}")
        return "ORDER BY " + ", ".join([*parts, "items.key"])

    def left_out(self) -> list[LeftOut]:
        """What was included and is not in the plan, by reason."""
        if not self._reasons:
            return []
        rows = self._connection.execute(
            f"SELECT reason, count(*), min(key, {_TOLD}) FROM (SELECT {self._reason} AS reason, items.key "
            f"{self._from([*self._where, f'{self._reason} IS NOT NULL'])}) GROUP BY reason ORDER BY reason",
            self.values,
        ).fetchall()
        return [LeftOut(self._reasons[reason], count, tuple(examples)) for reason, count, examples in rows]

    def unknown_groups(self) -> list[str]:
        """Groups with a rank that no row of the source has, in their order."""
        if not self._wanted.ordering.ranks:
            return []
        rows = self._connection.execute(
            "SELECT ranks.name FROM ranks ANTI JOIN read_parquet($snapshot) AS items "
            'ON items."group" = ranks.name ORDER BY ranks.rank',
            {"snapshot": self.values["snapshot"]},
        ).fetchall()
        return [row[0] for row in rows]

    def _from(self, where: Sequence[str], join: str = "") -> str:
        joined = " ".join([*self._joins, join])
        items = "read_parquet($snapshot, file_row_number = true) AS items"
        return f"FROM {items} {joined} WHERE {' AND '.join(where) or 'true'}"

    def _include(self) -> None:
        selection, ready = self._wanted.selection, self._wanted.ready
        keys = ready.keys if ready else selection.ids
        if keys is not None:
            self._connection.execute("CREATE TEMP TABLE listed (key VARCHAR, place BIGINT)")
            self._load("listed", keys)
            self._connection.execute(
                "CREATE TEMP TABLE ids AS SELECT key, min(place) AS place FROM listed GROUP BY key; DROP TABLE listed"
            )
            self._know("ids", "the SELECT's keys" if ready is not None and ready.rule == CUSTOM_SQL else "keys")
            self._joins.append("JOIN ids ON ids.key = items.key")
        elif selection.filter is not None:
            self._where.append(self._parsed(selection.filter))
        columns, _ = flag_columns(selection.flags, self._wanted.schema)
        for flag, value in selection.flags.named().items():
            self._where.append(self._flag(flag, folded(value), columns))

    def _exclude(self) -> None:
        selection, left_out = self._wanted.selection, self._wanted.left_out
        lists: list[tuple[str, Keys]] = [(_EXCLUDED_IDS, selection.exclude_ids), (_EXCLUDED_FILTER, ())]
        lists += left_out.items()
        text = selection.exclude_filter.strip()
        if not selection.exclude_ids and not text and not left_out:
            return
        self._reasons = [reason for reason, _ in lists]
        self._connection.execute("CREATE TEMP TABLE without (key VARCHAR, place BIGINT, reason INTEGER)")
        for number, (_, keys) in enumerate(lists):
            self._load("without", keys, reason=number)
        if selection.exclude_ids:
            self._know("without", "exclude_keys", where="reason = 0")
        self._connection.execute(
            "CREATE TEMP TABLE gone AS SELECT key, min(reason) AS reason FROM without GROUP BY key; DROP TABLE without"
        )
        self._joins.append("LEFT JOIN gone ON gone.key = items.key")
        by_filter = f"WHEN {self._parsed(text)} THEN 1 " if text else ""
        self._reason = f"(CASE WHEN gone.reason = 0 THEN 0 {by_filter}ELSE gone.reason END)"

    def _rank(self) -> None:
        ranks = self._wanted.ordering.ranks
        if ranks:
            self._connection.execute("CREATE TEMP TABLE ranks (name VARCHAR, rank BIGINT)")
            self._load("ranks", list(ranks))
            self._joins.append('LEFT JOIN ranks ON ranks.name = items."group"')

    def _parsed(self, text: str) -> str:
        chosen = Filter.parse(text, fields_of(self._wanted.schema)) if text else EVERYTHING
        return condition(chosen, self._columns, self.values)

    def _flag(self, flag: str, value: str, columns: Mapping[str, str]) -> str:
        """Values of a repo may be `org/name`: then they answer for the org, and without it for the name."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        asked = f"${name}::VARCHAR"
        own = folded_sql(self._sql(columns[flag]).sql) if flag in columns else ""
        ways = [f"{own} = {asked}"] if own else []
        if flag == "org" and "repo" in columns:
            missing = f"{own} IS NULL AND " if own else ""
            repo = folded_sql(self._sql(columns["repo"]).sql)
            ways.append(f"({missing}starts_with({repo}, {asked} || '/'))")
        if flag == "repo" and "/" not in value:
            ways.append(f"ends_with({own}, '/' || {asked})")
        elif flag == "repo" and "org" in columns:
            ways.append(f"{folded_sql(self._sql(columns['org']).sql)} || '/' || {own} = {asked}")
        return f"({' OR '.join(ways)})"

    def _sql(self, name: str) -> SqlColumn:
        return self._columns[name]

    def _load(self, table: str, keys: Keys, *, reason: int | None = None) -> None:
        """Appends keys with their places (and a reason) to a table."""
        last = "" if reason is None else f", {reason}"
        if isinstance(keys, Path):
            self._connection.execute(
                f"INSERT INTO {table} SELECT key, file_row_number{last} "
                "FROM read_parquet($keys, file_row_number = true) WHERE key IS NOT NULL",
                {"keys": str(keys.resolve())},
            )
            return
        rest = iter(keys)
        place = 0
        while part := list(islice(rest, _PART)):
            self._connection.execute(
                f"INSERT INTO {table} SELECT unnest($keys::VARCHAR[]), "
                f"$first::BIGINT + unnest(range(len($keys::VARCHAR[]))){last}",
                {"keys": part, "first": place},
            )
            place += len(part)

    def _know(self, table: str, what: str, *, where: str = "true") -> None:
        """Raises InvalidInput when keys of a table are not in the source."""
        unknown = (
            f"FROM (SELECT key, min(place) AS place FROM {table} WHERE {where} GROUP BY key) AS asked "
            "ANTI JOIN read_parquet($snapshot) AS items ON items.key = asked.key"
        )
        values = {"snapshot": self.values["snapshot"]}
        rows = self._connection.execute(
            f"SELECT asked.key, count(*) OVER () {unknown} ORDER BY asked.place LIMIT {_TOLD}", values
        ).fetchall()
        if rows:
            count = rows[0][1]
            more = f" and {count - len(rows):,} more" if count > len(rows) else ""
            raise InvalidInput(
                f"{what}: the source has no {', '.join(repr(row[0][:100]) for row in rows)}{more}",
                code="unknown_ids",
                count=str(count),
            )
