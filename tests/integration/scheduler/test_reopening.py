"""Runs of several stages that are stopped, rejected, failed and taken up again: which stage goes on, and with what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from penstock.runtime.errors import Conflict
from penstock.v1.rules_pb2 import GATE_ANSWER_APPROVE, GATE_ANSWER_REJECT
from scheduler.domain.states import RunEvent, RunState, StageState
from scheduler.domain.verbs import Verb
from scheduler.store import gates
from scheduler.store.actions import ActionRow, Chunk, apply, insert_action
from scheduler.store.reopening import has_left, reopen
from scheduler.store.unit import RunUnit
from tests.integration.scheduler.desk import Desk, outcome


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    one = Desk.open(database_url)
    try:
        yield one
    finally:
        one.close()


def states(desk: Desk) -> list[str]:
    return [desk.run.state, *(desk.stage(index).state for index in range(2))]


def stop(unit: RunUnit) -> None:
    unit.move_run(RunEvent.STOP)
    unit.settle_up()


def resume(unit: RunUnit) -> None:
    assert has_left(unit)
    again = RunEvent.RESUME if unit.run.state == RunState.STOPPED else RunEvent.REOPEN
    reopen(unit, again, actor="ann", reason="")
    unit.settle_up()


def act(desk: Desk, verb: Verb, *seqs: int, stage: int = 0) -> ActionRow:
    def work(unit: RunUnit) -> ActionRow:
        row = ActionRow(
            action_id=f"action-{unit.run.event_number}",
            run=1,
            stage=stage,
            verb=verb,
            seqs=b"[1]",
            filter="",
            actor="ann",
            reason="",
            cursor=-1,
            matched=0,
            changed=0,
            already=0,
            refused=0,
            example="",
            done=False,
            create_ms=desk.now_ms,
            rank=0,
        )
        insert_action(unit.connection, row)
        return apply(unit, desk.effects, row, Chunk(seqs, {}, seqs[-1], True))

    answer: ActionRow = desk.change(work)
    return answer


def test_a_stop_at_the_second_stage_goes_on_there(desk: Desk) -> None:
    desk.start({"total": 2}, {"total": 3})
    desk.lease(0, 1)
    desk.report(outcome(0), outcome(1))
    desk.lease(0, stage=1)
    desk.report(outcome(0), stage=1)
    desk.change(stop)
    assert states(desk) == ["stopped", "completed", "stopped"]
    assert (desk.stage(1).stopped, desk.stage(1).completed) == (2, 1)
    desk.change(resume)
    assert states(desk) == ["running", "completed", "running"]
    assert desk.stage(1).stopped == 0
    desk.lease(1, 2, stage=1)
    desk.report(outcome(1), outcome(2), stage=1)
    assert states(desk) == ["completed", "completed", "completed"]


def test_a_stop_at_the_first_stage_lets_the_second_follow_after_the_resume(desk: Desk) -> None:
    desk.start({"total": 2}, {"total": 1})
    desk.change(stop)
    assert states(desk) == ["stopped", "stopped", "stopped"]
    desk.change(resume)
    assert states(desk) == ["running", "running", "pending"]
    desk.lease(0, 1)
    desk.report(outcome(0), outcome(1))
    assert states(desk) == ["running", "completed", "running"]


def test_a_gate_between_stages_waits_is_rejected_and_asks_anew(desk: Desk) -> None:
    desk.start({"total": 1}, {"total": 1, "rules": {"gate": {"name": "publish"}}})
    desk.lease(0)
    desk.report(outcome(0))
    assert states(desk) == ["waiting", "completed", "waiting"]
    assert desk.stage(1).end_ms is None
    desk.change(lambda unit: gates.answer(unit, "publish", GATE_ANSWER_REJECT, actor="ann", reason="no"))
    assert states(desk) == ["stopped", "completed", "stopped"]
    desk.change(resume)
    assert states(desk) == ["waiting", "completed", "waiting"]
    desk.change(lambda unit: gates.answer(unit, "publish", GATE_ANSWER_APPROVE, actor="ann", reason=""))
    assert states(desk) == ["running", "completed", "running"]


def test_a_rerun_before_a_gate_takes_the_question_back_and_asks_it_after(desk: Desk) -> None:
    desk.start({"total": 1}, {"total": 1, "rules": {"gate": {"name": "publish"}}})
    desk.lease(0)
    desk.report(outcome(0))
    assert act(desk, Verb.RERUN, 0).changed == 1
    assert states(desk) == ["running", "running", "pending"]
    with pytest.raises(Conflict, match="stage 1 is pending"):
        desk.change(lambda unit: gates.answer(unit, "publish", GATE_ANSWER_APPROVE, actor="ann", reason=""))
    desk.lease(0)
    desk.report(outcome(0, 2))
    assert states(desk) == ["waiting", "completed", "waiting"]


def test_a_failed_stage_that_is_retried_brings_back_what_was_skipped_for_it(desk: Desk) -> None:
    desk.start({"total": 2}, {"total": 3})
    desk.lease(0, 1)
    desk.report(*(outcome(seq, kind="failed", permanent=True) for seq in (0, 1)))
    assert states(desk) == ["failed", "failed", "skipped"]
    assert desk.stage(1).skipped == 3
    desk.change(lambda unit: None if has_left(unit) is False else pytest.fail("nothing of it is left"))
    assert act(desk, Verb.RETRY, 1).changed == 1
    assert states(desk) == ["running", "running", "pending"]
    assert (desk.stage(1).skipped, desk.stage().failed) == (0, 1)
    desk.lease(1)
    desk.report(outcome(1, 2))
    assert states(desk) == ["running", "completed", "running"]


def test_a_stage_past_its_tolerance_leaves_its_rest_and_a_resume_goes_on_with_it(desk: Desk) -> None:
    desk.start({"total": 6, "rules": {"tolerance": {"failures": 0}}}, {"total": 1})
    desk.lease(0, 1)
    desk.report(outcome(0), outcome(1, kind="failed", permanent=True))
    assert states(desk) == ["failed", "failed", "skipped"]
    assert (desk.stage().skipped, desk.stage().failed, desk.stage().completed) == (4, 1, 1)
    desk.change(resume)
    assert states(desk) == ["running", "running", "pending"]
    assert desk.stage().skipped == 0
    desk.lease(2)


def test_both_stages_taken_up_run_one_after_the_other(desk: Desk) -> None:
    desk.start({"total": 2}, {"total": 1, "rules": {"gate": {"name": "publish"}}})
    desk.lease(0, 1)
    desk.report(outcome(0), outcome(1))
    desk.change(lambda unit: gates.answer(unit, "publish", GATE_ANSWER_APPROVE, actor="ann", reason=""))
    desk.lease(0, stage=1)
    desk.report(outcome(0), stage=1)
    assert states(desk) == ["completed", "completed", "completed"]
    act(desk, Verb.RERUN, 1)
    act(desk, Verb.RERUN, 0, stage=1)
    assert states(desk) == ["running", "running", "pending"]
    assert desk.grant([0], stage=1) == []
    desk.lease(1)
    desk.report(outcome(1, 2))
    assert states(desk) == ["running", "completed", "running"], "a gate that was passed is not asked again"
    desk.lease(0, stage=1)
    desk.report(outcome(0, 2), stage=1)
    assert states(desk) == ["completed", "completed", "completed"]
    assert [desk.row(0).attempt, desk.row(1).attempt] == [1, 2]


def test_what_a_rerun_item_had_cost_stays_in_the_sums(desk: Desk) -> None:
    desk.start({"total": 1})
    desk.lease(0)
    desk.report(outcome(0, cost_micros=70))
    assert act(desk, Verb.RERUN, 0).changed == 1
    assert (desk.row(0).cost_micros, desk.run.spent_micros) == (70, 70)
    desk.lease(0)
    desk.report(outcome(0, 2, cost_micros=5))
    assert (desk.row(0).cost_micros, desk.run.spent_micros) == (75, 75)


def test_what_was_skipped_by_hand_stays_skipped_when_the_run_is_resumed(desk: Desk) -> None:
    desk.start({"total": 3})
    desk.lease(0, 1)
    desk.report(outcome(0, kind="released"), outcome(1, kind="failed"))
    assert act(desk, Verb.SKIP, 0, 1).changed == 2
    desk.change(stop)
    assert (desk.stage().skipped, desk.stage().stopped, desk.stage().retry) == (2, 1, 0)
    desk.change(resume)
    assert (desk.stage().skipped, desk.stage().stopped) == (2, 0)
    assert desk.stage().state == StageState.RUNNING
    assert desk.grant([0, 1]) == [] or desk.seqs(desk.grant([0, 1])) == []
