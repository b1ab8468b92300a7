"""DerivePlan after the wire: a plan of some items of another plan, in its order, with its stages and settings.

Used to run again what failed or was never done. The items are copied out of the plan's own file, so that the source
need not be read again; they are numbered from 0. Like any plan it is made once: the same selection is the same plan.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from penstock.runtime.blobs import blob_trouble
from penstock.runtime.clock import Clock
from penstock.runtime.errors import InvalidInput, NotFound
from planner.domain.stages import plan_id
from planner.parquet import Parquet
from planner.sources import DOCUMENTS, keep_file
from planner.staging import Upload
from planner.store import PlanRow, StageRow, Store

__all__ = ["Derivation", "Deriving"]

_SHARED = ("ordering", "rule", "profile")
"""What a plan says of itself that is true of some of its items, too."""


class Derivation:
    """One selection under way: `feed` its seqs, then `finish`. Each call runs in a thread of its own."""

    def __init__(self, deriving: Deriving, upload: Upload, plan: PlanRow, stage: int) -> None:
        self._deriving = deriving
        self._upload = upload
        self._plan = plan
        self._stage = stage
        self._count = 0
        self._last = -1
        self._hash = hashlib.sha256()
        self._file: BinaryIO = upload.open("seqs")

    def feed(self, seqs: Sequence[int]) -> None:
        """Raises InvalidInput for seqs that do not rise, NotFound for those that the stage has not, Unavailable."""
        if not seqs:
            return
        last, count = self._last, self._plan.stages[self._stage].item_count
        for seq in seqs:
            if seq <= last:
                raise InvalidInput(f"seqs must rise: {seq} comes after {last}", code="bad_seq")
            last = seq
        if seqs[0] < 0 or last >= count:
            raise NotFound(
                f"stage {self._stage} of plan {self._plan.plan_id} has no item {last if last >= count else seqs[0]}: "
                f"it has {count:,}, from 0",
                code="item_not_found",
            )
        self._last = last
        self._count += len(seqs)
        packed = array("q", seqs)
        if sys.byteorder == "little":
            packed.byteswap()
        self._hash.update(packed.tobytes())
        try:
            self._file.write(b"\n".join(b"%d" % seq for seq in seqs) + b"\n")
        except OSError as error:
            raise blob_trouble(error, self._upload.blobs.folder) from error

    def finish(
        self,
        *,
        name: str,
        actor: str,
        request_id: str,
        method: str = "DerivePlan",
        details: Mapping[str, Any] | None = None,
        expire_ms: int | None = None,
    ) -> PlanRow:
        """The kept plan, or a draft until `expire_ms`. actor: who made it; details: what it says of itself beside what
        both say.

        Raises InvalidInput when no item was named, Unavailable.
        """
        if not self._count:
            raise InvalidInput("no item was named: a plan has at least one", code="no_items")
        try:
            self._file.close()
        except OSError as error:
            raise blob_trouble(error, self._upload.blobs.folder) from error
        plan, first = self._plan, self._stage
        stages = [stage.settings for stage in plan.stages[first:]]
        selection = {"plan": plan.plan_id, "stage": first, "seqs": self._hash.hexdigest()}
        identity = plan_id(plan.source_id, plan.granularity, stages, selection=selection)
        own = {name: plan.details[name] for name in _SHARED if name in plan.details}
        own |= {"actor": actor} if actor else {}
        asked = Kept(name, request_id, method, {**own, "identity": selection, **(details or {})}, expire_ms)
        return self._deriving.kept(self._upload, plan, first, identity=identity, count=self._count, asked=asked)


@dataclass(frozen=True)
class Kept:
    """How a derived plan is kept."""

    name: str
    request_id: str
    method: str
    details: Mapping[str, Any]
    expire_ms: int | None


class Deriving:
    def __init__(self, *, store: Store, parquet: Parquet, clock: Clock) -> None:
        self._store = store
        self._parquet = parquet
        self._clock = clock

    def begin(self, upload: Upload, plan_name: str, stage: int) -> Derivation:
        """Raises NotFound for a plan or a stage that is not there, InvalidInput for one that can't stand alone."""
        plan = self._store.plan(plan_name, now_ms=self._clock.now_ms())
        if not 0 <= stage < len(plan.stages):
            raise NotFound(
                f"plan {plan_name} has no stage {stage}: it has {len(plan.stages)}, from 0", code="stage_not_found"
            )
        if plan.kind == DOCUMENTS and stage > 0:
            raise InvalidInput(
                f"stage {stage} of a plan of documents works on what the stage before it found: "
                "choose items of stage 0, or retry it in its run",
                code="bad_stages",
            )
        return Derivation(self, upload, plan, stage)

    def kept(self, upload: Upload, plan: PlanRow, first: int, *, identity: str, count: int, asked: Kept) -> PlanRow:
        """The derived plan of the seqs that stand in the upload's file `seqs`; written unless it is there already."""
        now_ms = self._clock.now_ms()
        found = self._store.find_plan(identity, now_ms=now_ms)
        row = found or self._written(upload, plan, first, identity, count)
        wanted = replace(row, name=asked.name, details=asked.details, expire_ms=asked.expire_ms)
        kept = self._store.keep_plan(wanted, request_id=asked.request_id, now_ms=now_ms, method=asked.method)
        return replace(kept, name=asked.name or kept.name)

    def _written(self, upload: Upload, plan: PlanRow, first: int, identity: str, count: int) -> PlanRow:
        place, table = upload.path("plan"), ""
        source = upload.blobs.path(plan.items_sha256)
        self._parquet.derive_plan(source, place, stage=first, seqs=upload.path("seqs"), laned=plan.laned)
        if plan.laned:
            self._parquet.write_lanes(place, upload.path("table"))
            table = keep_file(upload, "table").sha256
        blocks = tuple(self._parquet.blocks(place, stage=0))
        items = keep_file(upload, "plan")
        chosen = StageRow(plan.stages[first].settings, count, blocks)
        return PlanRow(
            plan_id=identity,
            source_id=plan.source_id,
            kind=plan.kind,
            name="",
            granularity=plan.granularity,
            stages=(chosen, *plan.stages[first + 1 :]),
            items_sha256=items.sha256,
            items_bytes=items.size_bytes,
            create_ms=self._clock.now_ms(),
            expire_ms=None,
            lanes_sha256=table,
            # What it does is done of the same source: results are kept by its name.
            source_name=plan.source_name,
            source_version=plan.source_version,
        )
