"""gRPC of operators: what changes runs and items. Validate, call, translate; nothing is decided here.

An answer means that the change is durable. A call that fails has changed nothing, or is answered from what it changed
when it is made again under the same request id.
"""

from __future__ import annotations

from google.protobuf.message import Message

from penstock.filters import MAX_CHARACTERS
from penstock.runtime.clock import to_timestamp
from penstock.runtime.errors import InvalidInput
from penstock.runtime.paging import page_position
from penstock.runtime.plain_text import plain_text
from penstock.runtime.sql import Database
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1.rules_pb2 import GATE_ANSWER_REJECT
from scheduler.actions import Actions
from scheduler.changes import Changes, RunChanges, StageChanges
from scheduler.cloning import Choice, Cloning
from scheduler.commands import Answer, Command, Commands, Start
from scheduler.domain.verbs import Verb
from scheduler.engine import Engine
from scheduler.previews import Asked
from scheduler.run_calls import Context, RunCalls, actor_of, page_size, reason_of
from scheduler.store.actions import ActionRow
from scheduler.store.requests import Request, digest_of
from scheduler.store.switches import Switch
from scheduler.translate import run_message

__all__ = ["OperatorCalls"]

_Commanding = (
    pb.RunCommand
    | pb.StopRunRequest
    | pb.UpdateRunRequest
    | pb.AnswerGateRequest
    | pb.ActOnItemsRequest
    | pb.CloneRunRequest
)
_VERB_NUMBERS = {verb: pb.ItemVerb.Value(f"ITEM_VERB_{verb.upper()}") for verb in Verb}
_VERBS = {number: verb for verb, number in _VERB_NUMBERS.items()}

STAGE_BITS = 16
STAGE_MASK = (1 << STAGE_BITS) - 1
"""Of a page token of gates: run number, then stage."""


