"""What goes wrong: kinds, retry rules, healing, second witnesses, deferrals, throttles, unknown ends, tolerance."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from scheduler.domain import outcomes
from scheduler.domain.outcomes import ALONE
from scheduler.domain.states import RunEvent
from scheduler.store.endings import Spared
from scheduler.store.held import overdue
from scheduler.store.leases import begin_alone
from scheduler.store.locking import lock
from scheduler.store.schema import attempts, failures, prices, switches
from scheduler.watching import FRESH_MS
from tests.integration.scheduler.desk import Desk, outcome

TOO_LONG_MS = 70_001
"""After the start of an attempt that may run for a minute, and of the ten seconds that its worker has to end it."""


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    one = Desk.open(database_url)
    yield one
    one.close()


def fail(desk: Desk, seq: int, attempt: int = 1, *, kind: str = "provider", **fields: Any) -> None:
    fields.setdefault("error", "it broke")
    assert desk.report(outcome(seq, attempt, kind="failed", error_kind=kind, **fields)) == []


def again(desk: Desk, seq: int) -> Any:
    """Leases an item whatever it waits for; the batch."""
    desk.now_ms += 3_600_000
    (batch,) = desk.grant([seq])
    return batch


def test_the_first_rule_that_takes_a_failure_says_how_often_and_when(desk: Desk) -> None:
    rules = {
        "retry": [
            {"kinds": ["provider"], "max_tries": 2, "first_seconds": 10, "max_seconds": 100, "factor": 3},
            {"kinds": ["provider", "item"], "max_tries": 1},
        ]
    }
    desk.start({"rules": rules, "max_tries": 5})
    desk.lease(0, 1)
    fail(desk, 0)
    assert desk.row(0).due_ms == desk.now_ms + 5_000, "half of 10 s, since the jitter is 0"
    fail(desk, 1, kind="item")
    assert (desk.row(1).state, desk.row(1).tries) == ("failed", 1)
    again(desk, 0)
    fail(desk, 0, 2)
    assert desk.row(0).state == "failed"


def test_a_rule_may_take_one_fingerprint_alone(desk: Desk) -> None:
    desk.start({"rules": {"retry": [{"fingerprint": "mine", "max_tries": 1}]}})
    desk.lease(0, 1)
    fail(desk, 0, fingerprint="mine")
    fail(desk, 1, fingerprint="other")
    assert [desk.row(0).state, desk.row(1).state] == ["failed", "retry"]


def test_equal_failures_have_one_fingerprint_and_are_tallied(desk: Desk) -> None:
    desk.start({})
    desk.lease(0, 1, 2)
    fail(desk, 0, error="timeout after 31 s at /srv/a/b.py")
    fail(desk, 1, error="timeout after 5 s at /srv/c/d.py")
    fail(desk, 2, error="refused")
    assert desk.row(0).fingerprint == desk.row(1).fingerprint != desk.row(2).fingerprint
    with desk.database.read() as connection:
        found = connection.execute(sa.select(failures.c["count"]).order_by(failures.c["count"])).scalars()
        assert list(found) == [1, 2]


@pytest.mark.parametrize("kind", ["refused", "cancelled", "budget", "unknown"])
def test_kinds_that_are_final_where_no_rule_names_them(desk: Desk, kind: str) -> None:
    desk.start({})
    desk.lease(0)
    fail(desk, 0, kind=kind)
    assert (desk.row(0).state, desk.row(0).error_kind) == ("failed", kind)


def test_while_retries_are_off_failures_wait_without_a_time(desk: Desk) -> None:
    desk.set(switches, name="retries", value="off", actor="a", reason="r", change_ms=0)
    desk.start({})
    desk.lease(0, 1)
    fail(desk, 0)
    desk.say_begun((1, 1))
    desk.lose(1)
    for seq in (0, 1):
        row = desk.row(seq)
        assert (row.state, row.due_ms, row.tries) == ("retry", None, 1)
    assert desk.stage().retry == 2


def test_what_backs_off_when_retries_are_stopped_waits_for_them_and_what_is_deferred_does_not(desk: Desk) -> None:
    desk.start({})
    desk.lease(0, 1)
    fail(desk, 0)
    desk.report(outcome(1, kind="deferred", retry_after_seconds=1))
    desk.set(switches, name="retries", value="off", actor="", reason="", change_ms=0)
    desk.now_ms += 3_600_000
    assert desk.due() == 1
    assert [desk.row(0).state, desk.row(1).state] == ["retry", "queued"]
    with desk.database.write() as connection:
        connection.execute(sa.update(switches).values(value="on"))
    assert desk.due() == 1
    assert desk.row(0).state == "queued"


def test_whose_renewal_was_recorded_just_before_redis_was_asked_loses_nothing(desk: Desk) -> None:
    """Redis had not heard of it yet, and called the lease one that ran out."""
    desk.start({})
    desk.lease(0)
    granted, desk.now_ms = desk.now_ms, desk.now_ms + 40_000
    assert desk.renew((0, 1)) == []
    read, desk.now_ms = desk.now_ms + 3, desk.now_ms + 20
    assert desk.lose(0, spared=Spared(granted, read - 5_000)) == 0
    desk.now_ms += 30_000
    desk.grant([1])  # a sign of the session that renews nothing
    assert desk.lose(0, spared=Spared(granted, desk.now_ms - 5_000)) == 1
    assert desk.renew((0, 1), (1, 1)) == [0]


def test_a_throttled_item_goes_back_at_its_rank_and_pays_no_try(desk: Desk) -> None:
    desk.start({"max_tries": 1})
    desk.lease(3, lane="provider:x")
    assert desk.report(outcome(3, kind="throttled", limit_key="provider:x", retry_after_seconds=30)) == []
    row = desk.row(3)
    assert (row.state, row.tries, row.error_kind) == ("queued", 0, None)
    assert desk.effects.ready[1, 0] == [(3, "provider:x", 3)]
    limit = desk.effects.limits["provider:x"]
    assert limit is not None
    assert limit.closed_until_ms == desk.now_ms + 30_000


def test_a_deferred_item_waits_with_what_it_saved_and_pays_no_try(desk: Desk) -> None:
    desk.start({"max_tries": 1})
    desk.lease(0)
    until = desk.now_ms + 90_000
    deferred = outcome(0, kind="deferred", saved=b'{"job":7}')
    deferred.until_time.FromMilliseconds(until)
    assert desk.report(deferred) == []
    assert desk.report(deferred) == [], "the same again"
    row = desk.row(0)
    assert (row.state, row.due_ms, row.tries, desk.stage().deferred) == ("deferred", until, 0, 1)
    batch = again(desk, 0)
    assert batch.granted[0].saved == b'{"job":7}'
    assert desk.stage().deferred == 0
    desk.say_begun((0, 2))
    assert desk.lose(0, handed_back=True) == 1
    (batch,) = desk.grant([0])
    assert batch.granted[0].saved == b'{"job":7}', "what it waits for is not forgotten with a worker"
    desk.report(outcome(0, 3))
    assert desk.row(0).saved is None


def heals(**more: Any) -> dict[str, Any]:
    return {"heal": {"attempts": 2, "processor": "doctor", "processor_version": "3", "parameters": b'{"p":1}', **more}}


def test_a_failed_item_is_healed_with_the_story_of_its_failure(desk: Desk) -> None:
    desk.start({"rules": heals(), "max_tries": 1, "total": 1})
    desk.lease(0)
    fail(desk, 0, error="no such table", result=b'{"stderr":"..."}')
    assert desk.row(0).state == "queued"
    (batch,) = desk.grant([0])
    lease = batch.granted[0]
    assert (batch.mode, batch.processor, batch.parameters, lease.heals) == (2, "doctor", b'{"p":1}', 1)
    context = orjson.loads(lease.context or b"")
    assert (context["kind"], context["error"], context["details"]) == ("provider", "no such table", {"stderr": "..."})
    assert desk.report(outcome(0, 2, result=b'"done"')) == []
    row = desk.row(0)
    assert (row.state, row.healed, row.result, row.context) == ("completed", True, b'"done"', None)
    assert (desk.stage().healed, desk.run.state) == (1, "completed")
    assert [event.type for event in desk.events("item.heal") + desk.events("item.healed")] == [
        "item.heal",
        "item.healed",
    ]


def test_healing_ends_after_so_many_attempts(desk: Desk) -> None:
    desk.start({"rules": heals(), "max_tries": 1})
    desk.lease(0)
    for attempt in (1, 2, 3):
        fail(desk, 0, attempt)
        if attempt < 3:
            again(desk, 0)
    row = desk.row(0)
    assert (row.state, row.heals, row.tries, row.healed) == ("failed", 2, 1, False)


def test_a_kind_that_is_not_healed_fails(desk: Desk) -> None:
    desk.start({"rules": heals(kinds=["item"]), "max_tries": 1})
    desk.lease(0)
    fail(desk, 0, kind="provider")
    assert desk.row(0).state == "failed"


def test_the_heal_budget_is_set_aside_when_healing_is_decided(desk: Desk) -> None:
    desk.set(prices, processor="noop", micros=10, change_ms=0)
    desk.set(prices, processor="doctor", micros=60, change_ms=0)
    desk.start({"rules": heals(budget_micros=100), "max_tries": 1, "paid": True})
    desk.lease(0, 1)
    fail(desk, 0, cost_micros=10)
    fail(desk, 1, cost_micros=10)
    assert [desk.row(0).state, desk.row(1).state] == ["queued", "failed"], "60 + 60 would pass 100"
    (batch,) = desk.grant([0])
    assert batch.granted[0].reserved_micros == 60
    desk.report(outcome(0, 2, cost_micros=20))
    assert desk.stage().heal_micros == 20
    desk.lease(2)
    fail(desk, 2, cost_micros=10)
    assert desk.row(2).state == "queued", "20 + 60 fit again"


def test_a_throttled_heal_stays_one_and_is_counted_once(desk: Desk) -> None:
    desk.start({"rules": heals(), "max_tries": 1})
    desk.lease(0)
    fail(desk, 0)
    desk.lease(0)
    desk.report(outcome(0, 2, kind="throttled", limit_key="provider:x"))
    (batch,) = desk.grant([0])
    assert (batch.mode, batch.granted[0].heals) == (2, 1)
    assert orjson.loads(batch.granted[0].context or b"")["kind"] == "provider"


def lost_in_healing(desk: Desk, attempt: int) -> Any:
    again(desk, 0)
    desk.say_begun((0, attempt))
    desk.lose(0)
    return desk.row(0)


def test_healing_that_is_lost_beside_others_is_made_again_alone_and_costs_no_heal(desk: Desk) -> None:
    desk.start({"rules": heals(attempts=1, kinds=["provider"]), "max_tries": 1})
    desk.lease(0)
    fail(desk, 0, error="no such table")
    row = lost_in_healing(desk, 2)
    assert (row.state, row.mode, row.heals, row.suspect) == ("queued", 2, 1, ALONE)
    (batch,) = desk.grant([0])
    assert orjson.loads(batch.granted[0].context or b"")["error"] == "no such table", "the story of the work is kept"
    assert desk.report(outcome(0, 3)) == []
    assert (desk.row(0).state, desk.row(0).healed) == ("completed", True)


def test_healing_that_is_lost_alone_is_one_of_the_heals(desk: Desk) -> None:
    desk.start({"rules": heals(kinds=["provider"]), "max_tries": 1})
    desk.lease(0)
    fail(desk, 0)
    assert lost_in_healing(desk, 2).heals == 1
    row = lost_in_healing(desk, 3)
    assert (row.state, row.heals) == ("queued", 2), "whatever kinds are healed: that of its failure was taken"
    assert orjson.loads(row.context)["kind"] == "provider"
    row = lost_in_healing(desk, 4)
    assert (row.state, row.error_kind, row.heals) == ("failed", "worker_lost", 2)


def test_healing_that_is_lost_is_made_again_within_the_heal_budget_alone(desk: Desk) -> None:
    desk.set(prices, processor="noop", micros=10, change_ms=0)
    desk.set(prices, processor="doctor", micros=60, change_ms=0)
    desk.start({"rules": heals(budget_micros=100), "max_tries": 1, "paid": True})
    desk.lease(0)
    fail(desk, 0, cost_micros=10)
    assert lost_in_healing(desk, 2).state == "failed", "what was lost may have cost 60, and 60 more would pass 100"
    assert desk.stage().heal_micros == 60


CONFIRMS = {"confirm": {"processor": "witness", "processor_version": "1", "parameters": b"{}"}}


def test_a_second_witness_must_agree_before_the_item_is_completed(desk: Desk) -> None:
    desk.start({"rules": CONFIRMS, "total": 1})
    desk.lease(0)
    assert desk.report(outcome(0, result=b'{"answer":42}')) == []
    assert (desk.row(0).state, desk.stage().completed) == ("queued", 0)
    (batch,) = desk.grant([0])
    assert (batch.mode, batch.processor, batch.granted[0].context) == (3, "witness", b'{"answer":42}')
    assert desk.report(outcome(0, 2, result=b'"I agree"')) == []
    row = desk.row(0)
    assert (row.state, row.result, row.context) == ("completed", b'{"answer":42}', None)
    assert desk.run.state == "completed"


def test_a_witness_that_disagrees_sends_the_work_back(desk: Desk) -> None:
    desk.start({"rules": CONFIRMS, "max_tries": 2})
    desk.lease(0)
    desk.report(outcome(0, result=b"1"))
    again(desk, 0)
    fail(desk, 0, 2, kind="item", error="the file is not there")
    row = desk.row(0)
    assert (row.state, row.error_kind, row.mode, row.tries, row.result) == ("retry", "unconfirmed", 1, 1, None)
    assert again(desk, 0).mode == 1
    desk.report(outcome(0, 3, result=b"2"))
    again(desk, 0)
    fail(desk, 0, 4, kind="item")
    assert (desk.row(0).state, desk.row(0).error_kind) == ("failed", "unconfirmed")


def test_a_witness_that_is_lost_is_asked_again_and_the_work_is_not(desk: Desk) -> None:
    desk.start({"rules": CONFIRMS, "repeatable": False})
    desk.lease(0)
    desk.report(outcome(0, result=b"1"))
    desk.lease(0)
    desk.say_begun((0, 2))
    desk.lose(0)
    (batch,) = desk.grant([0])
    assert (batch.mode, batch.granted[0].context) == (3, b"1")


@pytest.mark.parametrize("how", ["begun", "silent", "timeout", "told"])
def test_what_must_not_be_repeated_ends_unknown_when_its_end_is(desk: Desk, how: str) -> None:
    desk.start({"repeatable": False, "max_tries": 5})
    desk.lease(0)
    if how == "begun":
        desk.say_begun((0, 1))
    if how == "timeout":
        desk.now_ms += TOO_LONG_MS
        with desk.database.write() as connection:
            assert desk.endings(connection).time_out(1, 0, [0]) == 1
    elif how == "told":
        fail(desk, 0, kind="timeout")
    else:
        desk.lose(0)
    row = desk.row(0)
    assert (row.state, row.error_kind) == ("failed", "unknown")


def test_what_its_worker_releases_may_be_repeated_and_what_it_leaves_at_its_end_may_not(desk: Desk) -> None:
    """A worker releases what it has not begun; whether the scheduler heard that the rest has begun is chance."""
    desk.set(prices, processor="noop", micros=10, change_ms=0)
    desk.start({"repeatable": False, "paid": True})
    desk.lease(0, 1, 2)
    desk.say_begun((1, 1))
    desk.report(outcome(0, kind="released"))
    desk.lose(1, 2, handed_back=True)
    assert [desk.row(seq).state for seq in range(3)] == ["queued", "failed", "failed"]
    assert [desk.row(seq).error_kind for seq in range(3)] == [None, "unknown", "unknown"]
    assert desk.stage().unknown_micros == 20, "what it did cost nobody knows"


def test_the_time_of_a_suspect_begins_when_its_worker_begins_it(desk: Desk) -> None:
    desk.start({"max_run_seconds": 60})
    desk.lease(0)
    desk.say_begun((0, 1))
    desk.lose(0)
    desk.lease(0)
    desk.now_ms += TOO_LONG_MS
    with desk.database.read() as connection:
        assert overdue(connection, desk.now_ms, _since(desk), 10) == {}, "it waits for others of its worker to end"
    with desk.database.write() as connection:
        begin_alone(connection, [(1, 0, 0, 2)], desk.now_ms)
    desk.now_ms += TOO_LONG_MS
    with desk.database.read() as connection:
        assert overdue(connection, desk.now_ms, _since(desk), 10) == {(1, 0): [0]}


def _suspects(desk: Desk, *seqs: int) -> None:
    """Leases of items that were lost with their worker, granted one by one."""
    desk.lease(*seqs)
    desk.say_begun(*((seq, 1) for seq in seqs))
    desk.lose(*seqs)
    for seq in seqs:
        desk.lease(seq)


def test_one_that_kills_its_worker_in_the_moment_in_which_it_begins_is_blamed_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own attempt is spared by the sweep that ends those of its neighbours: it began after their last renewal."""
    monkeypatch.setattr(outcomes, "FREE_LOSSES", 0)
    desk.start({"max_tries": 5})
    _suspects(desk, 0, 1, 2)
    desk.now_ms += 1_000
    with desk.database.write() as connection:
        begin_alone(connection, [(1, 0, 0, 2)], desk.now_ms)
    assert desk.lose(0, 1, 2, spared=Spared(desk.now_ms - 1, desk.now_ms)) == 2
    assert desk.lose(0) == 1
    assert [desk.row(seq).tries for seq in range(3)] == [2, 1, 1]


