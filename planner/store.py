"""The planner's SQL: sources, plans, and the requests that made them.

Rows are small; what is large lies in blobs that they name. Rows never change, but for a draft that becomes a plan and
a plan that goes (`removals.rows`).
Every statement is named by the method it stands in; all of a method is one transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from penstock.runtime.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from penstock.runtime.paging import whole_number
from penstock.runtime.sql import Database
from planner.domain.stages import StageSettings

__all__ = [
    "REQUEST_HOURS",
    "PlanRow",
    "SourceRow",
    "StageRow",
    "Store",
    "metadata",
    "refuse_etag",
    "refuse_removing",
]

REQUEST_HOURS = 24
_NAMESAKES = 10

metadata = sa.MetaData()

sources = sa.Table(
    "sources",
    metadata,
    sa.Column("source_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("item_count", sa.BigInteger, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("ignored_count", sa.BigInteger, nullable=False),
    sa.Column("snapshot_sha256", sa.Text, nullable=False),
    sa.Column("snapshot_bytes", sa.BigInteger, nullable=False),
    sa.Column("blocks", sa.Text, nullable=False),  # JSON list: first seq of each block
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Column("table_schema", sa.Text, nullable=False, server_default=""),  # JSON of a Schema; empty: no table
    sa.Column("statistics", sa.Text, nullable=False, server_default=""),  # JSON, a column each
    sa.Column("notices", sa.Text, nullable=False, server_default="[]"),  # JSON: what was left out of it, and where
)

plans = sa.Table(
    "plans",
    metadata,
    sa.Column("plan_id", sa.Text, primary_key=True),
    sa.Column("source_id", sa.Text, sa.ForeignKey("sources.source_id"), nullable=False),
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("granularity", sa.Text, nullable=False),
    sa.Column("stages", sa.Text, nullable=False),  # JSON list of StageRow
    sa.Column("items_sha256", sa.Text, nullable=False),
    sa.Column("items_bytes", sa.BigInteger, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Column("expire_ms", sa.BigInteger, nullable=True),  # a draft's end; NULL: kept
    sa.Column("lanes_sha256", sa.Text, nullable=False, server_default=""),  # table of lanes; empty: no item has keys
    sa.Column("source_name", sa.Text, nullable=False, server_default=""),
    sa.Column("source_version", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("details", sa.Text, nullable=False, server_default="{}"),  # JSON of PlanDetails
    sa.Column("change", sa.BigInteger, nullable=False, server_default="0"),  # of its name: one more each time
    sa.Column("uid", sa.Text, nullable=False, server_default=""),  # of this making: made again, it has another
    sa.Column("remove_ms", sa.BigInteger, nullable=True),  # its removal was begun; NULL: it was not
    sa.Column("remove_force", sa.Boolean, nullable=False, server_default=sa.false()),  # as its remover asked
    sa.Index("plans_expire", "expire_ms"),
    sa.Index("plans_items_sha256", "items_sha256"),
    sa.Index("plans_lanes_sha256", "lanes_sha256"),
    sa.Index("plans_source_name", "source_name"),
    sa.Index("plans_created", "create_ms", "plan_id"),
    sa.Index("plans_source", "source_id"),
)

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("method", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("answer_id", sa.Text, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Index("requests_create", "create_ms"),
)


@dataclass(frozen=True)
class SourceRow:
    source_id: str
    kind: int
    item_count: int
    size_bytes: int
    ignored_count: int
    snapshot_sha256: str
    snapshot_bytes: int
    blocks: tuple[int, ...]
    create_ms: int
    table_schema: str = ""
    statistics: str = ""
    notices: str = "[]"


@dataclass(frozen=True)
class StageRow:
    """A stage with the size of its items and the first seq of each block that is read at once."""

    settings: StageSettings
    item_count: int
    blocks: tuple[int, ...]


@dataclass(frozen=True)
class PlanRow:
    plan_id: str
    source_id: str
    kind: int
    name: str
    granularity: str
    stages: tuple[StageRow, ...]
    items_sha256: str
    items_bytes: int
    create_ms: int
    expire_ms: int | None
    lanes_sha256: str = ""
    source_name: str = ""
    source_version: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)
    change: int = 0
    uid: str = ""
    remove_ms: int | None = None
    remove_force: bool = False

    @property
    def laned(self) -> bool:
        """Whether any of its items has limit keys."""
        return bool(self.lanes_sha256)

    @property
    def draft(self) -> bool:
        return self.expire_ms is not None


class Store:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert: Any = sqlite.insert if database.is_sqlite else postgresql.insert

    def find_source(self, source_id: str) -> SourceRow | None:
        with self._database.read() as connection:
            row = connection.execute(sa.select(sources).where(sources.c.source_id == source_id)).mappings().first()
        if row is None:
            return None
        return SourceRow(**{**row, "blocks": tuple(orjson.loads(row["blocks"]))})

    def source(self, source_id: str) -> SourceRow:
        """Raises NotFound."""
        row = self.find_source(source_id)
        if row is None:
            raise NotFound(f"no source {source_id!r}", code="source_not_found")
        return row

    def keep_source(self, row: SourceRow, *, request_id: str, now_ms: int) -> SourceRow:
        """Keeps the source unless it is kept already; answers the kept one."""
        values = {**row.__dict__, "blocks": orjson.dumps(row.blocks).decode()}
        with self._database.write() as connection:
            self._remember(connection, "CreateSource", request_id, row.source_id, now_ms)
            # The first of two equal uploads is the one that stays.
            connection.execute(self._insert(sources).values(values).on_conflict_do_nothing())
            create_ms = connection.execute(
                sa.select(sources.c.create_ms).where(sources.c.source_id == row.source_id)
            ).scalar_one()
        return replace(row, create_ms=create_ms)

    def find_plan(self, plan_id: str, *, now_ms: int) -> PlanRow | None:
        with self._database.read() as connection:
            return _plan(connection.execute(_select_plan(plan_id, now_ms)).mappings().first())

    def plan(self, plan_id: str, *, now_ms: int) -> PlanRow:
        """Raises NotFound, also for a draft past its end."""
        with self._database.read() as connection:
            return _found(connection.execute(_select_plan(plan_id, now_ms)).mappings().first(), plan_id)

    def plan_named(self, name: str) -> str:
        """The id of the kept plan of this name. Raises NotFound, and InvalidInput for a name that several have."""
        query = sa.select(plans.c.plan_id).where(plans.c.name == name, plans.c.expire_ms.is_(None))
        with self._database.read() as connection:
            found = connection.execute(query.order_by(plans.c.create_ms.desc()).limit(_NAMESAKES + 1)).scalars()
            ids: list[str] = list(found)
        if len(ids) > 1:
            more = ", …" if len(ids) > _NAMESAKES else ""
            raise InvalidInput(
                f"several plans are called {name!r}; say which by its id: {', '.join(ids[:_NAMESAKES])}{more}",
                code="several_plans",
            )
        if not ids:
            raise _none(name)
        return ids[0]

    def keep_plan(self, row: PlanRow, *, request_id: str, now_ms: int, method: str = "CreatePlan") -> PlanRow:
        """Keeps the plan, or the draft. A draft of it becomes kept, or lasts anew; a kept one stays so. Raises Conflict
        for one that is being removed."""
        values = {
            **row.__dict__,
            "uid": secrets.token_hex(8),
            "remove_ms": None,
            "remove_force": False,
            "stages": orjson.dumps([_stage_values(s) for s in row.stages]).decode(),
            "details": orjson.dumps(row.details).decode(),
        }
        with self._database.write() as connection:
            self._remember(connection, method, request_id, row.plan_id, now_ms)
            insert = self._insert(plans).values(values)
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=["plan_id"],
                    set_={
                        "expire_ms": insert.excluded.expire_ms,
                        "name": sa.case((plans.c.name == "", insert.excluded.name), else_=plans.c.name),
                        "details": insert.excluded.details,
                    },
                    where=plans.c.expire_ms.is_not(None),
                )
            )
            kept = _plan(connection.execute(_select_plan(row.plan_id, now_ms)).mappings().first())
            assert kept is not None, row.plan_id
            refuse_removing(kept)
        return kept

    def keep_draft(self, plan_id: str, *, now_ms: int) -> PlanRow:
        """A draft has no end any more; a kept plan stays so. Raises NotFound, also for a draft past its end."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(plans).where(plans.c.plan_id == plan_id, plans.c.expire_ms > now_ms).values(expire_ms=None)
            )
            return _found(connection.execute(_select_plan(plan_id, now_ms)).mappings().first(), plan_id)

    def plans(
        self, *, before: str, search: str, source: str, limit: int, processor: str = "", actor: str = ""
    ) -> list[PlanRow]:
        """Kept plans, the latest first. before: `create_ms.plan_id` of the last one of the page before; source: an id
        or a name; processor: one that a stage or its rules name. Raises InvalidInput for a place that is none."""
        query = sa.select(plans).where(plans.c.expire_ms.is_(None))
        if before:
            create_ms, _, plan_id = before.partition(".")
            if (at := whole_number(create_ms)) is None:
                raise InvalidInput(f"page_token {before[:80]!r} is none of ours", code="bad_page_token")
            query = query.where(
                sa.or_(plans.c.create_ms < at, sa.and_(plans.c.create_ms == at, plans.c.plan_id < plan_id))
            )
        if search:
            query = query.where(sa.func.lower(plans.c.name).contains(search.lower(), autoescape=True))
        if source:
            query = query.where(sa.or_(plans.c.source_id == source, plans.c.source_name == source))
        # A quote in a text stands behind a backslash in JSON: so a name is not found inside of one.
        for column, called, value in ((plans.c.stages, "processor", processor), (plans.c.details, "actor", actor)):
            if value:
                written = f'"{called}":{orjson.dumps(value).decode()}'
                query = query.where(column.contains(written, autoescape=True))
        query = query.order_by(plans.c.create_ms.desc(), plans.c.plan_id.desc()).limit(limit)
        with self._database.read() as connection:
            return [row for found in connection.execute(query).mappings() if (row := _plan(found)) is not None]

    def rename_plan(self, plan_id: str, name: str, *, change: int | None, now_ms: int) -> PlanRow:
        """Raises NotFound, Conflict when its name was changed since `change`."""
        with self._database.write() as connection:
            wanted = sa.update(plans).where(plans.c.plan_id == plan_id)
            if change is not None:
                wanted = wanted.where(plans.c.change == change)
            moved = connection.execute(wanted.values(name=name, change=plans.c.change + 1)).rowcount
            row = _found(connection.execute(_select_plan(plan_id, now_ms)).mappings().first(), plan_id)
            if change is not None and not moved:
                refuse_etag(plan_id, row.name, row.change, change)
        return row

    def sweep(self, *, now_ms: int) -> int:
        """Removes requests older than REQUEST_HOURS; returns how many."""
        with self._database.write() as connection:
            oldest = now_ms - REQUEST_HOURS * 3_600_000
            return connection.execute(sa.delete(requests).where(requests.c.create_ms < oldest)).rowcount

    def _remember(self, connection: sa.Connection, method: str, request_id: str, answer_id: str, now_ms: int) -> None:
        if not request_id:
            return
        # Whoever comes first with a request_id says what it means; a second one waits for the first's commit.
        connection.execute(
            self._insert(requests)
            .values(method=method, request_id=request_id, answer_id=answer_id, create_ms=now_ms)
            .on_conflict_do_nothing()
        )
        kept = connection.execute(
            sa.select(requests.c.answer_id).where(requests.c.method == method, requests.c.request_id == request_id)
        ).scalar_one()
        if kept != answer_id:
            raise AlreadyExists(
                f"request_id {request_id!r} made {kept} already and now asks for something else: use a new one",
                code="request_id_reused",
            )


