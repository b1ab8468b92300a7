"""Runs of several stages that are stopped, rejected, failed and taken up again: which stage goes on, and with what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from penstock.runtime.errors import Conflict
from penstock.v1.rules_pb2 import GATE_ANSWER_APPROVE, GATE_ANSWER_REJECT
from scheduler.domain.states import ENDED_STAGES, RunEvent, RunState, StageState
from scheduler.domain.verbs import Verb
from scheduler.store import gates
from scheduler.store.actions import ActionRow, Chunk, apply, insert_action
from scheduler.store.reopening import _reopen_stage, has_left, reopen
from scheduler.store.schema import prices
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


def test_a_resumed_stage_counts_its_failures_anew_against_its_tolerance(desk: Desk) -> None:
    desk.start({"rules": {"tolerance": {"failures": 1}}, "max_tries": 1})

    def fail(*seqs: int) -> None:
        desk.lease(*seqs)
        for seq in seqs:
            assert desk.report(outcome(seq, kind="failed", error="it broke")) == []

    fail(0, 1)
    assert desk.run.state == "failed"
    desk.change(resume)
    (told,) = desk.events("stage.forgiven")
    assert told.actor == "ann"
    assert "2 failures accepted" in told.reason
    fail(2)
    desk.lease(3)
    assert desk.report(outcome(3)) == []
    assert (desk.run.state, desk.stage().failed) == ("running", 3), "one failure since the resume is tolerated"
    fail(4)
    assert (desk.run.state, desk.stage().failed) == ("failed", 4)
    assert desk.stage().error == "2 items failed since it was taken up again; 1 were tolerated"


def test_failures_that_are_tried_again_are_no_longer_accepted_ones(desk: Desk) -> None:
    desk.start({"rules": {"tolerance": {"failures": 0}}, "max_tries": 1})
    desk.lease(0)
    assert desk.report(outcome(0, kind="failed", error="it broke")) == []
    assert desk.run.state == "failed"
    act(desk, Verb.RETRY, 0)
    assert (desk.run.state, desk.stage().forgiven) == ("running", 0)
    (batch,) = desk.grant([0])
    assert desk.report(outcome(0, batch.granted[0].attempt, kind="failed", error="it broke")) == []
    assert desk.run.state == "failed"


def test_a_skipped_healing_gives_back_what_was_set_aside_for_it(desk: Desk) -> None:
    desk.set(prices, processor="noop", micros=10, change_ms=0)
    desk.set(prices, processor="doctor", micros=60, change_ms=0)
    heal = {"attempts": 1, "processor": "doctor", "processor_version": "1", "parameters": b"{}", "budget_micros": 100}
    desk.start({"rules": {"heal": heal}, "max_tries": 1, "paid": True})
    desk.lease(0, 1)
    for seq in (0, 1):
        assert desk.report(outcome(seq, kind="failed", error="it broke", cost_micros=10)) == []
    assert (desk.row(0).state, desk.row(1).state, desk.stage().heal_micros) == ("queued", "failed", 60)
    assert act(desk, Verb.SKIP, 0).changed == 1
    assert (desk.row(0).state, desk.row(0).promised_micros, desk.stage().heal_micros) == ("skipped", 0, 0)
    desk.lease(2)
    assert desk.report(outcome(2, kind="failed", error="it broke", cost_micros=10)) == []
    assert desk.row(2).state == "queued", "60 fit again"


def test_a_failed_run_whose_other_items_were_skipped_has_nothing_to_resume(desk: Desk) -> None:
    desk.start({"total": 2, "max_tries": 1})
    desk.lease(0, 1)
    assert desk.report(outcome(0, kind="failed", error="it broke"), outcome(1, kind="released")) == []
    assert act(desk, Verb.SKIP, 1).changed == 1
    assert desk.run.state == "failed"
    assert not desk.change(has_left), "it would fail again at once"


def test_what_is_refused_goes_back_among_the_ready_while_its_run_may_go_on(desk: Desk) -> None:
    """The run's windows may be opened anew, and leave out what is still proposed, before Redis hears of the refusal."""
    desk.start({"total": 4})
    back = [(1, "d:x", 1), (2, "d:x", 2)]

    def refused(older: int = 0) -> list[tuple[int, str, int]]:
        assert desk.grant([1, 2], lane="d:x", older=older) == []
        assert desk.effects.forget[1, 0] == [(1, "d:x"), (2, "d:x")]
        assert desk.effects.moved == {1}, "and who proposed it looks at the run again"
        return desk.effects.ready[1, 0]

    desk.change(lambda unit: unit.move_run(RunEvent.PAUSE))
    assert refused() == back
    desk.change(lambda unit: unit.move_run(RunEvent.RESUME))
    assert refused(older=1) == back


def test_an_item_of_a_stage_that_had_begun_before_it_was_skipped_is_run_again(desk: Desk) -> None:
    desk.start({"total": 1}, {"total": 2})
    desk.lease(0)
    desk.report(outcome(0))
    desk.lease(0, stage=1)
    desk.report(outcome(0), stage=1)
    desk.change(stop)
    act(desk, Verb.RERUN, 0)
    desk.change(lambda unit: unit.settle_up())
    desk.lease(0)
    desk.report(outcome(0, 2, kind="failed", error_kind="refused", error="no"))
    assert states(desk) == ["failed", "failed", "skipped"]
    assert act(desk, Verb.RERUN, 0, stage=1).changed == 1
    assert states(desk)[2] == "running"


@pytest.mark.parametrize("state", sorted(ENDED_STAGES | {StageState.WAITING}))
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("now", [False, True])
def test_whatever_became_of_a_stage_it_can_be_taken_up_again(
    desk: Desk, state: StageState, begun: bool, now: bool
) -> None:
    desk.start({"total": 1}, {"total": 2})

    def work(unit: RunUnit) -> str:
        stage = unit.stages[1]
        stage.state, stage.start_ms = state, 1 if begun else None
        _reopen_stage(unit, stage, now=now and state is not StageState.WAITING, actor="ann", reason="")
        return str(stage.state)

    assert desk.change(work) == ("running" if now and begun and state is not StageState.WAITING else "pending")
