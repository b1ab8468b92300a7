"""Plans of catalogs and tables: a selection in an order, written once, and what a preview tells of it.

A preview is the plan: it is written as a draft, and starting it runs exactly that. The same request finds it again by
its id, which says what was selected, in what order, and by which results; so two who preview the same wait for one
file. What fails leaves nothing but files of the upload, which go with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format

from penstock.runtime.clock import Clock
from penstock.runtime.errors import InvalidInput
from penstock.v1 import common_pb2, sources_pb2
from planner.choices import Choices, Chooser, Chosen, problems_as_asked
from planner.domain.objections import Objection, many_items, paid
from planner.domain.stages import plan_id
from planner.naming import Version
from planner.ordered import Ordered, OrderedPlans, is_grouped, no_groups, refuse
from planner.parquet import Parquet
from planner.planning import Planning, PlanRequest, SettledStage
from planner.selecting import problems_of
from planner.sources import keep_file
from planner.staging import Staging, Upload
from planner.store import PlanRow, SourceRow, StageRow, Store
from planner.translate import schema_of
from planner.uploads import in_thread

__all__ = ["TablePlan", "TablePlanning", "kept_items"]

KEPT_KEYS = 1_000
"""A plan remembers a selection's keys up to so many: they are its items, after all."""


def _noticed(error: InvalidInput, chosen: Chosen) -> InvalidInput:
    """Of a selection that matches nothing, with what a person should know of it."""
    if error.code != "selection_empty" or not chosen.notices:
        return error
    return InvalidInput("; ".join([error.message, *(one.message for one in chosen.notices)]), code=error.code)


@dataclass(frozen=True)
class TablePlan:
    """What is asked for besides the stages."""

    selection: sources_pb2.Selection
    ordering: sources_pb2.Ordering
    actor: str