def test_of_what_goes_alone_the_first_is_granted_and_the_others_stay_ready(desk: Desk) -> None:
    desk.start({})
    desk.lease(2, 3, 4)
    desk.say_begun((2, 1), (3, 1), (4, 1))
    desk.lose(2, 3, 4)
    (batch,) = desk.grant([4, 0, 2, 3, 1])  # in order of rank: 4 was moved to the front
    assert [(lease.seq, lease.alone) for lease in batch.granted] == [(0, False), (1, False), (4, True)]
    assert desk.effects.ready == {(1, 0): [(2, "", 2), (3, "", 3)]}
    assert [desk.row(seq).state for seq in (2, 3)] == ["queued", "queued"]


def test_what_goes_alone_and_is_left_to_others_is_no_reason_to_wait_for_money(desk: Desk) -> None:
    desk.set(prices, processor="noop", micros=10, change_ms=0)
    desk.start({"paid": True, "budget_micros": 50})
    desk.lease(0, 1)
    desk.say_begun((0, 1), (1, 1))
    desk.lose(0, 1)
    assert desk.stage().unknown_micros == 20
    assert desk.seqs(desk.grant([0, 1, 2, 3])) == [0, 2, 3]
    assert not desk.run.waiting
    assert desk.seqs(desk.grant([1])) == []
    assert desk.run.waiting.startswith("budget: item 0/1")


