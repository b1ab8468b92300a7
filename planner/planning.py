"""CreatePlan after the wire: stages checked and filled in, items written to their file, the row kept.

A plan is a row and one Parquet file of all its items; where items have limit keys, a second one of its lanes. All is
made once: the same request again finds the row by its id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from penstock.declared.folder import INSTALLED, Processors
from penstock.processor import Processor, validate_parameters
from penstock.runtime.clock import Clock
from penstock.runtime.errors import InvalidInput, PenstockError
from penstock.runtime.logs import get_logger
from penstock.v1 import planner_pb2, rules_pb2
from penstock.words import DEFAULT_GRANULARITY, GRANULARITIES
from planner.domain.profiles import Profile, profiled
from planner.domain.stages import (
    COLLECTION_KEY,
    DEFAULT_CLASS,
    StageRequest,
    StageSettings,
    document_stages,
    plan_id,
    range_problems,
    with_defaults,
)
from planner.lanes import Lanes, names_limits
from planner.naming import Version
from planner.parquet import LaterItem, Parquet
from planner.profiles import Profiles
from planner.rules import filled_in, gate_problems
from planner.sources import DOCUMENTS, keep_file
from planner.staging import Staging, Upload
from planner.store import PlanRow, SourceRow, StageRow, Store
from planner.worker_classes import ANY_CLASS, WorkerClasses

__all__ = ["Keeping", "PlanRequest", "Planning", "SettledStage", "load"]

log = get_logger("planner")


TASKS = planner_pb2.SOURCE_KIND_TASKS
MOST_STAGES_TOLD = 10


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How a plan is kept: names are no part of it. profile: by which it was asked for."""

    name: str
    request_id: str
    draft: bool = False
    profile: str = ""


@dataclass(frozen=True, kw_only=True)
class PlanRequest(Keeping):
    source_id: str
    stages: Sequence[StageRequest]
    granularity: str
    actor: str = ""


