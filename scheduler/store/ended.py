"""What ended attempts of one stage do: to rows, counters, money, events, limits, tallies and what is ready.

Collected while a call goes through its attempts, each decided by `domain.outcomes`, and written once by `close`, under
the run's lock. Completions, of which there are most, take the short way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import orjson

from penstock.runtime import metrics
from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.fingerprints import fingerprint
from scheduler.domain.outcomes import ALONE, LOST, WITH_WORKER, Backoff, Decision, Ended, Ending, decide, kind_of
from scheduler.domain.rules import BLAMELESS, LOST_KINDS, Kind, Retry
from scheduler.domain.states import ItemState, Mode, RunState
from scheduler.store import money, switches, tallies
from scheduler.store.effects import Effects, Place, Slot
from scheduler.store.items import Completed, ItemRow, Settled, complete, record_attempts, settle
from scheduler.store.limits import Valves
from scheduler.store.remembered import Held
from scheduler.store.rows import StageRow
from scheduler.store.stage_rules import stage_rules
from scheduler.store.told import Rules, Told
from scheduler.store.unit import RunUnit

__all__ = ["StageEndings"]

ERROR_CHARACTERS = 4_000
CONTEXT_CHARACTERS = 16_000
_FAILURES = frozenset({Ended.FAILED, Ended.WORKER_LOST, Ended.TIMED_OUT})
_NOT_THE_STAGES = LOST_KINDS | {Kind.UNAVAILABLE, Kind.CANCELLED, Kind.BUDGET}
"""Kinds of failure that close no valve: the stage's work, and what it talks to, are not at fault."""


@lru_cache(maxsize=1_024)
def _estimates(uses: str) -> Mapping[str, float]:
    estimates: Mapping[str, float] = orjson.loads(uses)
    return estimates