def _since(desk: Desk) -> Any:
    return partial(desk.begun.since, now_ms=desk.now_ms)


def test_the_time_of_what_waits_for_its_turn_in_its_worker_begins_when_it_does(desk: Desk) -> None:
    desk.start({"max_run_seconds": 60})
    desk.lease(0, 1, 2)
    desk.now_ms += 10_000
    desk.say_begun((0, 1))
    desk.now_ms += TOO_LONG_MS
    desk.say_begun((0, 1), (1, 1))
    with desk.database.read() as connection:
        assert overdue(connection, desk.now_ms, _since(desk), 10) == {(1, 0): [0]}
    with desk.database.write() as connection:
        assert desk.endings(connection).time_out(1, 0, [0, 1, 2]) == 1
    desk.now_ms += TOO_LONG_MS - 15_000
    desk.say_begun((1, 1))
    with desk.database.read() as connection:
        assert overdue(connection, desk.now_ms, _since(desk), 10) == {}
    desk.now_ms += 15_000
    desk.say_begun((1, 1))
    with desk.database.read() as connection:
        assert overdue(connection, desk.now_ms, _since(desk), 10) == {(1, 0): [1]}
    desk.now_ms += FRESH_MS
    with desk.database.read() as connection:
        assert overdue(connection, desk.now_ms, _since(desk), 10) == {(1, 0): [1, 2]}, "of whom nothing is heard"


