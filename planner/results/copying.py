"""Keeps the copy of results up with the scheduler: `catch_up` is the one way in."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from penstock.runtime.blobs import BlobStore, blob_trouble
from penstock.runtime.clock import Clock
from penstock.runtime.errors import NotFound, Unavailable
from penstock.runtime.logs import get_logger
from penstock.runtime.parquet_files import ParquetFiles
from penstock.v1 import scheduler_pb2
from planner.domain.parameter_names import shown_parameters
from planner.domain.stages import StageSettings
from planner.results.ends import Ended, Ends
from planner.results.outcomes import Outcomes
from planner.results.parts import Origin, OutcomeRow, Parts
from planner.results.rows import Move, Part, ResultRows
from planner.sources import keep_file
from planner.staging import Staging, Upload
from planner.store import PlanRow, Store

__all__ = ["Results"]

PART_FILES = 200
PART_ROWS = 200_000
"""Outcomes of one stage that are copied at once, and lost to a planner that dies."""
PART_BYTES = 24 << 20
"""And their bytes: DuckDB reads 2,048 of them at a time, which is past its memory where each is of some 10 kB."""
MERGED = 8
"""So many parts of one level become one of the next."""
CONFIDENCE_BYTES = 4 << 20
"""A result that is a larger blob is not read for its confidence; as much is read at once."""
BLOBS_AT_ONCE = 64

_STATES = {scheduler_pb2.ITEM_STATE_COMPLETED: "completed", scheduler_pb2.ITEM_STATE_FAILED: "failed"}

log = get_logger("results")


@dataclass(frozen=True)
class _OfStage:
    """A stage whose outcomes are copied."""

    run: scheduler_pb2.SettledRun
    plan: PlanRow
    number: int

    @property
    def settings(self) -> StageSettings:
        return self.plan.stages[self.number].settings

    @property
    def origin(self) -> Origin:
        return Origin(
            run_id=self.run.run_id,
            number=self.run.number,
            stage=self.number,
            source=self.plan.source_name or self.plan.source_id,
            processor=self.settings.processor,
            version=self.settings.processor_version,
            parameters=parameters_hash(self.settings.parameters),
        )


@dataclass
class _Gathered:
    """What was read and is not kept yet: files in the upload's folder, and how far they go."""

    upload: Upload
    files: list[Path] = field(default_factory=list)
    moves: dict[tuple[int, int], Move] = field(default_factory=dict)
    runs: dict[int, int] = field(default_factory=dict)  # run number: its settle number, once all of it was read
    count: int = 0

    @property
    def enough(self) -> bool:
        return self.count >= PART_ROWS or len(self.files) >= PART_FILES


