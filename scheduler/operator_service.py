"""gRPC of operators: what changes runs and items. Validate, call, translate; nothing is decided here."""

from __future__ import annotations

from penstock.runtime.errors import InvalidInput
from penstock.runtime.plain_text import plain_text
from penstock.runtime.sql import Database
from penstock.v1 import scheduler_pb2 as pb
from scheduler.commands import Answer, Command, Commands
from scheduler.engine import Engine
from scheduler.run_calls import Context, RunCalls

__all__ = ["OperatorCalls"]


class OperatorCalls(RunCalls):
    """The methods of SchedulerService that change something."""

    def __init__(self, engine: Engine, database: Database, commands: Commands) -> None:
        RunCalls.__init__(self, engine, database)
        self._commands = commands

    async def StartRun(self, request: pb.StartRunRequest, context: Context) -> pb.Run:
        if not request.plan_id:
            raise InvalidInput("plan_id is missing: create a plan first", code="plan_id_missing")
        answer = await self._commands.start(
            plan_id=plain_text(request.plan_id, "plan_id"),
            name=plain_text(request.name, "name"),
            actor=plain_text(request.actor, "actor") or "api",
            request_id=plain_text(request.request_id, "request_id"),
        )
        return await self._run(answer.number)

    async def PauseRun(self, request: pb.RunCommand, context: Context) -> pb.RunCommandResponse:
        return await self._answer(await self._commands.pause(_command(request)))

    async def ResumeRun(self, request: pb.RunCommand, context: Context) -> pb.RunCommandResponse:
        return await self._answer(await self._commands.resume(_command(request)))

    async def StopRun(self, request: pb.StopRunRequest, context: Context) -> pb.RunCommandResponse:
        return await self._answer(await self._commands.stop(_command(request), force=request.force))

    async def _answer(self, answer: Answer) -> pb.RunCommandResponse:
        return pb.RunCommandResponse(run=await self._run(answer.number), changed=answer.changed)


def _command(request: pb.RunCommand | pb.StopRunRequest) -> Command:
    if not request.run_id:
        raise InvalidInput("run_id is missing", code="run_id_missing")
    return Command(
        plain_text(request.run_id, "run_id"),
        plain_text(request.actor, "actor") or "api",
        plain_text(request.reason, "reason", most=2_000),
        plain_text(request.request_id, "request_id"),
    )