def test_what_a_heal_did_not_need_is_free_for_others(desk: Desk) -> None:
    desk.set(prices, processor="noop", micros=10, change_ms=0)
    desk.set(prices, processor="doctor", micros=100, change_ms=0)
    desk.start({"rules": heals(budget_micros=1_000), "max_tries": 1, "paid": True, "item_budget_micros": 1_000})
    desk.lease(0)
    fail(desk, 0, cost_micros=50)
    assert desk.stage().heal_micros == 100
    desk.change(lambda unit: setattr(unit.stages[0], "item_budget_micros", 60))
    (batch,) = desk.grant([0])
    assert batch.granted[0].reserved_micros == 10
    desk.report(outcome(0, 2, cost_micros=10))
    assert desk.stage().heal_micros == 10


def test_force_stop_leaves_no_doubt_about_what_must_not_be_repeated(desk: Desk) -> None:
    desk.start({"repeatable": False})
    desk.lease(0)
    with desk.database.write() as connection:
        unit = lock(connection, 1, desk.now_ms)
        assert unit is not None
        desk.endings(connection).stop_by_force(unit, "stopped")
        unit.finish_stop(RunEvent.FORCE_STOP, reason="stopped")
        unit.flush(desk.effects)
    assert (desk.row(0).state, desk.row(0).error_kind) == ("failed", "unknown")