@dataclass
class StageEndings:
    """Ended attempts of one stage in one transaction. Their rows were read under the run's lock, by the caller."""

    unit: RunUnit
    stage: StageRow
    effects: Effects
    rules: Rules
    _completed: list[Completed] = field(default_factory=list)
    _settled: list[Settled] = field(default_factory=list)
    _attempts: list[dict[str, object]] = field(default_factory=list)
    _forget: list[Slot] = field(default_factory=list)
    _ready: list[Place] = field(default_factory=list)
    _failures: list[tuple[str, str, int, str, str]] = field(default_factory=list)
    _passed: list[tuple[str, int]] = field(default_factory=list)
    _equal: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)
    _throttles: list[tuple[ItemRow, Told]] = field(default_factory=list)
    _uses: dict[tuple[str, str | None], dict[str, list[int]]] = field(default_factory=dict)
    _retries_off: bool | None = None
    _remembered: bool = False

    def __post_init__(self) -> None:
        self._own = stage_rules(self.stage.rules)
        self.confirms = self._own.confirm is not None
        self.stopping = self.unit.run.state == RunState.STOPPING
        self._bill = self.unit.bill(self.stage)

    def complete(self, done: Sequence[tuple[ItemRow | Held, pb.Outcome, bytes]], *, remembered: bool = False) -> None:
        """The common case, in one go: work is done, its cost is told, and no second witness is asked for; each with
        the digest of its report. remembered: not all of the rows were read; `close` may raise Stale then."""
        self._remembered = remembered
        run, now_ms = self.unit.run, self.unit.now_ms
        number = run.settle_number
        told: list[tuple[int, int, int, int]] = []
        for row, outcome, digest in done:
            number += 1
            seq, attempt, lane, cost, used = row.seq, row.attempt, row.lane, outcome.cost_micros, outcome.used
            sha256 = size = None
            result = outcome.result or None
            if outcome.HasField("result_blob"):
                sha256, size = outcome.result_blob.sha256, outcome.result_blob.size_bytes
            reserved = row.reserved_micros
            self._completed.append(
                (now_ms, number, digest, result, sha256, size, cost, seq, attempt, row.session, reserved)
            )
            self._forget.append((seq, lane))
            self._passed.append((lane, row.start_ms or 0))
            told.append((seq, attempt, cost, reserved))
            if used:
                self._use(row, used)
        run.settle_number = number
        self._bill.settle_all(told)
        if self.stage.paid:
            self._bill.costs.update([cost for _, _, cost, _ in told])

    def end(self, row: ItemRow, told: Told) -> None:
        """Any other end."""
        unit, stage = self.unit, self.stage
        mode, ended = Mode(row.mode), told.ended
        kind = kind_of(ended, told.kind, mode=mode, no_try=told.no_try, repeatable=stage.repeatable)
        equal = (told.fingerprint or fingerprint(kind, told.error)) if kind else ""
        retry = self._own.retry_for(kind, equal) if kind else None
        if told.cost is None or (told.cost_unknown and told.cost < row.reserved_micros):
            cost = row.reserved_micros
            self._bill.unknown(row)
        else:
            cost = told.cost
            self._bill.settle(row, cost)
            if stage.paid and mode is Mode.WORK and ended in (Ended.COMPLETED, Ended.FAILED) and not told.no_try:
                self._bill.learn(cost)
        spent = row.cost_micros + cost
        promise = self._promise(row, kind, spent)
        decision = decide(
            Ending(
                ended=ended,
                tries=row.tries,
                max_tries=retry.max_tries if retry and retry.max_tries is not None else stage.max_tries,
                attempt=row.attempt,
                suspect=row.suspect,
                stopping=self.stopping,
                permanent=told.permanent,
                no_try=told.no_try,
                kind=kind,
                mode=mode,
                heals=row.heals,
                confirms=self.confirms,
                healable=promise is not None,
                named=retry is not None and retry.names(kind),
                retries_off=ended in _FAILURES and self._off(),
                waits=retry is not None and retry.first_seconds > 0,
                affordable=ended not in _FAILURES or money.affordable(unit, stage, spent),
                excused=told.excused,
                blameless=told.kind in BLAMELESS,
            )
        )
        self._write(row, told, decision, equal, retry, cost, promise or 0)
        if ended is Ended.THROTTLED:
            self._throttles.append((row, told))
        if ended in (Ended.FAILED, Ended.TIMED_OUT) and not told.no_try and kind not in _NOT_THE_STAGES:
            count, begun = self._equal.get((row.lane, equal, kind), (0, 0))
            self._equal[row.lane, equal, kind] = count + 1, max(begun, row.start_ms or 0)
        elif ended is Ended.COMPLETED:
            self._passed.append((row.lane, row.start_ms or 0))
        if ended is Ended.RELEASED:
            self._use(row, dict.fromkeys(_estimates(row.uses), 0) | dict(told.used) if row.uses else told.used)
        elif told.used:
            self._use(row, told.used)

    def _write(
        self,
        row: ItemRow,
        told: Told,
        decision: Decision,
        equal: str,
        retry: Retry | None,
        cost: int,
        promise: int,
    ) -> None:
        unit, stage, ended, state = self.unit, self.stage, told.ended, decision.state
        done, failed = state is ItemState.COMPLETED, state is ItemState.FAILED
        if done or failed:
            unit.run.settle_number += 1
        due_ms = self._due(row, told, decision, retry)
        healing = decision.mode is Mode.HEAL and not failed
        if healing:
            if decision.heals == row.heals and ended is not Ended.WORKER_LOST:
                promise = self._within_heals(row.promised_micros)
            stage.heal_micros += promise
        confirming = decision.mode is Mode.CONFIRM and not failed
        # What heals hears of the failure of the work, not of the worker that was lost in healing it.
        same = decision.heals == row.heals or ended in WITH_WORKER
        keeps = not done and not failed and decision.mode == row.mode and same
        error = told.error[:ERROR_CHARACTERS] if decision.kind else ""
        if decision.kind == Kind.BUDGET and told.kind != Kind.BUDGET:
            error = f"another attempt would pass the item's own cap; before: {error}"
        context = None
        if healing and not keeps:
            context = self._context(row, told, decision, equal)
        elif confirming and not keeps:
            context = told.claimed()
        claims = confirming and ended is Ended.COMPLETED
        says = claims or (done and row.mode != Mode.CONFIRM)
        sha256, size = (told.blob if says else None) or (None, None)
        # What a deferred attempt saved outlives all but a failure of the work itself, and a new word.
        forgets = done or failed or claims or (ended is Ended.FAILED and not told.no_try)
        self._settled.append(
            Settled(
                state=state,
                tries=decision.tries,
                suspect=decision.suspect,
                end_ms=unit.now_ms,
                due_ms=due_ms,
                settle_number=unit.run.settle_number if done or failed else None,
                digest=told.digest if done or failed or state is ItemState.STOPPED else None,
                error_kind=decision.kind or None,
                error=error or None,
                keep_result=row.mode == Mode.CONFIRM and (done or confirming),
                result=told.result if says else None,
                result_blob=sha256,
                result_size=size,
                mode=decision.mode,
                heals=decision.heals,
                healed=done and row.heals > 0,
                fingerprint=equal or None,
                cost_micros=cost,
                keep_context=keeps and decision.mode is not Mode.WORK,
                context=context,
                promised_micros=promise if healing else 0,
                keep_saved=not forgets and ended is not Ended.DEFERRED,
                saved=told.saved if ended is Ended.DEFERRED else None,
                seq=row.seq,
                attempt=row.attempt,
            )
        )
        self._forget.append(row.slot)
        if state is ItemState.QUEUED:
            self._ready.append(row.place)
        if not (done or failed) or ended in LOST:
            self._attempts.append(self._attempt(row, told, decision, error, equal))
        if decision.kind and (failed or ended in _FAILURES):
            self._failures.append((equal, decision.kind, row.seq, row.key, error))
        self._tell(row, told, decision, error, equal, due_ms)

    def _due(self, row: ItemRow, told: Told, decision: Decision, retry: Retry | None) -> int | None:
        if decision.state is ItemState.DEFERRED:
            return max(told.until_ms or self.unit.now_ms + round(told.retry_after_seconds * 1000), self.unit.now_ms)
        if not decision.back_off:
            return None
        backoff = self.rules.backoff
        if retry is not None and (retry.first_seconds or retry.max_seconds):
            first = retry.first_seconds or backoff.first_seconds
            backoff = Backoff(first, retry.max_seconds or max(backoff.max_seconds, first), retry.factor)
        # What costs no try must wait longer each time all the same.
        waits = row.attempt if told.no_try else decision.tries
        return self.unit.now_ms + backoff.delay_ms(waits, self.rules.jitter())

    def _promise(self, row: ItemRow, kind: str, spent: int) -> int | None:
        """What would be set aside for healing this failure; None: it is not healed."""
        heal, stage = self._own.heal, self.stage
        # What is healed was taken for its failure; that healing was lost with a worker says nothing against it.
        lost = row.mode == Mode.HEAL and kind in LOST_KINDS
        if heal is None or not kind or not (lost or heal.takes(kind)):
            return None
        if row.heals >= heal.attempts and not (lost and row.suspect < ALONE):
            return None
        price = money.price(self.unit, stage, Mode.HEAL)
        if price is None:
            if heal.budget_micros is not None or money.budgeted(self.unit.run, stage):
                return None
            price = 0
        if stage.item_budget_micros is not None:
            left = stage.item_budget_micros - spent
            if left < 1 and price:
                return None
            price = min(price, max(left, 0))
        if heal.budget_micros is not None and stage.heal_micros + price > heal.budget_micros:
            return None
        return price

    def _within_heals(self, micros: int) -> int:
        heal = self._own.heal
        if heal is None or heal.budget_micros is None:
            return micros
        return max(min(micros, heal.budget_micros - self.stage.heal_micros), 0)

    def _context(self, row: ItemRow, told: Told, decision: Decision, equal: str) -> bytes:
        """What the healing lease is told of the failure."""
        context: dict[str, object] = {
            "kind": decision.kind,
            "error": told.error[:CONTEXT_CHARACTERS],
            "fingerprint": equal,
            "attempt": row.attempt,
            "tries": decision.tries,
        }
        if told.result:
            context["details"] = orjson.Fragment(told.result)
        return orjson.dumps(context)

    def _attempt(self, row: ItemRow, told: Told, decision: Decision, error: str, equal: str) -> dict[str, object]:
        return {
            "run": self.stage.run,
            "stage": self.stage.stage,
            "seq": row.seq,
            "attempt": row.attempt,
            "ended": str(told.ended),
            "session": row.session,
            "start_ms": row.start_ms,
            "end_ms": self.unit.now_ms,
            "digest": told.digest,
            "refused_digest": None,
            "error_kind": decision.kind or None,
            "error": error or None,
            "mode": row.mode,
            "fingerprint": equal or None,
            "reserved_micros": row.reserved_micros,
            "cost_micros": told.cost,
        }

    def _tell(self, row: ItemRow, told: Told, decision: Decision, error: str, equal: str, due_ms: int | None) -> None:
        state, ended = decision.state, told.ended
        data: dict[str, object] = {"attempt": row.attempt, "tries": decision.tries}
        if decision.kind:
            data |= {"kind": decision.kind, "fingerprint": equal}
        if due_ms is not None:
            data["due_ms"] = due_ms
        if decision.held:
            data["held"] = True
        reason = error
        if state is ItemState.FAILED:
            type_ = "item.failed"
        elif decision.mode is Mode.HEAL and decision.heals > row.heals:
            type_, data["heals"] = "item.heal", decision.heals
        elif ended in WITH_WORKER:
            type_ = "lease.lost"
        elif ended in _FAILURES:
            type_ = "item.retry"
        elif ended is Ended.DEFERRED:
            type_, reason = "item.deferred", "it waits for something outside"
        elif ended is Ended.COMPLETED and state is not ItemState.COMPLETED:
            type_, reason = "item.claimed", "its work claims to be done; a second witness is asked"
        elif ended is Ended.COMPLETED:
            type_ = "item.healed" if row.heals else "item.confirmed"
        else:
            return
        if ended in LOST:
            data["session"] = row.session
        self.unit.emit(
            type_,
            subject=f"item:{self.stage.stage}/{row.seq}",
            old=ItemState.RUNNING,
            new=state,
            reason=reason,
            data=data,
        )

    def _use(self, row: ItemRow | Held, used: Mapping[str, int]) -> None:
        """What was used, against what was estimated when it was leased."""
        sums = self._uses.get((row.lane, row.uses))
        if sums is None:
            sums = self._uses[row.lane, row.uses] = {}
        for dimension in used:
            known = sums.get(dimension)
            if known is None:
                known = sums[dimension] = [0, 0]
            known[0] += 1
            known[1] += used[dimension]

    def _tell_uses(self) -> None:
        for (lane, uses), sums in self._uses.items():
            estimates = _estimates(uses) if uses else {}
            more = {}
            for dimension, (count, total) in sums.items():
                more[dimension] = total - count * estimates.get(dimension, 0)
                if total:
                    self._bill.use(dimension, count, total)
            self.effects.use(lane, more)

    def _off(self) -> bool:
        if self._retries_off is None:
            self._retries_off = not switches.retries_allowed(self.unit.connection)
        return self._retries_off

    def _count(self) -> None:
        states = Counter({ItemState.COMPLETED: len(self._completed)})
        states.update(ItemState(one.state) for one in self._settled)
        self.effects.counts += [
            (metrics.ATTEMPTS_ENDED.labels(state), count) for state, count in states.items() if count
        ]

    def close(self) -> None:
        """Writes it all."""
        unit, stage, connection = self.unit, self.stage, self.unit.connection
        key = unit.run.number, stage.stage
        before = stage.completed + stage.failed
        self._tell_uses()
        self._count()
        complete(unit, stage, self._completed, remembered=self._remembered)
        settle(unit, stage, self._settled)
        record_attempts(connection, self._attempts)
        if self._failures:
            tallies.note_failures(connection, *key, self._failures, unit.now_ms)
        tallies.note_settled(connection, unit.run.number, unit.now_ms, stage.completed + stage.failed - before)
        self.effects.forget.setdefault(key, []).extend(self._forget)
        self.effects.ready.setdefault(key, []).extend(self._ready)
        valves = Valves(connection, self.effects, unit.now_ms, self.rules.caution)
        if self._throttles:
            valves.lock(told.limit_key for _, told in self._throttles)
        for row, told in self._throttles:
            valves.throttled(
                unit,
                stage,
                key=told.limit_key,
                retry_after_seconds=told.retry_after_seconds,
                seq=row.seq,
                lane=row.lane,
                begun_ms=row.start_ms,
            )
        for (lane, equal, kind), (count, begun_ms) in self._equal.items():
            valves.failed(unit, stage, lane=lane, fingerprint=equal, count=count, kind=kind, begun_ms=begun_ms)
        valves.completed(unit, stage, self._passed)
        tolerance = self._own.tolerance
        why = (
            tolerance.passed(stage.failed, stage.total, forgiven=stage.forgiven)
            if tolerance and not stage.failing
            else ""
        )
        if why:
            stage.failing = why
            unit.transitions += 1
            unit.emit("stage.failing", subject=f"stage:{stage.stage}", reason=why)