class Planning:
    def __init__(
        self,
        *,
        store: Store,
        parquet: Parquet,
        staging: Staging,
        draft_hours: float,
        clock: Clock,
        processors: Processors = INSTALLED,
        profiles: Profiles | None = None,
        classes: WorkerClasses = ANY_CLASS,
    ) -> None:
        self._store = store
        self._parquet = parquet
        self._staging = staging
        self._draft_ms = int(draft_hours * 3_600_000)
        self._clock = clock
        self._processors = processors
        self._classes = classes
        self.profiles = profiles or Profiles()

    def create(self, request: PlanRequest, version: Version | None = None) -> PlanRow:
        """Raises InvalidInput with everything that is wrong, NotFound for the source, Unavailable."""
        source = self._store.source(request.source_id)
        granularity, chosen = self.settled(source, request)
        now_ms = self._clock.now_ms()
        identity = plan_id(source.source_id, granularity, [stage.settings for stage in chosen])
        row = self._store.find_plan(identity, now_ms=now_ms)
        if row is None:
            row = self._written(identity, source, granularity, chosen)
            if request.actor:
                row = replace(row, details={"actor": request.actor})
            if version is not None:
                row = replace(row, source_name=version.name, source_version=version.version)
        return self.kept(row, request)

    def settled(self, source: SourceRow, request: PlanRequest) -> tuple[str, list[SettledStage]]:
        """The granularity and the stages of a plan of this source. Raises InvalidInput with all that is wrong."""
        profile, problems = None, []
        try:
            granularity = _granularity(source, request)
        except InvalidInput as error:
            granularity = DEFAULT_GRANULARITY
            problems.append(error)
        if request.profile:
            try:
                profile = self.profiles.get(request.profile)
            except InvalidInput as error:
                problems.append(error)
        try:
            requested = _requested(source, request, granularity, profile)
        except InvalidInput as error:
            # Not the stages that such a plan has; what is wrong with each is told all the same.
            requested = request.stages[:MOST_STAGES_TOLD]
            problems.append(error)
        return granularity, _settled(requested, self._processors, self._classes, problems)

    def all_profiles(self, source: SourceRow, request: PlanRequest) -> dict[str, list[SettledStage]]:
        """The stages of this request as each profile would have them; without those whose parameters do not suit its
        processors. Raises InvalidInput for a source or stages that no profile could mend."""
        granularity = _granularity(source, request)
        found = {}
        for profile in self.profiles.all:
            stages = _requested(source, request, granularity, profile)
            try:
                found[profile.name] = _settled(stages, self._processors, self._classes)
            except InvalidInput as error:
                log.info("a profile does not suit a plan", profile=profile.name, why=error.message)
        return found

    def processor_names(self) -> list[str]:
        """Of all that a plan may name now."""
        return self._processors.names()

    def settled_stage(self, stage: StageRequest) -> SettledStage:
        """The one stage of a plan, filled in. Raises InvalidInput with all that is wrong."""
        (settled,) = _settled([stage], self._processors, self._classes)
        return settled

    def kept(self, row: PlanRow, keeping: Keeping) -> PlanRow:
        """The plan as it is kept, or as a draft."""
        now_ms = self._clock.now_ms()
        details = {**row.details, "profile": keeping.profile} if keeping.profile else row.details
        wanted = replace(
            row, name=keeping.name, details=details, expire_ms=now_ms + self._draft_ms if keeping.draft else None
        )
        kept = self._store.keep_plan(wanted, request_id=keeping.request_id, now_ms=now_ms)
        # Names are no part of the plan: who asked by one is answered by it.
        named = {**kept.details, "profile": keeping.profile} if keeping.profile else kept.details
        return replace(kept, name=keeping.name or kept.name, details=named)

    def _written(self, identity: str, source: SourceRow, granularity: str, stages: Sequence[SettledStage]) -> PlanRow:
        later: list[LaterItem] = []
        rows = [StageRow(stages[0].settings, source.item_count, source.blocks)]
        for number, stage in enumerate(stages[1:], 1):
            payload = {"documents_stage": number - 1}
            lane = stage.lanes.of(COLLECTION_KEY, payload) if stage.lanes else ""
            later.append((number, 0, COLLECTION_KEY, "", orjson.dumps(payload).decode(), lane))
            rows.append(StageRow(stage.settings, 1, (0,)))
        with self._staging.upload() as upload:
            place, snapshot = upload.path("plan"), upload.blobs.path(source.snapshot_sha256)
            lanes = self._lanes(upload, snapshot, stages[0], source.item_count, any(item[5] for item in later))
            self._parquet.write_plan(snapshot, place, later, lanes=lanes)
            table = ""
            if lanes is not None:
                self._parquet.write_lanes(place, upload.path("table"))
                table = keep_file(upload, "table").sha256
            items = keep_file(upload, "plan")
        return PlanRow(
            plan_id=identity,
            source_id=source.source_id,
            kind=source.kind,
            name="",
            granularity=granularity,
            stages=tuple(rows),
            items_sha256=items.sha256,
            items_bytes=items.size_bytes,
            create_ms=self._clock.now_ms(),
            expire_ms=None,
            lanes_sha256=table,
        )

    def _lanes(self, upload: Upload, snapshot: Path, stage: SettledStage, count: int, others: bool) -> Path | None:
        """The file of the first stage's lanes; None when no item of the plan has limit keys."""
        place = upload.path("lanes")
        if stage.lanes is not None and stage.lanes.write(self._parquet, snapshot, place):
            return place
        if not others:
            return None
        place.write_bytes(b"=\n" * count)
        return place


@dataclass(frozen=True)
class SettledStage:
    """A stage as it is kept, and who names the limits of its items: None when nobody does."""

    settings: StageSettings
    lanes: Lanes | None


def load(name: str, processors: Processors = INSTALLED, *, disabled_too: bool = False) -> type[Processor[Any]]:
    """A processor by its name. Raises NotFound that lists them, InvalidInput for one that can't be used."""
    try:
        return processors.look_up(name) if disabled_too else processors.load(name)
    except PenstockError:
        raise
    except Exception as error:  # a plug-in may fail in any way when it is imported
        raise InvalidInput(
            f"processor {name!r} is installed and does not load: {type(error).__name__}: {error}", code="bad_processor"
        ) from error


