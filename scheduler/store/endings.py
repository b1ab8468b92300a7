"""What ended attempts do to rows, counters, events and ready items, in the transaction of the call that tells of them.

Two ways to end: a worker's report (`settle_reports`), or the loss of the lease (`lose`). Both read the rows under the
run's lock, decide by `domain.outcomes`, write once. A report that the fence refuses changes nothing but its own event,
and gets the same answer whenever it is sent again.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.outcomes import Backoff, Ended, Ending, decide
from scheduler.domain.states import ItemState, RunState, StageState
from scheduler.store.effects import Effects, Slot
from scheduler.store.items import ItemRow, Settled, record_attempts, rows_of, settle
from scheduler.store.leases import give_back
from scheduler.store.limits import Caution
from scheduler.store.schema import attempts, runs
from scheduler.store.unit import RunUnit, StageRow, lock
from scheduler.watching import Begun

__all__ = ["Endings", "Refusal", "Rules"]

ERROR_CHARACTERS = 4_000
_ENDED_OF_KIND = {
    pb.OUTCOME_KIND_COMPLETED: Ended.COMPLETED,
    pb.OUTCOME_KIND_FAILED: Ended.FAILED,
    pb.OUTCOME_KIND_RELEASED: Ended.RELEASED,
}
_WHY = {
    "superseded": "a later attempt has taken its place",
    "expired": "its lease was lost before the report came",
    "different": "another outcome of this attempt is recorded already",
    "foreign": "the lease belongs to another worker session",
    "stopped": "the run was stopped by force",
    "unknown": "there is no such lease",
}


_NUMBER = sa.select(runs.c.number).where(runs.c.run_id == sa.bindparam("run_id"))


@dataclass(frozen=True)
class Refusal:
    """A report that was refused, and why (a word of the contract)."""

    run_id: str
    stage: int
    seq: int
    attempt: int
    reason: str


@dataclass(frozen=True)
class Rules:
    """What endings need from settings: the back-off, and where its jitter comes from; and what the process remembers
    of careful keys (see `store.limits`)."""

    backoff: Backoff
    jitter: Callable[[], float] = random.random
    caution: Caution | None = None


@dataclass(frozen=True)
class Endings:
    """Ends attempts in one transaction at `now_ms`; effects collect what Redis must hear."""

    connection: sa.Connection
    effects: Effects
    rules: Rules
    now_ms: int
    begun: Begun

    def settle_reports(self, session: str, batches: Iterable[pb.OutcomeBatch]) -> list[Refusal]:
        """Records what holds its fence; answers what was refused."""
        by_run: dict[str, list[pb.OutcomeBatch]] = {}
        for batch in batches:
            by_run.setdefault(batch.run_id, []).append(batch)
        found = ((run_id, self.connection.execute(_NUMBER, {"run_id": run_id}).scalar()) for run_id in by_run)
        numbers = {run_id: number for run_id, number in found if number is not None}
        refused: list[Refusal] = []
        for run_id in sorted(by_run, key=lambda name: numbers.get(name, 0)):
            unit = lock(self.connection, numbers[run_id], self.now_ms) if run_id in numbers else None
            for batch in by_run[run_id]:
                if unit is None or not 0 <= batch.stage < len(unit.stages):
                    refused += [Refusal(run_id, batch.stage, o.seq, o.attempt, "unknown") for o in batch.outcomes]
                else:
                    refused += self._settle_batch(unit, unit.stages[batch.stage], session, batch)
            if unit is not None:
                self._finish(unit)
        return refused

    def lose(self, number: int, stage: int, slots: Sequence[Slot], *, reason: str, handed_back: bool = False) -> int:
        """Ends the running attempts of these items as lost with their worker; returns how many. What the worker
        hands back, or had not begun as far as it said, costs no try. What was proposed and never granted is ready
        again."""
        unit = lock(self.connection, number, self.now_ms)
        if unit is None:
            return 0
        row = unit.stages[stage]
        seqs = [seq for seq, _ in slots]
        found = [r for r in rows_of(self.connection, number, stage, seqs).values() if r.state == ItemState.RUNNING]
        run_id = unit.run.run_id
        ended = [(r, _how(self.begun.has(r.session, (run_id, stage, r.seq, r.attempt)), handed_back)) for r in found]
        self._end_lost(unit, row, ended, reason)
        lost = {r.seq for r in found}
        self.effects.forget.setdefault((number, stage), []).extend(r.slot for r in found)
        startable = unit.run.state == RunState.RUNNING and row.state == StageState.RUNNING
        others = [slot for slot in slots if slot[0] not in lost]
        give_back(self.connection, self.effects, (number, stage), others, startable=startable)
        self._finish(unit)
        return len(found)

    def _settle_batch(self, unit: RunUnit, stage: StageRow, session: str, batch: pb.OutcomeBatch) -> list[Refusal]:
        refused: list[Refusal] = []
        settled: dict[int, Settled] = {}
        kept: list[dict[str, object]] = []
        rows = rows_of(self.connection, unit.run.number, stage.stage, [o.seq for o in batch.outcomes])
        stopping = unit.run.state == RunState.STOPPING
        for outcome in batch.outcomes:
            digest = hashlib.blake2b(outcome.SerializeToString(deterministic=True), digest_size=12).digest()
            row = rows.get(outcome.seq)
            ended = _ENDED_OF_KIND.get(outcome.kind)
            if (
                row is None
                or ended is None
                or row.state != ItemState.RUNNING
                or row.attempt != outcome.attempt
                or row.session != session
                or outcome.seq in settled
            ):
                reason = self._explain(unit, stage, row, outcome, digest, session, settled.get(outcome.seq))
                if reason:
                    refused.append(Refusal(unit.run.run_id, stage.stage, outcome.seq, outcome.attempt, reason))
                continue
            settled[outcome.seq] = self._settled(unit, stage, row, outcome, ended, digest, stopping)
            if settled[outcome.seq].settle_number is None:
                kept.append(self._attempt(stage, row, ended, digest, outcome.error_kind, outcome.error))
        settle(unit, stage, list(settled.values()))
        record_attempts(self.connection, kept)
        key = (unit.run.number, stage.stage)
        self.effects.forget.setdefault(key, []).extend(rows[seq].slot for seq in settled)
        self.effects.ready.setdefault(key, []).extend(
            rows[seq].place for seq, s in settled.items() if s.state == ItemState.QUEUED
        )
        return refused

    def _settled(
        self,
        unit: RunUnit,
        stage: StageRow,
        row: ItemRow,
        outcome: pb.Outcome,
        ended: Ended,
        digest: bytes,
        stopping: bool,
    ) -> Settled:
        decision = decide(
            Ending(
                ended=ended,
                tries=row.tries,
                max_tries=stage.max_tries,
                stopping=stopping,
                permanent=outcome.permanent,
                no_try=outcome.no_try,
            )
        )
        ok = decision.state is ItemState.COMPLETED
        failed = ended is Ended.FAILED
        due_ms = None
        if decision.back_off:
            # What costs no try must wait longer each time all the same.
            waits = row.attempt if outcome.no_try else decision.tries
            due_ms = self.now_ms + self.rules.backoff.delay_ms(waits, self.rules.jitter())
        terminal = decision.state in (ItemState.COMPLETED, ItemState.FAILED)
        if terminal:
            unit.run.settle_number += 1
        if failed:
            unit.emit(
                "item.failed" if decision.state is ItemState.FAILED else "item.retry",
                subject=f"item:{stage.stage}/{outcome.seq}",
                old=ItemState.RUNNING,
                new=decision.state,
                reason=outcome.error[:ERROR_CHARACTERS],
                data={
                    "kind": outcome.error_kind or "item",
                    "attempt": outcome.attempt,
                    "tries": decision.tries,
                    **({"due_ms": due_ms} if due_ms else {}),
                },
            )
        blob = outcome.result_blob if ok and outcome.HasField("result_blob") else None
        return Settled(
            seq=outcome.seq,
            attempt=outcome.attempt,
            state=decision.state,
            tries=decision.tries,
            suspect=decision.suspect,
            end_ms=self.now_ms,
            due_ms=due_ms,
            settle_number=unit.run.settle_number if terminal else None,
            digest=digest if terminal or decision.state is ItemState.STOPPED else None,
            error_kind=(outcome.error_kind or "item") if failed else None,
            error=outcome.error[:ERROR_CHARACTERS] if failed else None,
            result=outcome.result if ok and outcome.result else None,
            result_blob=blob.sha256 if blob else None,
            result_size=blob.size_bytes if blob else None,
        )

    def _explain(
        self,
        unit: RunUnit,
        stage: StageRow,
        row: ItemRow | None,
        outcome: pb.Outcome,
        digest: bytes,
        session: str,
        same_call: Settled | None,
    ) -> str:
        """Why a report does not hold its fence: "" when it is the repetition of one that was accepted."""
        if same_call is not None:
            return "" if same_call.digest == digest else "different"
        if row is None or outcome.attempt > row.attempt or outcome.attempt < 1:
            return "unknown"
        if row.attempt == outcome.attempt and row.state == ItemState.RUNNING:
            return "foreign" if row.session != session else "unknown"
        if row.attempt == outcome.attempt and row.digest is not None:
            return "" if row.digest == digest else "different"
        where = sa.and_(
            attempts.c.run == unit.run.number,
            attempts.c.stage == stage.stage,
            attempts.c.seq == outcome.seq,
            attempts.c.attempt == outcome.attempt,
        )
        kept = self.connection.execute(
            sa.select(attempts.c.ended, attempts.c.digest, attempts.c.refused_digest).where(where)
        ).one_or_none()
        if kept is None:
            reason = "superseded"
        elif kept.digest == digest:
            return ""
        elif kept.digest is not None:
            reason = "different"
        else:
            reason = "stopped" if kept.ended == "stopped" else "expired"
        if kept is None or kept.refused_digest != digest:
            unit.emit(
                "report.refused",
                subject=f"item:{stage.stage}/{outcome.seq}",
                reason=f"late report of attempt {outcome.attempt} refused: {_WHY[reason]}",
                data={"attempt": outcome.attempt, "session": session, "why": reason, "state": row.state},
            )
            if kept is not None:
                self.connection.execute(sa.update(attempts).where(where).values(refused_digest=digest))
        return reason

    def _end_lost(self, unit: RunUnit, stage: StageRow, ended: list[tuple[ItemRow, Ended]], reason: str) -> None:
        settled = []
        kept = []
        places = {row.seq: row.place for row, _ in ended}
        for row, how in ended:
            decision = decide(
                Ending(
                    ended=how,
                    tries=row.tries,
                    max_tries=stage.max_tries,
                    attempt=row.attempt,
                    suspect=row.suspect,
                    stopping=unit.run.state == RunState.STOPPING,
                )
            )
            failed = decision.state is ItemState.FAILED
            if failed:
                unit.run.settle_number += 1
            if how is not Ended.RELEASED:
                unit.emit(
                    "item.failed" if failed else "lease.lost",
                    subject=f"item:{stage.stage}/{row.seq}",
                    old=ItemState.RUNNING,
                    new=decision.state,
                    reason=reason,
                    data={"kind": how, "attempt": row.attempt, "tries": decision.tries, "session": row.session},
                )
            settled.append(
                Settled(
                    seq=row.seq,
                    attempt=row.attempt,
                    state=decision.state,
                    tries=decision.tries,
                    suspect=decision.suspect,
                    end_ms=self.now_ms,
                    due_ms=None,
                    settle_number=unit.run.settle_number if failed else None,
                    digest=None,
                    error_kind="worker_lost" if failed else None,
                    error=reason if failed else None,
                    result=None,
                    result_blob=None,
                    result_size=None,
                )
            )
            kept.append(self._attempt(stage, row, how, None, "worker_lost", reason))
        settle(unit, stage, settled)
        record_attempts(self.connection, kept)
        self.effects.ready.setdefault((unit.run.number, stage.stage), []).extend(
            places[s.seq] for s in settled if s.state == ItemState.QUEUED
        )

    def _attempt(
        self, stage: StageRow, row: ItemRow, ended: Ended, digest: bytes | None, kind: str, error: str
    ) -> dict[str, object]:
        return {
            "run": stage.run,
            "stage": stage.stage,
            "seq": row.seq,
            "attempt": row.attempt,
            "ended": str(ended),
            "session": row.session,
            "start_ms": row.start_ms,
            "end_ms": self.now_ms,
            "digest": digest,
            "refused_digest": None,
            "error_kind": kind or None,
            "error": error[:ERROR_CHARACTERS] or None,
        }

    def _finish(self, unit: RunUnit) -> None:
        unit.settle_up()
        unit.flush()
        self.effects.changed.add(unit.run.number)
        if unit.transitions:
            self.effects.moved.add(unit.run.number)


def _how(begun: bool, handed_back: bool) -> Ended:
    if handed_back:
        return Ended.RELEASED
    return Ended.WORKER_LOST if begun else Ended.UNBEGUN
