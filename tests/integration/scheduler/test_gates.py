"""Gates: what waits for a person, both answers, what time answers, and what is refused."""

from __future__ import annotations

import grpc

from penstock.v1 import rules_pb2 as rules
from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.test_actions import act
from tests.integration.scheduler.test_operators import refused
from tests.integration.scheduler.test_runs import work_off
from tests.integration.scheduler.world import World


def gated(**settings: object) -> rules.StageRules:
    return rules.StageRules(gate=rules.GateRules(name="review", **settings))  # type: ignore[arg-type]


def answer(run_id: str, given: rules.GateAnswer.ValueType, gate: str = "review") -> pb.AnswerGateRequest:
    return pb.AnswerGateRequest(run_id=run_id, gate=gate, answer=given, actor="ann", reason="looks right")


async def test_an_approved_gate_lets_its_stage_begin(world: World) -> None:
    run_id = await world.run(3, rules=gated())
    run = await world.get(run_id)
    assert (run.state, run.waiting) == (pb.RUN_STATE_WAITING, "gate review")
    assert run.stages[0].state == pb.STAGE_STATE_WAITING
    worker = world.worker()
    assert await worker.leases(3, wait=0.2) == []
    (gate,) = (await world.runs.ListGates(pb.ListGatesRequest())).gates
    assert (gate.run_id, gate.stage, gate.name, gate.HasField("due_time")) == (run_id, 0, "review", False)
    answered = await world.runs.AnswerGate(answer(run_id, rules.GATE_ANSWER_APPROVE))
    assert (answered.run.state, answered.run.waiting) == (pb.RUN_STATE_RUNNING, "")
    assert not (await world.runs.ListGates(pb.ListGatesRequest(run_id=run_id))).gates
    assert await work_off(worker, run_id, world) == [0, 1, 2]
    (approved,) = await world.events(run_id, "gate.approved")
    assert (approved.actor, approved.reason, approved.subject) == ("ann", "looks right", "stage:0")


async def test_a_rejected_gate_stops_the_run_and_a_resume_asks_again(world: World) -> None:
    run_id = await world.run(3, rules=gated())
    stopped = (await world.runs.AnswerGate(answer(run_id, rules.GATE_ANSWER_REJECT))).run
    assert (stopped.state, stopped.counts.stopped) == (pb.RUN_STATE_STOPPED, 3)
    assert stopped.error == "gate review rejected by ann: looks right"
    code, words = await refused(world.runs.AnswerGate(answer(run_id, rules.GATE_ANSWER_APPROVE)))
    assert (code, "is stopped" in words) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    resumed = (await world.runs.ResumeRun(pb.RunCommand(run_id=run_id))).run
    assert (resumed.state, resumed.waiting) == (pb.RUN_STATE_WAITING, "gate review")
    await world.runs.AnswerGate(answer(run_id, rules.GATE_ANSWER_APPROVE))
    assert await work_off(world.worker(), run_id, world) == [0, 1, 2]


async def test_an_unknown_gate_and_one_that_does_not_wait_are_told_apart(world: World) -> None:
    run_id = await world.run(2, rules=gated())
    code, words = await refused(world.runs.AnswerGate(answer(run_id, rules.GATE_ANSWER_APPROVE, "other")))
    assert (code, "review" in words) == (grpc.StatusCode.NOT_FOUND, True)
    code, words = await refused(world.runs.AnswerGate(answer(run_id, rules.GATE_ANSWER_UNSPECIFIED)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    await world.runs.AnswerGate(answer(run_id, rules.GATE_ANSWER_APPROVE))
    code, words = await refused(world.runs.AnswerGate(answer(run_id, rules.GATE_ANSWER_REJECT)))
    assert (code, "is running" in words) == (grpc.StatusCode.FAILED_PRECONDITION, True)


async def test_nobodys_answer_is_the_default_after_the_timeout(world: World) -> None:
    approved = await world.run(2, rules=gated(timeout_seconds=0.2, default_answer=rules.GATE_ANSWER_APPROVE))
    rejected = await world.run(2, rules=gated(timeout_seconds=0.2))
    waits = await world.run(2, rules=gated())
    await world.until(approved, lambda run: run.state == pb.RUN_STATE_RUNNING)
    stopped = await world.until(rejected, lambda run: run.state == pb.RUN_STATE_STOPPED)
    assert "nobody answered in time" in stopped.error
    assert (await world.get(waits)).state == pb.RUN_STATE_WAITING
    (event,) = await world.events(approved, "gate.approved")
    assert event.actor == "scheduler"


async def test_a_paused_run_at_a_gate_waits_again_when_it_is_resumed(world: World) -> None:
    run_id = await world.run(2, rules=gated())
    assert (await world.runs.PauseRun(pb.RunCommand(run_id=run_id))).run.state == pb.RUN_STATE_PAUSED
    assert len((await world.runs.ListGates(pb.ListGatesRequest())).gates) == 1
    resumed = (await world.runs.ResumeRun(pb.RunCommand(run_id=run_id))).run
    assert (resumed.state, resumed.waiting) == (pb.RUN_STATE_WAITING, "gate review")
    await world.runs.PauseRun(pb.RunCommand(run_id=run_id))
    assert (await world.runs.AnswerGate(answer(run_id, rules.GATE_ANSWER_APPROVE))).run.state == pb.RUN_STATE_PAUSED
    await world.runs.ResumeRun(pb.RunCommand(run_id=run_id))
    assert await work_off(world.worker(), run_id, world) == [0, 1]


async def test_gates_are_listed_in_pages_over_all_runs(world: World) -> None:
    made = [await world.run(1, rules=gated()) for _ in range(3)]
    page = await world.runs.ListGates(pb.ListGatesRequest(page_size=2))
    rest = await world.runs.ListGates(pb.ListGatesRequest(page_size=2, page_token=page.next_page_token))
    assert [gate.run_id for gate in (*page.gates, *rest.gates)] == made
    assert rest.next_page_token == ""


async def test_a_stage_whose_items_were_all_skipped_at_its_gate_ends_when_it_is_approved(world: World) -> None:
    run_id = await world.run(2, rules=gated())
    assert (await act(world, run_id, "skip", seqs=[0, 1])).changed == 2
    answered = await world.runs.AnswerGate(answer(run_id, rules.GATE_ANSWER_APPROVE))
    assert (answered.run.state, answered.run.counts.skipped) == (pb.RUN_STATE_COMPLETED, 2)