class TablePlanning:
    def __init__(
        self,
        *,
        planning: Planning,
        choices: Choices,
        ordered: OrderedPlans,
        parquet: Parquet,
        staging: Staging,
        store: Store,
        clock: Clock,
        confirm_above_items: int,
    ) -> None:
        self._planning = planning
        self._choices = choices
        self._ordered = ordered
        self._parquet = parquet
        self._staging = staging
        self._store = store
        self._clock = clock
        self._confirm_above = confirm_above_items

    async def create(
        self, source: SourceRow, version: Version | None, request: PlanRequest, asked: TablePlan
    ) -> PlanRow:
        """Raises InvalidInput with everything that is wrong, NotFound, Unavailable."""
        stage = await asyncio.to_thread(self._settled, source, request, asked)
        with self._staging.upload() as upload:
            chooser = Chooser(
                name=version.name if version is not None else source.source_id,
                snapshot=await asyncio.to_thread(upload.blobs.path, source.snapshot_sha256),
                item_count=source.item_count,
                schema=schema_of(source),
                stage=stage.settings,
                processors=await asyncio.to_thread(self._planning.processor_names),
            )
            chosen = await self._choices.chosen(chooser, asked.selection, asked.ordering, upload)
            refuse(problems_of(chosen.wanted))
            identity = plan_id(source.source_id, "", [stage.settings], selection=chosen.identity)
            row = await asyncio.to_thread(self._store.find_plan, identity, now_ms=self._clock.now_ms())
            if row is None:
                try:
                    row = await in_thread(
                        lambda: self._written(identity, source, version, stage, chosen, asked, upload)
                    )
                except InvalidInput as error:
                    raise _noticed(error, chosen) from error
        return await asyncio.to_thread(self._planning.kept, row, request)

    def _settled(self, source: SourceRow, request: PlanRequest, asked: TablePlan) -> SettledStage:
        """Raises InvalidInput; what is wrong with the stage is told together with what is with selection and order."""
        try:
            _, (stage,) = self._planning.settled(source, request)
        except InvalidInput as error:
            refuse([error, *problems_as_asked(schema_of(source), asked.selection, asked.ordering)])
        return stage

    def _written(
        self,
        identity: str,
        source: SourceRow,
        version: Version | None,
        stage: SettledStage,
        chosen: Chosen,
        asked: TablePlan,
        upload: Upload,
    ) -> PlanRow:
        ordered = self._ordered.write(chosen.wanted, upload.path("ordered"), lanes=stage.lanes)
        items, table = kept_items(upload, "ordered", stage, self._parquet, laned=ordered.laned)
        return PlanRow(
            plan_id=identity,
            source_id=source.source_id,
            kind=source.kind,
            name="",
            granularity="",
            stages=(StageRow(stage.settings, ordered.count, ordered.blocks),),
            items_sha256=items.sha256,
            items_bytes=items.size_bytes,
            create_ms=self._clock.now_ms(),
            expire_ms=None,
            lanes_sha256=table,
            source_name=version.name if version is not None else "",
            source_version=version.version if version is not None else 0,
            details=self._details(ordered, stage, chosen, asked),
        )

    def _details(self, ordered: Ordered, stage: SettledStage, chosen: Chosen, asked: TablePlan) -> Mapping[str, Any]:
        """What the plan says of itself beside its stages: fields of its message, `rule`, and what its id hashes of the
        selection, by which another Penstock knows that a file of it is what it says."""
        selection = sources_pb2.Selection()
        selection.CopyFrom(chosen.asked)
        if len(selection.keys.keys) > KEPT_KEYS:
            selection.keys.Clear()
        if len(selection.exclude_keys) > KEPT_KEYS:
            selection.ClearField("exclude_keys")
        needs_confirm = ordered.count > self._confirm_above or stage.settings.paid
        return {
            "selection": json_format.MessageToDict(selection, preserving_proto_field_name=True),
            "ordering": json_format.MessageToDict(asked.ordering, preserving_proto_field_name=True),
            "actor": asked.actor,
            "groups": [{"group": one.group, "count": one.count} for one in ordered.groups],
            "grouped": is_grouped(ordered.groups, group_count=ordered.group_count, count=ordered.count),
            "more_groups": ordered.group_count - len(ordered.groups),
            "left_out": [
                {"code": one.reason.replace(" ", "_"), "reason": one.reason, "count": one.count, "keys": one.examples}
                for one in ordered.left_out
            ],
            "warnings": [one.kept() for one in self._warnings(ordered, stage, chosen)],
            "needs_confirm": needs_confirm,
            "rule": chosen.wanted.rule,
            "identity": chosen.identity,
        }

    def _warnings(self, ordered: Ordered, stage: SettledStage, chosen: Chosen) -> Sequence[Objection]:
        found = list(chosen.notices)
        if ordered.count > self._confirm_above:
            found.append(many_items(ordered.count, self._confirm_above))
        if stage.settings.paid:
            found.append(paid(stage.settings.processor))
        if ordered.unknown_groups:
            found.append(Objection("unknown_groups", no_groups(ordered.unknown_groups)))
        return found


def kept_items(
    upload: Upload, name: str, stage: SettledStage, parquet: Parquet, *, laned: bool | None = None
) -> tuple[common_pb2.BlobRef, str]:
    """The file of the upload with the items of a plan's one stage, kept, and the table of their lanes; "" for none.
    laned: whether the file has lanes already, or no item has keys; None: the processor is to be asked row by row."""
    place, lanes = upload.path(name), upload.path("lanes")
    if laned is None and stage.lanes is not None and stage.lanes.write(parquet, place, lanes):
        name, laned = "plan", True
        parquet.write_plan(place, upload.path(name), [], lanes=lanes)
    if not laned:
        return keep_file(upload, name), ""
    parquet.write_lanes(upload.path(name), upload.path("table"))
    table = keep_file(upload, "table").sha256
    return keep_file(upload, name), table
