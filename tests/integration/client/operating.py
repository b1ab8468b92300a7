"""The operators' calls of the scheduler, and its limits, in memory: enough state that what was set is what is listed.

Mixed into the services of `services.py`. What a real scheduler decides (gates, valves, filters) is told by tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from penstock.runtime.errors import Conflict, NotFound
from penstock.v1 import rules_pb2, scheduler_pb2, scheduler_pb2_grpc

S = scheduler_pb2


@dataclass
class Operated:
    """What operators see: chosen by a test, changed by calls."""

    summaries: dict[str, S.RunSummary] = field(default_factory=dict)
    explanations: dict[str, S.Explanation] = field(default_factory=dict)
    gates: list[S.Gate] = field(default_factory=list)
    actions: dict[str, list[S.ItemAction]] = field(default_factory=dict)
    ledger: list[S.LedgerEntry] = field(default_factory=list)
    limits: dict[str, S.Limit] = field(default_factory=dict)
    prices: dict[str, S.Price] = field(default_factory=dict)
    retries: S.Retries = field(default_factory=lambda: S.Retries(allowed=True))


class OperatedScheduler(scheduler_pb2_grpc.SchedulerServiceServicer):
    _state: Any  # services.State

    @property
    def _told(self) -> Operated:
        told: Operated = self._state.operated
        return told

    def _run(self, run_id: str, number: int = 0) -> S.Run:
        raise NotImplementedError

    async def GetRunSummary(self, request: Any, context: Any) -> S.RunSummary:
        self._state.asked("GetRunSummary", request)
        run = self._run(request.run_id)
        summary = self._told.summaries.get(request.run_id, S.RunSummary())
        summary.run.CopyFrom(run)
        return summary

    async def ExplainRun(self, request: Any, context: Any) -> S.Explanation:
        self._state.asked("ExplainRun", request)
        self._run(request.run_id)
        return self._told.explanations.get("run", S.Explanation(state="running", ahead=-1))

    async def ExplainItem(self, request: Any, context: Any) -> S.Explanation:
        self._state.asked("ExplainItem", request)
        return self._told.explanations.get(
            f"{request.stage}/{request.seq}", S.Explanation(state="queued", ahead=request.seq)
        )

    async def UpdateRun(self, request: Any, context: Any) -> S.RunCommandResponse:
        self._state.asked("UpdateRun", request)
        run = self._run(request.run_id)
        if request.HasField("budget_micros"):
            if request.budget_micros < 0:
                run.money.ClearField("budget_micros")
            else:
                run.money.budget_micros = request.budget_micros
        if request.HasField("priority"):
            run.priority = request.priority
        for change in request.stages:
            stage = run.stages[change.stage]
            for name in ("concurrency", "max_tries"):
                if change.HasField(name):
                    setattr(stage, name, getattr(change, name))
            if change.HasField("budget_micros"):
                stage.money.budget_micros = change.budget_micros
        return S.RunCommandResponse(run=run, changed=True)

    async def AnswerGate(self, request: Any, context: Any) -> S.RunCommandResponse:
        self._state.asked("AnswerGate", request)
        gates = self._told.gates
        waiting = [gate for gate in gates if (gate.run_id, gate.name) == (request.run_id, request.gate)]
        if not waiting:
            raise Conflict(f"no gate {request.gate!r} waits in run {request.run_id}", code="gate_not_waiting")
        gates.remove(waiting[0])
        run = self._run(request.run_id)
        approved = request.answer == rules_pb2.GATE_ANSWER_APPROVE
        run.state = S.RUN_STATE_RUNNING if approved else S.RUN_STATE_STOPPED
        run.waiting = ""
        return S.RunCommandResponse(run=run, changed=True)

    async def ListGates(self, request: Any, context: Any) -> S.ListGatesResponse:
        self._state.asked("ListGates", request)
        gates = self._told.gates
        return S.ListGatesResponse(gates=[gate for gate in gates if request.run_id in ("", gate.run_id)])

    async def ActOnItems(self, request: Any, context: Any) -> S.ItemAction:
        self._state.asked("ActOnItems", request)
        self._run(request.run_id)
        action = S.ItemAction(run_id=request.run_id, stage=request.stage, verb=request.verb, done=True)
        action.matched = action.changed = len(request.seqs) or 7
        if request.validate_only:
            return action
        action.action_id = "act-1"
        later = self._told.actions.get("act-1")
        if later:
            action.done, action.changed = False, 0
        return action

    async def GetItemAction(self, request: Any, context: Any) -> S.ItemAction:
        self._state.asked("GetItemAction", request)
        left = self._told.actions.get(request.action_id)
        if not left:
            raise NotFound(f"there is no action {request.action_id}", code="action_not_found")
        return left.pop(0) if len(left) > 1 else left[0]

    async def CloneRun(self, request: Any, context: Any) -> S.Run:
        self._state.asked("CloneRun", request)
        run = S.Run()
        run.CopyFrom(self._run(request.run_id))
        run.number = len(self._state.runs) + 1
        run.cloned_from, run.run_id, run.name = run.run_id, f"run-{run.number}", request.name
        self._state.runs.append(run)
        return run

    async def ListLedger(self, request: Any, context: Any) -> S.ListLedgerResponse:
        self._state.asked("ListLedger", request)
        left = [entry for entry in self._told.ledger if entry.number > request.after_number]
        at, size = int(request.page_token or 0), request.page_size or 100
        more = str(at + size) if at + size < len(left) else ""
        return S.ListLedgerResponse(entries=left[at : at + size], next_page_token=more)

    async def GetRetries(self, request: Any, context: Any) -> S.Retries:
        self._state.asked("GetRetries", request)
        self._told.retries.changed = False
        return self._told.retries

    async def SetRetries(self, request: Any, context: Any) -> S.Retries:
        self._state.asked("SetRetries", request)
        known = self._told.retries
        known.changed = known.allowed != request.allowed
        if known.changed:
            known.allowed, known.actor, known.reason = request.allowed, request.actor, request.reason
        return known


class LimitsOfOperators(scheduler_pb2_grpc.LimitServiceServicer):
    def __init__(self, state: Any) -> None:
        self._state = state

    def _limit(self, key: str) -> S.Limit:
        limits: dict[str, S.Limit] = self._state.operated.limits
        return limits.setdefault(key, S.Limit(key=key, state="open", cooldown_seconds=30))

    async def ListLimits(self, request: Any, context: Any) -> S.ListLimitsResponse:
        self._state.asked("ListLimits", request)
        limits = self._state.operated.limits
        keys = sorted(key for key in limits if key.startswith(request.prefix) and key > request.page_token)
        keys = [key for key in keys if not request.states or limits[key].state in request.states]
        size = request.page_size or 100
        return S.ListLimitsResponse(
            limits=[limits[key] for key in keys[:size]], next_page_token=keys[size - 1] if len(keys) > size else ""
        )

    async def ListLimitEvents(self, request: Any, context: Any) -> S.ListLimitEventsResponse:
        self._state.asked("ListLimitEvents", request)
        events = [S.LimitEvent(key=request.key or "domain:x", number=n, type="limit.closed") for n in (2, 1)]
        return S.ListLimitEventsResponse(events=events[: request.page_size or None])

    async def SetLimit(self, request: Any, context: Any) -> S.Limit:
        self._state.asked("SetLimit", request)
        limit = self._limit(request.limit.key)
        limit.CopyFrom(request.limit)
        limit.state, limit.reason = "open", request.reason
        return limit

    async def DeleteLimit(self, request: Any, context: Any) -> S.DeleteLimitResponse:
        self._state.asked("DeleteLimit", request)
        return S.DeleteLimitResponse(changed=self._state.operated.limits.pop(request.key, None) is not None)

    async def CloseLimit(self, request: Any, context: Any) -> S.Limit:
        self._state.asked("CloseLimit", request)
        limit = self._limit(request.key)
        limit.state, limit.reason = "closed", request.reason
        if request.HasField("until_time"):
            limit.closed_until_time.CopyFrom(request.until_time)
        return limit

    async def OpenLimit(self, request: Any, context: Any) -> S.Limit:
        self._state.asked("OpenLimit", request)
        limit = self._limit(request.key)
        limit.state, limit.reason = "open", request.reason
        limit.ClearField("closed_until_time")
        return limit

    async def ListPrices(self, request: Any, context: Any) -> S.ListPricesResponse:
        self._state.asked("ListPrices", request)
        return S.ListPricesResponse(prices=self._state.operated.prices.values())

    async def SetPrice(self, request: Any, context: Any) -> S.Price:
        self._state.asked("SetPrice", request)
        price = S.Price(processor=request.processor, micros=request.micros)
        self._state.operated.prices[request.processor] = price
        return price