class OperatorCalls(RunCalls):
    """The methods of SchedulerService that change something."""

    def __init__(
        self,
        engine: Engine,
        database: Database,
        *,
        commands: Commands,
        changes: Changes,
        actions: Actions,
        cloning: Cloning,
    ) -> None:
        RunCalls.__init__(self, engine, database)
        self._commands = commands
        self._changes = changes
        self._actions = actions
        self._cloning = cloning

    async def StartRun(self, request: pb.StartRunRequest, context: Context) -> pb.Run:
        if not request.plan_id:
            raise InvalidInput("plan_id is missing: create a plan first", code="plan_id_missing")
        answer = await self._commands.start(
            Start(
                plan_id=plain_text(request.plan_id, "plan_id"),
                name=plain_text(request.name, "name"),
                actor=actor_of(request.actor),
                owner=plain_text(request.owner, "owner"),
                priority=request.priority,
                budget_micros=request.budget_micros if request.HasField("budget_micros") else None,
                exclusive_keys=list(request.exclusive_keys),
                reason=reason_of(request.reason),
                confirm=request.confirm,
                request=self._request(request, "start"),
            )
        )
        if answer.made is None:
            return await self._run(answer.number)
        run, stages, keys = answer.made
        return run_message(run, stages, self._engine.phases, exclusive_keys=keys)

    async def PauseRun(self, request: pb.RunCommand, context: Context) -> pb.RunCommandResponse:
        return await self._answer(await self._commands.pause(self._command(request, "pause")))

    async def ResumeRun(self, request: pb.RunCommand, context: Context) -> pb.RunCommandResponse:
        return await self._answer(await self._commands.resume(self._command(request, "resume")))

    async def StopRun(self, request: pb.StopRunRequest, context: Context) -> pb.RunCommandResponse:
        return await self._answer(await self._commands.stop(self._command(request, "stop"), force=request.force))

    async def UpdateRun(self, request: pb.UpdateRunRequest, context: Context) -> pb.RunCommandResponse:
        asked = RunChanges(
            priority=_given(request, "priority"),
            budget_micros=_given(request, "budget_micros"),
            stages=[
                StageChanges(
                    stage=stage.stage,
                    concurrency=_given(stage, "concurrency"),
                    max_tries=_given(stage, "max_tries"),
                    max_run_seconds=_given(stage, "max_run_seconds"),
                    budget_micros=_given(stage, "budget_micros"),
                    item_budget_micros=_given(stage, "item_budget_micros"),
                )
                for stage in request.stages
            ],
        )
        return await self._answer(await self._changes.update(self._command(request, "update"), asked))

    async def AnswerGate(self, request: pb.AnswerGateRequest, context: Context) -> pb.RunCommandResponse:
        gate = plain_text(request.gate, "gate")
        return await self._answer(await self._changes.answer_gate(self._command(request, "gate"), gate, request.answer))

    async def ListGates(self, request: pb.ListGatesRequest, context: Context) -> pb.ListGatesResponse:
        limit = page_size(request.page_size, 100, 1_000)
        number = await self._find(request.run_id) if request.run_id else None
        position = page_position(request.page_token)
        after = (0, -1) if position is None else (position >> STAGE_BITS, position & STAGE_MASK)
        found = await self._changes.waiting_gates(number, after=after, limit=limit + 1)
        answer = pb.ListGatesResponse()
        for one in found[:limit]:
            answer.gates.add(
                run_id=one.run_id,
                stage=one.stage.stage,
                name=one.gate.name,
                since_time=to_timestamp(one.stage.gate_ms),
                due_time=to_timestamp(one.stage.gate_due_ms),
                default_answer=one.gate.default_answer or GATE_ANSWER_REJECT,
            )
        if len(found) > limit:
            last = found[limit - 1].stage
            answer.next_page_token = str(last.run << STAGE_BITS | last.stage)
        return answer

    async def GetRetries(self, request: pb.GetRetriesRequest, context: Context) -> pb.Retries:
        return _retries(await self._changes.retries(), changed=False)

    async def SetRetries(self, request: pb.SetRetriesRequest, context: Context) -> pb.Retries:
        if request.validate_only:
            now = await self._changes.retries()
            return _retries(now, changed=now.allowed != request.allowed)
        now, changed = await self._changes.set_retries(
            request.allowed,
            actor=actor_of(request.actor),
            reason=reason_of(request.reason),
            request=self._request(request, "retries"),
        )
        self._actions.look_again()
        return _retries(now, changed=changed)

    async def ActOnItems(self, request: pb.ActOnItemsRequest, context: Context) -> pb.ItemAction:
        command = self._command(request, "act")
        verb = _VERBS.get(request.verb)
        if verb is None:
            raise InvalidInput(f"say what is to be done: {', '.join(_VERBS.values())}", code="bad_verb")
        asked = Asked(
            stage=request.stage,
            verb=verb,
            seqs=list(request.seqs),
            filter=plain_text(request.filter, "filter", most=MAX_CHARACTERS),
        )
        if request.validate_only:
            return _action(await self._actions.preview(command.run_id, asked), command.run_id)
        return _action(await self._actions.act(command, asked), command.run_id)

    async def GetItemAction(self, request: pb.GetItemActionRequest, context: Context) -> pb.ItemAction:
        return _action(*await self._actions.get(plain_text(request.action_id, "action_id")))

    async def CloneRun(self, request: pb.CloneRunRequest, context: Context) -> pb.Run:
        command = self._command(request, "clone")
        both = request.failed == request.unfinished
        choice = Choice(failed=both or request.failed, unfinished=both or request.unfinished)
        answer = await self._cloning.clone(command, choice, name=plain_text(request.name, "name"))
        return await self._run(answer.number)

    def _request(self, message: Message, method: str) -> Request:
        """A request without an id gets one: carried out twice (its commit came through and its answer did not), it is
        answered like any other."""
        given = plain_text(message.request_id, "request_id")  # type: ignore[attr-defined]
        return Request(given or self._commands.new_id("request"), method, digest_of(message))

    def _command(self, asked: _Commanding, method: str) -> Command:
        if not asked.run_id:
            raise InvalidInput("run_id is missing", code="run_id_missing")
        return Command(
            plain_text(asked.run_id, "run_id"),
            actor_of(asked.actor),
            reason_of(asked.reason),
            self._request(asked, method),
        )

    async def _answer(self, answer: Answer) -> pb.RunCommandResponse:
        return pb.RunCommandResponse(run=await self._run(answer.number), changed=answer.changed)


def _retries(now: Switch, *, changed: bool) -> pb.Retries:
    since = to_timestamp(now.change_ms)
    return pb.Retries(allowed=now.allowed, changed=changed, actor=now.actor, reason=now.reason, since_time=since)


def _action(row: ActionRow, run_id: str) -> pb.ItemAction:
    return pb.ItemAction(
        action_id=row.action_id,
        run_id=run_id,
        stage=row.stage,
        verb=_VERB_NUMBERS[Verb(row.verb)],
        matched=row.matched,
        changed=row.changed,
        already=row.already,
        refused=row.refused,
        done=row.done,
        example=row.example,
    )


def _given(message: Message, field: str) -> int | None:
    """The field's number, None where it is not set."""
    return getattr(message, field) if message.HasField(field) else None
