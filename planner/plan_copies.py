"""CopyPlan after the wire: the items of a plan in their order, under other settings.

What is not changed stays, and the copy's id is made of the same selection with the new settings: it is the plan that
the same request with these settings would have made while the results that it read were the same. Unless limit keys
change it shares the file of its items. Calls block. Raises InvalidInput, NotFound, Unavailable.
"""

from __future__ import annotations

from dataclasses import replace

from penstock.runtime.clock import Clock
from penstock.runtime.errors import InvalidInput
from penstock.v1 import planner_pb2
from planner.domain.objections import paid
from planner.domain.stages import StageRequest, StageSettings, plan_id
from planner.parquet import Parquet
from planner.planning import Keeping, Planning
from planner.rules import as_message
from planner.staging import Staging
from planner.store import PlanRow, Store
from planner.table_planning import kept_items
from planner.translate import stage_request

__all__ = ["PlanCopies"]


class PlanCopies:
    def __init__(self, *, planning: Planning, parquet: Parquet, staging: Staging, store: Store, clock: Clock) -> None:
        self._planning = planning
        self._parquet = parquet
        self._staging = staging
        self._store = store
        self._clock = clock

    def copy(self, plan: str, changes: planner_pb2.StageSpec, *, name: str, actor: str, request_id: str) -> PlanRow:
        now_ms = self._clock.now_ms()
        old = self._store.plan(plan, now_ms=now_ms)
        if len(old.stages) != 1:
            raise InvalidInput(
                f"plan {old.plan_id} has {len(old.stages)} stages; plans of one stage are copied: make it anew",
                code="plan_not_copied",
            )
        if old.details and "identity" not in old.details and not _taken_whole(old):
            raise InvalidInput(
                f"plan {old.plan_id} was made by an earlier version and does not know what its id is made of: make it "
                "anew",
                code="plan_not_copied",
            )
        stage = self._planning.settled_stage(_changed(old.stages[0].settings, stage_request(0, changes)))
        identity = plan_id(old.source_id, old.granularity, [stage.settings], selection=old.details.get("identity"))
        keeping = Keeping(name=name, request_id=request_id)
        found = self._store.find_plan(identity, now_ms=now_ms)
        if found is not None:
            return self._planning.kept(found, keeping)
        row = replace(
            old,
            plan_id=identity,
            name="",
            stages=(replace(old.stages[0], settings=stage.settings),),
            create_ms=now_ms,
            expire_ms=None,
            change=0,
            details=_details(old, actor, stage.settings),
        )
        if stage.lanes is None:
            return self._planning.kept(replace(row, lanes_sha256=""), keeping)
        with self._staging.upload() as upload:
            file = upload.blobs.path(old.items_sha256).resolve()  # stays until it is read, as long as this does
            upload.path("items").symlink_to(file)
            items, table = kept_items(upload, "items", stage, self._parquet)
        row = replace(row, items_sha256=items.sha256, items_bytes=items.size_bytes, lanes_sha256=table)
        return self._planning.kept(row, keeping)


def _changed(old: StageSettings, asked: StageRequest) -> StageRequest:
    """What is asked for, and for all else what was. Another processor begins with its own parameters and rules."""
    same = asked.processor in ("", old.processor)
    return StageRequest(
        processor=asked.processor or old.processor,
        parameters={**old.parameters, **asked.parameters} if same else asked.parameters,
        concurrency=asked.concurrency or old.concurrency,
        max_tries=asked.max_tries or old.max_tries,
        max_run_seconds=asked.max_run_seconds or old.max_run_seconds,
        worker_class=asked.worker_class or old.worker_class,
        rules=asked.rules or (as_message(old.rules).SerializeToString() if same and old.rules else b""),
    )


def _taken_whole(plan: PlanRow) -> bool:
    """Whether its id is made of its source and its stages alone."""
    stages = [stage.settings for stage in plan.stages]
    return plan.plan_id == plan_id(plan.source_id, plan.granularity, stages)


def _details(old: PlanRow, actor: str, settings: StageSettings) -> dict[str, object]:
    """What the copy says of itself. One of a source that is taken whole asks as little as the plan does."""
    own = {**old.details, "actor": actor}
    return {**own, **_asking(old, settings)} if "identity" in old.details else own


def _asking(old: PlanRow, settings: StageSettings) -> dict[str, object]:
    """Whether the copy asks before it starts: as the plan did, and where it costs money now."""
    warnings = [one for one in old.details.get("warnings", []) if one["code"] != "paid"]
    if settings.paid:
        warnings.append(paid(settings.processor).kept())
    asks = any(one["code"] in ("many_items", "imported", "paid") for one in warnings)
    return {"warnings": warnings, "needs_confirm": asks}