def _granularity(source: SourceRow, request: PlanRequest) -> str:
    if source.kind != DOCUMENTS:
        if request.granularity:
            raise InvalidInput("granularity is for documents; these are plain items", code="bad_granularity")
        return ""
    granularity = request.granularity or DEFAULT_GRANULARITY
    if granularity not in GRANULARITIES:
        raise InvalidInput(
            f"granularity is {granularity!r}; it may be {' or '.join(GRANULARITIES)}", code="bad_granularity"
        )
    return granularity


def _requested(
    source: SourceRow, request: PlanRequest, granularity: str, profile: Profile | None
) -> Sequence[StageRequest]:
    if source.kind != DOCUMENTS:
        if len(request.stages) != 1:
            raise InvalidInput(
                f"a plan of items has exactly one stage, {len(request.stages)} were given", code="bad_stages"
            )
        stages = [_one_by_one(stage) for stage in request.stages] if source.kind == TASKS else request.stages
        return [profiled(stage, profile) for stage in stages] if profile else stages
    usual = document_stages(granularity)
    asked = request.stages or [StageRequest(stage.processor, {}) for stage in usual]
    given = [stage.processor for stage in asked]
    expected = [stage.processor for stage in usual]
    if given != expected:
        raise InvalidInput(
            f"a plan of documents has the stages {', '.join(expected)} (leave them out); given were {', '.join(given)}",
            code="bad_stages",
        )
    if profile is not None:
        # The collection is one long item: what suits many short ones would end it too soon.
        alone = Profile(profile.name, parameters=profile.parameters)
        asked = [profiled(stage, profile if place == 0 else alone) for place, stage in enumerate(asked)]
    return [
        StageRequest(
            processor=stage.processor,
            # The plan's granularity is the one truth; a stage may repeat it.
            parameters={**stage.parameters, **default.parameters},
            concurrency=stage.concurrency or default.concurrency,
            max_tries=stage.max_tries or default.max_tries,
            max_run_seconds=stage.max_run_seconds or default.max_run_seconds,
            worker_class=stage.worker_class,
            rules=stage.rules,
        )
        for stage, default in zip(asked, usual, strict=True)
    ]


def _one_by_one(stage: StageRequest) -> StageRequest:
    """Tasks stand in an order in which each may need those before it: one at a time, unless somebody says otherwise."""
    return replace(stage, concurrency=stage.concurrency or 1)


def _settled(
    requested: Sequence[StageRequest],
    processors: Processors,
    classes: WorkerClasses,
    found: Sequence[InvalidInput] = (),
) -> list[SettledStage]:
    """`found`: what is known to be wrong besides."""
    find = partial(load, processors=processors)
    problems = [error.message for error in found]
    codes = [error.code for error in found]
    settled = []
    for number, stage in enumerate(requested):
        if ranges := range_problems(number, stage):
            problems += ranges
            codes.append("bad_stages")
        if unknown := classes.problem(stage.worker_class or DEFAULT_CLASS):
            problems.append(f"stage {number}: {unknown}")
            codes.append("unknown_worker_class")
        processor, parameters = None, None
        try:
            processor = find(stage.processor)
            parameters = validate_parameters(processor, stage.parameters)
        except PenstockError as error:
            problems.append(f"stage {number}: {error.message}")
            codes.append(error.code)
        message = rules_pb2.StageRules.FromString(stage.rules)
        filled = filled_in(number, message, processor=processor, parameters=parameters, load=find)
        if filled.problems:
            problems += filled.problems
            codes.append("bad_rules")
        if processor is None or parameters is None:
            continue
        settings = with_defaults(
            stage,
            version=processor.version,
            parameters=parameters.model_dump(mode="json"),
            rules=filled.rules,
            paid=processor.is_paid(parameters),
            repeatable=processor.is_repeatable(parameters) and filled.repeatable,
        )
        settled.append(SettledStage(settings, Lanes(processor, parameters) if names_limits(processor) else None))
    if twice := gate_problems([rules_pb2.StageRules.FromString(stage.rules) for stage in requested]):
        problems += twice
        codes.append("bad_rules")
    if problems:
        told = {"codes": ",".join(dict.fromkeys(codes))} if len(set(codes)) > 1 else {}
        raise InvalidInput("; ".join(problems), code=codes[0], **told)
    return settled
