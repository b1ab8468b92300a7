"""What ends attempts: a worker's report, the loss of the lease, time, or force; in the transaction of the call that
tells of it.

All read the rows under the run's lock, decide by `domain.outcomes`, write once (`store.ended`). A report that the fence
refuses is told why (`store.refusals`), and gets the same answer whenever it is sent again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import sqlalchemy as sa

from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.outcomes import ALONE, BEGUN_ALONE, Ended
from scheduler.domain.states import ItemState, Mode
from scheduler.store.effects import Effects, Slot
from scheduler.store.ended import StageEndings
from scheduler.store.held import open_rows, too_long
from scheduler.store.items import ItemRow, rows_of
from scheduler.store.leases import give_back, renewed_since, takes_back
from scheduler.store.locking import Units, lock
from scheduler.store.numbers import numbers_of
from scheduler.store.refusals import Refusal, explain
from scheduler.store.remembered import Held, Remembered
from scheduler.store.rows import StageRow
from scheduler.store.told import Rules, Told
from scheduler.store.unit import RunUnit
from scheduler.watching import Begun

__all__ = ["Endings", "Refusal", "Rules", "Spared"]

KIND_CHARACTERS, FINGERPRINT_CHARACTERS = 40, 100
COMPLETED, WORK = int(pb.OUTCOME_KIND_COMPLETED), int(Mode.WORK)
_ENDED_OF_KIND = {
    pb.OUTCOME_KIND_COMPLETED: Ended.COMPLETED,
    pb.OUTCOME_KIND_FAILED: Ended.FAILED,
    pb.OUTCOME_KIND_RELEASED: Ended.RELEASED,
    pb.OUTCOME_KIND_THROTTLED: Ended.THROTTLED,
    pb.OUTCOME_KIND_DEFERRED: Ended.DEFERRED,
}


@dataclass(frozen=True)
class Spared:
    """Attempts that began after started_ms, and those of sessions that renewed leases after renewed_ms, are not
    lost."""

    started_ms: int
    renewed_ms: int


@dataclass(frozen=True)
class Endings:
    """Ends attempts in one transaction at `now_ms`; effects collect what Redis must hear. units: the runs that the
    call has locked, when other parts of it work on them too; it writes them then. remembered: what this process has
    granted; a report that it does not fit raises Stale, and is decided from the rows when it is made again."""

    connection: sa.Connection
    effects: Effects
    rules: Rules
    now_ms: int
    begun: Begun
    units: Units | None = None
    remembered: Remembered | None = None

    def settle_reports(self, session: str, batches: Collection[pb.OutcomeBatch]) -> list[Refusal]:
        """Records what holds its fence; answers what was refused."""
        if not batches:
            return []
        numbers = numbers_of(self.connection, {batch.run_id for batch in batches})
        units = self.units or Units(self.connection, self.now_ms)
        units.lock(*numbers.values())
        refused: list[Refusal] = []
        for batch in batches:
            unit = units.get(numbers[batch.run_id]) if batch.run_id in numbers else None
            if unit is None or not 0 <= batch.stage < len(unit.stages):
                run_id = batch.run_id
                refused += [Refusal(run_id, batch.stage, o.seq, o.attempt, "unknown") for o in batch.outcomes]
            elif unit.run.archive is not None:
                # Its rows are on their way out, and digests are not in the archive: one answer for all, for ever.
                run_id = batch.run_id
                refused += [Refusal(run_id, batch.stage, o.seq, o.attempt, "archived") for o in batch.outcomes]
            else:
                refused += self._settle_batch(unit, unit.stages[batch.stage], session, batch)
        for number in numbers.values():
            unit = units.get(number)
            if unit is not None:
                unit.settle_up()
        if self.units is None:
            units.finish(self.effects)
        return refused

    def lose(
        self,
        number: int,
        stage: int,
        slots: Sequence[Slot],
        *,
        reason: str,
        handed_back: bool = False,
        session: str = "",
        spared: Spared | None = None,
        kind: str = "",
    ) -> int:
        """Ends the running attempts of these items as lost with their worker; returns how many. What the worker
        hands back, or had not begun as far as it said, costs no try. What was proposed and never granted is ready
        again. session: only what it holds; spared: whose lease has not run out after all; kind: how it was lost."""
        unit = lock(self.connection, number, self.now_ms)
        if unit is None:
            return 0
        row = unit.stages[stage]
        rows = rows_of(self.connection, number, stage, [seq for seq, _ in slots])
        found = [
            item
            for item in rows.values()
            if item.state == ItemState.RUNNING and (not session or item.session == session)
        ]
        # Also of those that are spared: what began to run alone after its neighbours' leases were renewed, and killed
        # their worker, is looked at a moment later than they are.
        alone = {item.session for item in found if item.suspect == BEGUN_ALONE}
        if spared is not None:
            # Since Redis was asked a lease may have been renewed, or lost and granted to another; the next look tells.
            found = [item for item in found if (item.start_ms or 0) <= spared.started_ms]
            renewed = renewed_since(self.connection, {item.session for item in found}, spared.renewed_ms)
            found = [item for item in found if item.session not in renewed]
        ended = StageEndings(unit, row, self.effects, self.rules)
        for item in found:
            lease = (unit.run.run_id, stage, item.seq, item.attempt)
            # What its worker had not begun it has released before: what it hands back without a word is in the midst of
            # being done, and as unknown as what is lost.
            begun = handed_back or item.suspect == BEGUN_ALONE or self.begun.has(item.session, lease)
            back = handed_back and row.repeatable
            how = Ended.RELEASED if back else Ended.WORKER_LOST if begun else Ended.UNBEGUN
            ended.end(item, Told(ended=how, kind=kind, error=reason, excused=item.session in alone))
        ended.close()
        lost = {item.seq for item in found}
        others = [slot for slot in slots if slot[0] not in lost]
        give_back(self.connection, self.effects, (number, stage), others, startable=takes_back(unit, row))
        self._finish(unit)
        return len(found)

    def time_out(self, number: int, stage: int, seqs: Sequence[int]) -> int:
        """Ends attempts that have run for longer than their stage allows, and whose workers did not end them; returns
        how many. Their workers hear it with their next renewal."""
        unit = lock(self.connection, number, self.now_ms)
        if unit is None:
            return 0
        row = unit.stages[stage]
        rows = rows_of(self.connection, number, stage, seqs)
        # Since they were looked for, an attempt may have ended and the next one begun.
        found = []
        for item in rows.values():
            if item.state == ItemState.RUNNING and item.suspect != ALONE:
                lease = (unit.run.run_id, stage, item.seq, item.attempt)
                since = self.begun.since(item.session or "", lease, item.start_ms or 0, now_ms=self.now_ms)
                if too_long(since, row.max_run_seconds, self.now_ms):
                    found.append(item)
        ended = StageEndings(unit, row, self.effects, self.rules)
        reason = f"it ran for longer than {row.max_run_seconds} s, and its worker did not end it"
        for item in found:
            ended.end(item, Told(ended=Ended.TIMED_OUT, error=reason))
        ended.close()
        self._finish(unit)
        return len(found)

    def stop_by_force(self, unit: RunUnit, reason: str) -> None:
        """Ends what runs without its outcome: from this commit on none is accepted. The caller moves and writes the
        unit."""
        for stage in unit.stages:
            if not stage.running:
                continue
            places = open_rows(unit.connection, stage.run, stage.stage, ItemState.RUNNING)
            ended = StageEndings(unit, stage, self.effects, self.rules)
            for row in rows_of(unit.connection, stage.run, stage.stage, [seq for seq, _, _ in places]).values():
                ended.end(row, Told(ended=Ended.STOPPED, error=reason))
            ended.close()

    def _settle_batch(self, unit: RunUnit, stage: StageRow, session: str, batch: pb.OutcomeBatch) -> list[Refusal]:
        refused: list[Refusal] = []
        seen: dict[int, bytes] = {}
        ended = StageEndings(unit, stage, self.effects, self.rules)
        done: list[tuple[ItemRow | Held, pb.Outcome, bytes]] = []
        rest: list[tuple[pb.Outcome, bytes]] = []
        short = not ended.confirms
        known: Mapping[int, Held] = {}
        if short and self.remembered is not None:
            known = self.remembered.take((unit.run.number, stage.stage), [outcome.seq for outcome in batch.outcomes])
        for outcome in batch.outcomes:
            # One text for one outcome: only maps of several entries have an order of their own.
            told = (
                outcome.SerializeToString(deterministic=True) if len(outcome.used) > 1 else outcome.SerializeToString()
            )
            digest = blake2b(told, digest_size=12).digest()
            held = known.get(outcome.seq)
            if (
                held is not None
                and outcome.kind == COMPLETED
                and held.attempt == outcome.attempt
                and held.session == session
                and not outcome.cost_unknown
                and held.seq not in seen
            ):
                seen[held.seq] = digest
                done.append((held, outcome, digest))
            else:
                rest.append((outcome, digest))
        remembered = len(done) > 0
        if rest:
            rows = rows_of(self.connection, unit.run.number, stage.stage, [outcome.seq for outcome, _ in rest])
        for outcome, digest in rest:
            seq, kind = outcome.seq, outcome.kind
            row = rows.get(seq)
            if (
                row is None
                or kind not in _ENDED_OF_KIND
                or row.state != ItemState.RUNNING
                or row.attempt != outcome.attempt
                or row.session != session
                or seq in seen
            ):
                if seq in seen:
                    reason = "" if seen[seq] == digest else "different"
                else:
                    reason = explain(unit, stage, row, outcome, digest, session)
                if reason:
                    refused.append(Refusal(unit.run.run_id, stage.stage, seq, outcome.attempt, reason))
                continue
            seen[seq] = digest
            if short and kind == COMPLETED and row.mode == WORK and not outcome.cost_unknown:
                done.append((row, outcome, digest))
            else:
                ended.end(row, _told(outcome, digest))
        ended.complete(done, remembered=remembered)
        ended.close()
        return refused

    def _finish(self, unit: RunUnit) -> None:
        unit.settle_up()
        unit.flush(self.effects)
        self.effects.changed.add(unit.run.number)
        if unit.transitions:
            self.effects.moved.add(unit.run.number)


def _told(outcome: pb.Outcome, digest: bytes) -> Told:
    blob = outcome.result_blob if outcome.HasField("result_blob") else None
    return Told(
        ended=_ENDED_OF_KIND[outcome.kind],
        kind=outcome.error_kind[:KIND_CHARACTERS],
        error=outcome.error,
        fingerprint=outcome.fingerprint[:FINGERPRINT_CHARACTERS],
        no_try=outcome.no_try,
        permanent=outcome.permanent,
        cost=outcome.cost_micros,
        cost_unknown=outcome.cost_unknown,
        result=outcome.result or None,
        blob=(blob.sha256, blob.size_bytes) if blob else None,
        until_ms=outcome.until_time.ToMilliseconds() if outcome.HasField("until_time") else 0,
        saved=outcome.saved or None,
        limit_key=outcome.limit_key,
        retry_after_seconds=outcome.retry_after_seconds,
        used=dict(outcome.used),
        digest=digest,
    )
