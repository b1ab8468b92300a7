"""Money: reserved before the start, settled after, never past a cap; unknown until told; unpriced work waits."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest
import sqlalchemy as sa

from scheduler.domain.states import RunEvent
from scheduler.store import money
from scheduler.store.items import reserve_more, rows_of
from scheduler.store.locking import lock
from scheduler.store.schema import attempts, costs, prices
from scheduler.store.unit import RunUnit
from tests.integration.scheduler.desk import Desk, outcome


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    one = Desk.open(database_url)
    yield one
    one.close()


def priced(desk: Desk, micros: int = 100) -> None:
    desk.set(prices, processor="noop", micros=micros, change_ms=0)


def test_reserve_then_settle_and_the_sums_agree(desk: Desk) -> None:
    priced(desk)
    desk.start({"paid": True}, budget_micros=1_000)
    batches = desk.grant(range(3))
    assert [(b.budgeted, [x.reserved_micros for x in b.granted]) for b in batches] == [(True, [100, 100, 100])]
    assert (desk.run.reserved_micros, desk.stage().reserved_micros) == (300, 300)
    assert desk.report(outcome(0, cost_micros=70), outcome(1, cost_micros=90)) == []
    run = desk.run
    assert (run.spent_micros, run.reserved_micros, run.overrun_micros) == (160, 100, 0)
    (entry,) = desk.ledger()
    assert (entry.micros, orjson.loads(entry.entries)) == (
        160,
        [["settled", 0, 1, 70, 100], ["settled", 1, 1, 90, 100]],
    )
    assert desk.row(0).cost_micros == 70


def test_budgets_never_pass_over_the_head_waits_and_so_does_the_run(desk: Desk) -> None:
    priced(desk)
    desk.start({"paid": True}, budget_micros=250)
    assert desk.seqs(desk.grant(range(4))) == [0, 1]
    assert desk.run.state == "running"
    assert desk.run.waiting.startswith("budget: item 0/2 needs $0.0001, $0.00005 are left of the cap of the run")
    assert [entry[0] for entry in desk.effects.ready[1, 0]] == [2, 3], "what was refused goes back at its rank"
    assert desk.grant(range(2, 4)) == [], "while what runs may free money, nothing starts"
    assert desk.report(outcome(0, cost_micros=100)) == []
    assert desk.run.state == "running"
    assert desk.report(outcome(1, cost_micros=100)) == []
    run = desk.run
    assert (run.state, run.waiting[:8], run.needs_micros) == ("waiting", "budget: ", 100)


def test_money_that_comes_back_lets_the_run_go_on_by_itself(desk: Desk) -> None:
    priced(desk)
    desk.start({"paid": True}, budget_micros=250)
    desk.grant(range(4))
    epoch = desk.run.epoch
    assert desk.report(outcome(0, cost_micros=40)) == []
    assert (desk.run.waiting, desk.run.epoch) == ("", epoch + 1)
    assert 1 in desk.effects.moved
    assert desk.events("budget.freed")
    assert desk.seqs(desk.grant(range(2, 4))) == [2]


def test_raising_the_cap_goes_on_without_paying_twice(desk: Desk) -> None:
    priced(desk)
    desk.start({"paid": True, "total": 3}, budget_micros=100)
    desk.grant(range(3))
    desk.report(outcome(0, cost_micros=100))
    assert desk.run.state == "waiting"

    def raise_cap(unit: RunUnit) -> bool:
        unit.run.budget_micros = 300
        return unit.look_again()

    assert desk.change(raise_cap)
    assert (desk.run.state, desk.run.waiting) == ("running", "")
    assert desk.seqs(desk.grant(range(1, 3))) == [1, 2]
    desk.report(outcome(1, cost_micros=100), outcome(2, cost_micros=100))
    assert (desk.run.state, desk.run.spent_micros) == ("completed", 300)


def test_a_raise_that_is_not_enough_changes_nothing(desk: Desk) -> None:
    priced(desk)
    desk.start({"paid": True}, budget_micros=10)
    assert desk.grant(range(3)) == []
    assert desk.run.state == "waiting"

    def raise_cap(unit: RunUnit) -> bool:
        unit.run.budget_micros = 99
        return unit.look_again()

    assert not desk.change(raise_cap)
    assert desk.run.state == "waiting"


def test_an_overrun_is_recorded_in_full_and_stops_new_starts(desk: Desk) -> None:
    priced(desk)
    desk.start({"paid": True}, budget_micros=300)
    desk.lease(0)
    desk.report(outcome(0, cost_micros=450))
    run = desk.run
    assert (run.spent_micros, run.overrun_micros, desk.stage().overrun_micros) == (450, 350, 350)
    (event,) = desk.events("budget.overrun")
    assert orjson.loads(event.data)["micros"] == 350
    assert desk.grant([1]) == []
    assert desk.run.state == "waiting"


def test_what_costs_nothing_waits_too_until_an_overrun_is_made_up_for(desk: Desk) -> None:
    desk.start({"paid": False}, budget_micros=100)
    desk.lease(0)
    desk.report(outcome(0, cost_micros=101))
    assert desk.grant([1]) == []


def test_the_stage_s_cap_holds_as_well(desk: Desk) -> None:
    priced(desk)
    desk.start({"paid": True, "budget_micros": 150}, budget_micros=10_000)
    assert desk.seqs(desk.grant(range(3))) == [0]
    assert desk.run.waiting.endswith("$0.00005 are left of the cap of stage 0")


def test_unpriced_work_under_a_budget_does_not_start_until_there_is_a_price(desk: Desk) -> None:
    desk.start({"paid": True}, budget_micros=1_000)
    assert desk.grant(range(3)) == []
    assert (desk.run.state, desk.run.needs_micros) == ("waiting", None)
    assert "nobody knows what an item of noop costs" in desk.run.waiting
    assert not desk.change(RunUnit.look_again)
    priced(desk)
    assert desk.change(RunUnit.look_again)
    assert desk.seqs(desk.grant(range(3))) == [0, 1, 2]


def test_unpriced_work_without_a_budget_starts_and_what_it_costs_is_no_overrun(desk: Desk) -> None:
    desk.start({"paid": True})
    desk.lease(0)
    desk.report(outcome(0, cost_micros=5))
    assert (desk.run.spent_micros, desk.run.overrun_micros) == (5, 0)


def test_prices_are_learned_from_the_stage_and_then_from_all_stages_before(desk: Desk) -> None:
    priced(desk, 1_000)
    desk.start({"paid": True, "total": 21}, budget_micros=1_000_000)
    desk.lease(*range(20))
    desk.report(*[outcome(seq, cost_micros=50) for seq in range(20)])
    (batch,) = desk.grant([20])
    assert 50 <= batch.granted[0].reserved_micros <= 55
    desk.report(outcome(20, cost_micros=50))
    with desk.database.read() as connection:
        (known,) = connection.execute(sa.select(costs)).all()
    assert sum(count for _, count in orjson.loads(known.histogram)) == 21


def test_a_lost_lease_is_unknown_at_its_reservation_until_its_late_report_tells_once(desk: Desk) -> None:
    priced(desk)
    desk.start({"paid": True}, budget_micros=1_000)
    desk.lease(0)
    desk.say_begun((0, 1))
    assert desk.lose(0) == 1
    run = desk.run
    assert (run.spent_micros, run.unknown_micros, run.reserved_micros) == (100, 100, 0)
    desk.lease(0)
    late = outcome(0, 1, cost_micros=30)
    assert desk.report(late) == ["expired"]
    assert desk.report(late) == ["expired"]
    assert desk.report(outcome(0, 1, cost_micros=99)) == ["expired"], "its cost is known by now"
    run = desk.run
    assert (run.spent_micros, run.unknown_micros, run.reserved_micros) == (30, 0, 100)
    assert desk.row(0).cost_micros == 30
    kinds = [entry[0] for row in desk.ledger() for entry in orjson.loads(row.entries)]
    assert kinds == ["unknown", "corrected"]
    with desk.database.read() as connection:
        assert connection.execute(sa.select(attempts.c.cost_micros)).scalar_one() == 30


def test_a_stranger_s_late_report_corrects_nothing(desk: Desk) -> None:
    priced(desk)
    desk.start({"paid": True}, budget_micros=1_000)
    desk.lease(0)
    desk.lose(0)
    assert desk.report(outcome(0, 1, cost_micros=1), session="stranger") == ["expired"]
    assert desk.run.unknown_micros == 100


def test_a_correction_frees_money_for_what_waits(desk: Desk) -> None:
    priced(desk)
    desk.start({"paid": True, "total": 2}, budget_micros=150)
    desk.lease(0)
    desk.lose(0)
    assert desk.grant([0]) == []
    assert desk.run.state == "waiting"
    assert desk.report(outcome(0, 1, cost_micros=10)) == ["expired"]
    assert desk.run.state == "running"


def test_an_item_s_own_cap_bounds_its_reservation_and_ends_its_tries(desk: Desk) -> None:
    priced(desk)
    desk.start({"paid": True, "item_budget_micros": 150, "max_tries": 5})
    desk.lease(0)
    desk.report(outcome(0, kind="failed", error="broke", error_kind="provider", cost_micros=80))
    row = desk.row(0)
    assert (row.state, row.error_kind, row.tries) == ("failed", "budget", 1)
    assert "the item's own cap" in row.error
    desk.lease(1)
    desk.report(outcome(1, kind="failed", error="broke", error_kind="provider", cost_micros=20))
    desk.now_ms += 60_000
    assert desk.row(1).state == "retry"
    (batch,) = desk.grant([1])
    assert batch.granted[0].reserved_micros == 100


def test_a_released_lease_costs_what_it_says_and_gives_the_rest_back(desk: Desk) -> None:
    priced(desk)
    desk.start({"paid": True}, budget_micros=100)
    desk.lease(0)
    desk.report(outcome(0, kind="released"))
    assert (desk.run.spent_micros, desk.run.reserved_micros) == (0, 0)
    desk.lease(0)


def test_force_stop_settles_what_runs_as_unknown(desk: Desk) -> None:
    priced(desk)
    desk.start({"paid": True}, budget_micros=1_000)
    desk.lease(0, 1)
    with desk.database.write() as connection:
        endings = desk.endings(connection)
        unit = lock(connection, 1, desk.now_ms)
        assert unit is not None
        endings.stop_by_force(unit, "stopped")
        unit.finish_stop(RunEvent.FORCE_STOP, reason="stopped")
        unit.flush(desk.effects)
    assert (desk.run.state, desk.run.unknown_micros, desk.run.reserved_micros) == ("stopped", 200, 0)
    assert desk.report(outcome(0, cost_micros=60)) == ["stopped"]
    assert (desk.run.spent_micros, desk.run.unknown_micros) == (160, 100)


def test_head_room_says_which_cap_refuses(desk: Desk) -> None:
    priced(desk)
    desk.start({"paid": True, "budget_micros": 500, "item_budget_micros": 300}, budget_micros=1_000)
    desk.lease(0)

    def ask(micros: int) -> str:
        def work(unit: RunUnit) -> str:
            stage = unit.stages[0]
            row = rows_of(unit.connection, 1, 0, [0])[0]
            reason = money.room_for_more(unit, stage, row, micros)
            if not reason:
                reserve_more(unit, stage, row, micros)
            return reason

        answer: str = desk.change(work)
        return answer

    assert ask(201) == "item_budget"
    assert ask(200) == ""
    assert desk.row(0).reserved_micros == 300
    assert ask(901) == "run_budget"
    assert ask(401) == "stage_budget"


def test_when_another_item_comes_first_it_is_asked_anew_what_it_needs(desk: Desk) -> None:
    priced(desk)
    desk.start({"paid": True}, budget_micros=50)
    assert desk.grant(range(3)) == []
    assert desk.run.state == "waiting"
    assert desk.change(lambda unit: unit.look_again(head_moved=True))
    assert desk.run.state == "running"
    assert desk.grant(range(1, 3)) == []
    assert desk.run.state == "waiting", "and what can't be paid either waits again"


def test_another_s_word_for_a_lost_attempt_does_not_keep_its_own_worker_s_money_out(desk: Desk) -> None:
    desk.set(prices, processor="noop", micros=10, change_ms=0)
    desk.start({"paid": True})
    desk.lease(0)
    desk.lose(0)
    word = outcome(0, cost_micros=4)
    assert desk.report(word, session="another") == ["expired"]
    assert desk.stage().spent_micros == 10
    assert desk.report(word) == ["expired"]
    assert (desk.stage().spent_micros, desk.stage().unknown_micros) == (4, 0)


def test_a_late_word_that_does_not_know_the_cost_either_leaves_it_unknown(desk: Desk) -> None:
    priced(desk)
    desk.start({"paid": True})
    desk.lease(0)
    desk.lose(0)
    assert desk.report(outcome(0, kind="failed", cost_unknown=True, cost_micros=30)) == ["expired"]
    assert (desk.run.spent_micros, desk.run.unknown_micros) == (100, 100)
    assert desk.report(outcome(0, cost_micros=60)) == ["expired"]
    assert (desk.run.spent_micros, desk.run.unknown_micros) == (60, 0)


def test_what_can_start_no_more_is_no_reason_to_wait_for_money(desk: Desk) -> None:
    """Redis may offer still what was skipped or leased meanwhile."""
    priced(desk)
    desk.start({"paid": True}, budget_micros=150)
    assert desk.seqs(desk.grant([0])) == [0]
    assert desk.grant([0]) == []
    assert desk.run.waiting == ""
    assert desk.grant([0, 1]) == []
    assert desk.run.waiting.startswith("budget: item 0/1 needs $0.0001, $0.00005 are left")