class Results:
    """outcomes: None where nobody said where the scheduler is."""

    def __init__(
        self,
        *,
        outcomes: Outcomes | None,
        rows: ResultRows,
        parts: Parts,
        files: ParquetFiles,
        ends: Ends,
        store: Store,
        blobs: BlobStore,
        staging: Staging,
        clock: Clock,
    ) -> None:
        self._outcomes = outcomes
        self._rows = rows
        self._parts = parts
        self._files = files
        self._ends = ends
        self._store = store
        self._blobs = blobs
        self._staging = staging
        self._clock = clock
        self._turn = asyncio.Lock()
        self._begun = self._done = 0

    async def catch_up(self) -> list[Path]:
        """The files of all results up to now: what settled before the call stands in them. Raises Unavailable.

        Callers at one time share the work: who comes while a copy is under way waits for the next one, as all do who
        came meanwhile.
        """
        if self._outcomes is None:
            raise Unavailable(
                "this planner knows no scheduler, so it knows no results: set scheduler_address", code="no_scheduler"
            )
        before = self._begun
        async with self._turn:
            if self._done <= before:
                self._begun += 1
                await self._copy(self._outcomes)
                self._done = self._begun
            return await asyncio.to_thread(self.held)

    def held(self) -> list[Path]:
        """The files of all results that were copied so far."""
        return [self._blobs.path(part.sha256) for part in self._rows.parts()]

    async def sweep(self) -> int:
        """Removes files that were merged, or never came to count, long ago; answers how many."""
        # Not beside a copy: it may just now make such a file again.
        async with self._turn:
            parts, files = await asyncio.to_thread(self._rows.dropped, now_ms=self._clock.now_ms())
            for sha256 in files:
                await asyncio.to_thread(self._blobs.remove, sha256)
            if parts:
                await asyncio.to_thread(self._rows.forget, parts)
        return len(files)

    async def _copy(self, outcomes: Outcomes) -> None:
        known = await asyncio.to_thread(self._rows.final_below)
        after = max(0, known - 1)
        ended: list[Ended] = []
        with self._staging.upload() as upload:
            gathered = _Gathered(upload)
            while True:
                runs, next_after, final_below = await outcomes.settled(after)
                ended += await self._ends.unknown(runs)
                copied = await asyncio.to_thread(self._rows.copied, [run.number for run in runs])
                for run in runs:
                    if copied.get(run.number, 0) < run.settle_number:
                        await self._run(outcomes, run, gathered)
                if not next_after:
                    break
                after = next_after
            await asyncio.to_thread(self._keep, gathered)
        # Once all that it did is kept, and before it is forgotten here.
        for run in ended:
            await self._ends.learn(outcomes, run, await asyncio.to_thread(self.held))
        if final_below > known:
            await asyncio.to_thread(self._rows.finish, final_below)
        await self._merge()

    async def _run(self, outcomes: Outcomes, run: scheduler_pb2.SettledRun, gathered: _Gathered) -> None:
        try:
            plan = await asyncio.to_thread(self._store.plan, run.plan_id, now_ms=self._clock.now_ms())
        except NotFound:
            # Its plan was made elsewhere, or is lost: what its items were nobody can tell any more.
            log.warning("a run's plan is not here; its results are left out", run_id=run.run_id, plan=run.plan_id)
        else:
            cursors = await asyncio.to_thread(self._rows.cursors, run.number)
            for number in range(min(run.stage_count, len(plan.stages))):
                await self._stage(outcomes, _OfStage(run, plan, number), cursors.get(number, 0), gathered)
        gathered.runs[run.number] = run.settle_number
        if gathered.enough:
            await asyncio.to_thread(self._keep, gathered)

    async def _stage(self, outcomes: Outcomes, stage: _OfStage, after: int, gathered: _Gathered) -> None:
        """Reads all outcomes of a stage, in files of PART_ROWS."""
        origin = stage.origin
        while True:
            lines = gathered.upload.path(f"lines{len(gathered.files)}")
            count, last, more = await self._read(outcomes, origin, after, lines)
            if count:
                place = gathered.upload.path(f"part{len(gathered.files)}")
                items = await asyncio.to_thread(self._blobs.path, stage.plan.items_sha256)
                await asyncio.to_thread(self._parts.write, lines, items, place, origin)
                move = await asyncio.to_thread(self._move, stage, place, after, last)
                gathered.files.append(place)
                gathered.count += count
                gathered.moves[origin.number, origin.stage] = move
            await asyncio.to_thread(lines.unlink, missing_ok=True)
            if not more:
                return
            await asyncio.to_thread(self._keep, gathered)
            after = last

    def _move(self, stage: _OfStage, part: Path, after: int, last: int) -> Move:
        # numpy takes a tenth of a second to load: not before the planner is ready.
        from planner.domain.history import HistoryKey
        from planner.results.histories import measured

        settings, run = stage.settings, stage.run
        history = measured(
            self._files,
            part,
            run_id=run.run_id,
            run_ms=run.start_time.ToMilliseconds(),
            max_tries=settings.max_tries,
            max_run_seconds=settings.max_run_seconds,
        )
        key = HistoryKey(settings.processor, settings.processor_version, shown_parameters(settings.parameters))
        return Move(run.number, stage.number, after, last, key, history)

    async def _read(self, outcomes: Outcomes, origin: Origin, after: int, lines: Path) -> tuple[int, int, bool]:
        """Writes the next outcomes of a stage as lines; answers how many, the last settle number, and whether there
        may be more."""
        count, size, last = 0, 0, after
        try:
            with lines.open("wb") as file:
                async for items in outcomes.read(origin.run_id, origin.stage, after):
                    some = await asyncio.to_thread(self._lines, items)
                    await asyncio.to_thread(file.write, some)
                    count, size, last = count + len(items), size + len(some), items[-1].settle_number
                    if count >= PART_ROWS or size >= PART_BYTES:
                        return count, last, True
        except OSError as error:
            raise blob_trouble(error, self._blobs.folder) from error
        return count, last, False

    def _keep(self, gathered: _Gathered) -> None:
        if gathered.files:
            gathered.upload.path("joined").unlink(missing_ok=True)
            rows = self._parts.join(gathered.files, gathered.upload.path("joined"))
            part = self._announced(gathered.upload, "joined", level=0, row_count=rows)
            self._rows.keep(part, list(gathered.moves.values()))
        for number, settled in gathered.runs.items():
            self._rows.reached(number, settled)
        for file in gathered.files:
            file.unlink()
        gathered.files.clear()
        gathered.moves.clear()
        gathered.runs.clear()
        gathered.count = 0

    def _lines(self, items: Sequence[scheduler_pb2.RunItem]) -> bytes:
        lines, asked = list[bytes](), deque[scheduler_pb2.RunItem](items)
        while asked:
            some, size = list[scheduler_pb2.RunItem](), 0
            while asked and (not some or (len(some) < BLOBS_AT_ONCE and size < CONFIDENCE_BYTES)):
                some.append(asked.popleft())
                size += some[-1].result_blob.size_bytes if _read_for_confidence(some[-1]) else 0
            lines += self._some_lines(some)
        return b"".join(lines)

    def _some_lines(self, items: Sequence[scheduler_pb2.RunItem]) -> Iterator[bytes]:
        hashes = [item.result_blob.sha256 for item in items if _read_for_confidence(item)]
        found = dict(zip(hashes, self._blobs.get_each(hashes), strict=True))
        for item in items:
            text = found.get(item.result_blob.sha256, b"") if _read_for_confidence(item) else item.result
            if isinstance(text, Unavailable) and text.code != "blob_damaged":
                raise text
            yield Parts.line(self._row(item, text if isinstance(text, bytes) else b""))  # what is lost has none

    def _row(self, item: scheduler_pb2.RunItem, text: bytes) -> OutcomeRow:
        """text: what its confidence is read from."""
        blob = item.result_blob if item.HasField("result_blob") else None
        return {
            "stage": item.stage,
            "seq": item.seq,
            "settle_number": item.settle_number,
            "key": item.key,
            "group": item.group,
            "state": _STATES[item.state],
            "kind": item.error_kind or None,
            "error": item.error or None,
            "fingerprint": item.fingerprint or None,
            "confidence": confidence_of(text),
            "result": item.result.decode() if item.result else None,
            "result_blob": blob.sha256 if blob is not None else None,
            "cost_micros": item.cost_micros,
            "tries": item.tries,
            "healed": item.healed,
            "start_ms": item.start_time.ToMilliseconds() if item.HasField("start_time") else None,
            "end_ms": item.end_time.ToMilliseconds() if item.HasField("end_time") else None,
        }

    async def _merge(self) -> None:
        """Levels that are full become one part of the next."""
        while True:
            levels: dict[int, list[Part]] = defaultdict(list)
            for part in await asyncio.to_thread(self._rows.parts):
                levels[part.level].append(part)
            full = next((level for level in sorted(levels) if len(levels[level]) >= MERGED), None)
            if full is None:
                return
            await asyncio.to_thread(self._merged, levels[full], full + 1)

    def _merged(self, parts: Sequence[Part], level: int) -> None:
        with self._staging.upload() as upload:
            files = [self._blobs.path(part.sha256) for part in parts]
            rows = self._parts.merge(files, upload.path("part"), beside=self.held())
            merged = self._announced(upload, "part", level=level, row_count=rows)
        self._rows.merged(parts, merged, now_ms=self._clock.now_ms())

    def _announced(self, upload: Upload, name: str, *, level: int, row_count: int) -> int:
        """A file of the upload as a blob that is to be a part; its number."""
        with upload.path(name).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        part = self._rows.announce(level=level, sha256=sha256, row_count=row_count, now_ms=self._clock.now_ms())
        keep_file(upload, name, announced=True)
        return part


def _read_for_confidence(item: scheduler_pb2.RunItem) -> bool:
    """Whether its result is a blob, and no large one."""
    return not item.result and item.HasField("result_blob") and item.result_blob.size_bytes <= CONFIDENCE_BYTES


def parameters_hash(parameters: object) -> str:
    """Equal for equal parameters, however they are written."""
    return hashlib.sha256(orjson.dumps(parameters, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def confidence_of(result: bytes) -> float | None:
    """The top-level number `confidence` of a JSON object; None where there is none."""
    if b'"confidence"' not in result:
        return None
    try:
        value = orjson.loads(result)
    except ValueError:
        return None
    found = value.get("confidence") if isinstance(value, dict) else None
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