def refuse_etag(plan_id: str, name: str, now: int, change: int) -> None:
    """Raises Conflict when a plan's name was changed since `change`."""
    if now != change:
        raise Conflict(
            f"plan {plan_id} is called {name!r} meanwhile (etag {now}): look at it, then try again",
            code="etag_mismatch",
        )


def refuse_removing(row: PlanRow) -> None:
    """Raises Conflict for a plan whose removal was begun."""
    if row.remove_ms is not None:
        raise Conflict(f"plan {row.plan_id} is being removed: make it again once it is gone", code="plan_removing")


def _select_plan(plan_id: str, now_ms: int) -> sa.Select[Any]:
    return sa.select(plans).where(
        plans.c.plan_id == plan_id, sa.or_(plans.c.expire_ms.is_(None), plans.c.expire_ms > now_ms)
    )


def _plan(row: sa.RowMapping | None) -> PlanRow | None:
    if row is None:
        return None
    stages = [_stage(values) for values in orjson.loads(row["stages"])]
    return PlanRow(**{**row, "stages": tuple(stages), "details": orjson.loads(row["details"])})


def _found(row: sa.RowMapping | None, plan_id: str) -> PlanRow:
    plan = _plan(row)
    if plan is None:
        raise _none(plan_id)
    return plan


def _none(named: str) -> NotFound:
    return NotFound(f"no plan {named[:200]!r} (a preview's is kept for a day)", code="plan_not_found")


def _stage_values(stage: StageRow) -> dict[str, object]:
    return {"settings": stage.settings.__dict__, "item_count": stage.item_count, "blocks": stage.blocks}


def _stage(values: dict[str, Any]) -> StageRow:
    blocks: Sequence[int] = values["blocks"]
    return StageRow(StageSettings(**values["settings"]), values["item_count"], tuple(blocks))