def test_what_runs_for_too_long_is_ended_and_tried_again(desk: Desk) -> None:
    desk.start({})
    desk.lease(0)
    desk.now_ms += TOO_LONG_MS
    with desk.database.write() as connection:
        assert desk.endings(connection).time_out(1, 0, [0, 5]) == 1
    row = desk.row(0)
    assert (row.state, row.error_kind, row.tries) == ("retry", "timeout", 1)
    assert desk.report(outcome(0)) == ["expired"]
    with desk.database.read() as connection:
        assert connection.execute(sa.select(attempts.c.ended)).scalars().all() == ["timed_out"]


def test_the_attempt_after_one_that_ran_for_too_long_is_not_ended_in_its_place(desk: Desk) -> None:
    desk.start({})
    desk.lease(0)
    desk.now_ms += TOO_LONG_MS
    desk.report(outcome(0, kind="released"))
    desk.lease(0)
    with desk.database.write() as connection:
        assert desk.endings(connection).time_out(1, 0, [0]) == 0
    assert desk.report(outcome(0, 2)) == []


def test_a_stage_fails_once_nothing_runs_when_more_failed_than_it_tolerates(desk: Desk) -> None:
    desk.start({"rules": {"tolerance": {"failures": 1}}, "max_tries": 1}, {})
    desk.lease(0, 1, 2)
    fail(desk, 0)
    fail(desk, 1)
    assert desk.stage().failing == "2 items failed; 1 were tolerated"
    assert desk.grant([3, 4]) == []
    assert desk.effects.moved == {1}, "its windows close"
    assert desk.run.state == "running"
    desk.report(outcome(2))
    stage = desk.stage()
    assert (stage.state, stage.completed, stage.failed, stage.skipped) == ("failed", 1, 2, 7)
    assert (desk.stage(1).state, desk.run.state) == ("skipped", "failed")
    assert "2 items failed" in desk.run.error


