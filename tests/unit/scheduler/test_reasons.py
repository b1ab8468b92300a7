"""The sentences of an explanation: each thing that holds work back is told with what would change it."""

from __future__ import annotations

from scheduler.domain.reasons import (
    KeyNow,
    RunNow,
    StageNow,
    away_reason,
    key_reasons,
    run_reasons,
    stage_reasons,
    wait_reasons,
)
from scheduler.domain.states import ENDED_RUNS, ItemState, RunState, StageState

NOW = 1_000_000


def stage(**changes: object) -> StageNow:
    facts: dict[str, object] = {
        "stage": 0,
        "state": StageState.RUNNING,
        "running": 1,
        "concurrency": 4,
        "worker_class": "default",
        "worker_seen_ms": NOW - 1_000,
        "worker_silent_ms": 60_000,
    }
    return StageNow(**(facts | changes))  # type: ignore[arg-type]


def key(**changes: object) -> KeyNow:
    facts: dict[str, object] = {
        "key": "domain:a",
        "called": "limit domain:a",
        "name": "domain:a",
        "held": 0,
        "concurrency": 2,
        "state": "open",
        "closed_until_ms": 0,
    }
    return KeyNow(**(facts | changes))  # type: ignore[arg-type]


def test_what_may_start_has_no_reason() -> None:
    assert stage_reasons(stage(), NOW) == []
    assert run_reasons(RunNow(state=RunState.RUNNING)) == []
    assert key_reasons([key()], NOW) == []
    assert wait_reasons(ItemState.QUEUED, None, 0, None) == []


def test_every_state_of_a_run_but_running_has_a_reason_and_a_way_out() -> None:
    for state in set(RunState) - {RunState.RUNNING}:
        (reason,) = run_reasons(RunNow(state=state, waiting="gate go", end_ms=5))
        assert reason.text
        assert reason.change
        assert (reason.since_ms == 5) == (state in ENDED_RUNS)


def test_nothing_is_to_be_retried_of_a_run_that_completed() -> None:
    (done,) = run_reasons(RunNow(state=RunState.COMPLETED))
    (some,) = run_reasons(RunNow(state=RunState.COMPLETED_WITH_FAILURES))
    assert (done.change, some.change) == ("re-run its items", "retry or re-run its items, or clone it")


def test_a_plan_is_to_be_made_again_only_where_its_run_left_something() -> None:
    for state in ENDED_RUNS:
        (reason,) = run_reasons(RunNow(state=state, plan_removed=True))
        assert reason.code == "plan_removed"
        assert reason.change == ("" if state is RunState.COMPLETED else "make a plan again")


def test_every_state_of_a_stage_but_running_has_a_reason() -> None:
    for state in set(StageState) - {StageState.RUNNING}:
        (reason,) = stage_reasons(stage(state=state, gate="go", before="stage 0 comes first"), NOW)
        assert reason.text


def test_a_pause_says_who_and_why() -> None:
    (reason,) = run_reasons(RunNow(state=RunState.PAUSED, since_ms=7, actor="ann", reason="lunch"))
    assert (reason.code, reason.text, reason.since_ms) == ("run_paused", "the run was paused by ann: lunch", 7)


def test_a_full_stage_a_used_up_budget_and_a_missing_worker_are_all_told() -> None:
    told = stage_reasons(stage(running=4, budget_micros=10, committed_micros=10, worker_seen_ms=NOW - 60_001), NOW)
    assert [reason.code for reason in told] == ["stage_full", "budget", "no_worker"]
    assert stage_reasons(stage(worker_seen_ms=None), NOW)[0].code == "no_worker"


def test_what_a_class_lacks_is_told_with_what_would_mend_it() -> None:
    lacks = ("the quota is used up", "raise the quota", 5)
    (nobody,) = stage_reasons(stage(worker_seen_ms=None, trouble=lacks), NOW)
    assert nobody.code == "no_worker"
    assert nobody.text.endswith("gives a sign: the quota is used up")
    assert (nobody.change, nobody.since_ms) == ("raise the quota", 5)
    (few,) = stage_reasons(stage(trouble=lacks), NOW)
    assert (few.code, few.change, few.since_ms) == ("few_workers", "raise the quota", 5)


def test_turns_of_other_runs_are_told_only_where_nothing_else_holds() -> None:
    assert [reason.code for reason in stage_reasons(stage(others=(2, 9)), NOW)] == ["turn"]
    assert [reason.code for reason in stage_reasons(stage(others=(2, 9), running=4), NOW)] == ["stage_full"]
    assert stage_reasons(stage(others=(2, 9), room=True), NOW) == []


def test_a_closed_key_says_until_when_and_an_open_one_that_is_full_how_full() -> None:
    (closed,) = key_reasons([key(closed_until_ms=NOW + 5, reason="429", change_ms=3)], NOW)
    assert (closed.code, closed.until_ms, closed.since_ms, closed.key) == ("limit_closed", NOW + 5, 3, "domain:a")
    (shut,) = key_reasons([key(closed_until_ms=None)], NOW)
    assert (shut.until_ms, shut.change) == (None, "open it")
    (full,) = key_reasons([key(held=2, state="ramping")], NOW)
    assert full.code == "limit_full"
    assert "2 of 2 leases are held while it is ramping" in full.text
    assert key_reasons([key(closed_until_ms=NOW - 1)], NOW) == []


def test_while_redis_is_away_its_error_is_told_once() -> None:
    assert away_reason("Redis can't be used: it's full").text == "nothing is leased: Redis can't be used: it's full"
    assert away_reason("nothing is leased: Redis is full").text == "nothing is leased: Redis is full"


def test_a_retry_tells_of_its_due_time_and_of_the_switch() -> None:
    told = wait_reasons(ItemState.RETRY, 9, 2, ("bob", "incident", 4))
    assert [(reason.code, reason.until_ms, reason.since_ms) for reason in told] == [
        ("retries_stopped", None, 4),
        ("back_off", 9, None),
    ]


def test_a_rate_is_told_only_while_it_is_used_up() -> None:
    assert key_reasons([key(concurrency=None)], NOW) == []
    (reason,) = key_reasons([key(concurrency=None, used_up=True)], NOW)
    assert (reason.code, reason.text) == (
        "limit_rate",
        "a rate of limit domain:a is used up for now: more flows in all the time",
    )