def test_a_share_of_failures_is_tolerated(desk: Desk) -> None:
    desk.start({"rules": {"tolerance": {"share": 0.2}}, "max_tries": 1})
    desk.lease(0, 1, 2)
    fail(desk, 0)
    fail(desk, 1)
    assert not desk.stage().failing
    fail(desk, 2)
    assert desk.stage().state == "failed"


@pytest.mark.parametrize(
    ("run_when", "failing", "expected"),
    [(0, 1, "running"), (1, 1, "running"), (2, 1, "skipped"), (2, 0, "running"), (1, 2, "skipped"), (3, 2, "running")],
)
def test_a_stage_runs_on_any_all_or_always(desk: Desk, run_when: int, failing: int, expected: str) -> None:
    desk.start({"total": 2, "max_tries": 1}, {"rules": {"run_when": run_when}, "total": 1})
    desk.lease(0, 1)
    for seq in range(2):
        fail(desk, seq) if seq < failing else desk.report(outcome(seq))
    assert desk.stage(1).state == expected
    if expected == "running":
        desk.lease(0, stage=1)
        desk.report(outcome(0), stage=1)
        ends = ["completed", "completed_with_failures", "failed"]
        assert desk.run.state == ends[failing]


def test_a_gate_is_asked_before_its_stage(desk: Desk) -> None:
    desk.start({"total": 1}, {"rules": {"gate": {"name": "go", "timeout_seconds": 5}}})
    desk.lease(0)
    desk.report(outcome(0))
    assert (desk.stage(1).state, desk.run.state, desk.run.waiting) == ("waiting", "waiting", "gate go")
    assert desk.stage(1).gate_due_ms == desk.now_ms + 5_000


def test_a_gate_may_stand_before_the_first_stage(desk: Desk) -> None:
    desk.start({"rules": {"gate": {"name": "go"}}})
    assert (desk.stage().state, desk.run.state) == ("waiting", "waiting")


def test_use_of_rates_is_told_against_the_estimate(desk: Desk) -> None:
    desk.start({})
    uses = '{"requests":1,"tokens":500}'
    desk.lease(0, 1, 2, lane="provider:x", uses=uses)
    desk.report(outcome(0, used={"tokens": 700}), outcome(1, used={"tokens": 400, "requests": 1}))
    assert desk.effects.used == {"provider:x": {"tokens": 100.0}}
    desk.report(outcome(2, kind="released"))
    assert desk.effects.used == {"provider:x": {"tokens": -500.0, "requests": -1.0}}
    assert orjson.loads(desk.stage().uses)["tokens"] == [2, 550.0]


def test_what_is_refused_gives_its_tokens_back(desk: Desk) -> None:
    desk.start({"concurrency": 2})
    desk.grant(range(3), lane="provider:x", uses='{"tokens":500}')
    assert desk.effects.used == {"provider:x": {"tokens": -500.0}}
