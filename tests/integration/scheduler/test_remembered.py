"""What this process remembers of its grants saves a look at the rows, and never decides."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from penstock.v1 import scheduler_pb2 as pb
from scheduler.store.items import Granted, Stale, reserve_more, rows_of
from scheduler.store.remembered import Remembered
from scheduler.store.schema import items, prices
from tests.integration.scheduler.desk import SESSION, Desk, outcome

STAGE = (1, 0)


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    one = Desk.open(database_url)
    one.remembered = Remembered()
    yield one
    one.close()


def pretend(desk: Desk, seq: int, *, attempt: int, session: str = SESSION.session) -> None:
    """Remembers a grant that no row knows of."""
    assert desk.remembered is not None
    lease = Granted(seq, attempt, 0, False)
    desk.remembered.note(STAGE, [lease], {seq: ""}, session=session, now_ms=1, uses="")


def states(desk: Desk) -> list[str]:
    with desk.database.read() as connection:
        return list(connection.execute(sa.select(items.c.state).order_by(items.c.seq)).scalars())


def test_a_report_of_what_is_remembered_counts_without_a_look_at_its_row(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.set(prices, processor="noop", micros=10, change_ms=0)
    desk.start({"paid": True, "budget_micros": 1_000, "item_budget_micros": 50}, budget_micros=1_000)
    desk.lease(0, 1, lane="domain:a")
    monkeypatch.setattr("scheduler.store.endings.rows_of", None)
    assert desk.report(outcome(0, cost_micros=3), outcome(1, cost_micros=4)) == []
    assert desk.effects.forget[STAGE] == [(0, "domain:a"), (1, "domain:a")]
    assert states(desk) == ["completed", "completed"]
    assert (desk.run.spent_micros, desk.run.reserved_micros) == (7, 0)


def test_an_attempt_that_ended_meanwhile_is_decided_from_the_rows(desk: Desk) -> None:
    desk.start({})
    desk.lease(0, 1)
    assert desk.lose(0) == 1
    with pytest.raises(Stale):
        desk.report(outcome(0), outcome(1))
    assert desk.report(outcome(0), outcome(1)) == ["expired"]
    assert states(desk) == ["queued", "completed"]


def test_a_grant_that_was_rolled_back_is_no_lease(desk: Desk) -> None:
    desk.start({})
    pretend(desk, 5, attempt=1)
    with pytest.raises(Stale):
        desk.report(outcome(5))
    assert desk.report(outcome(5)) == ["unknown"]
    assert states(desk) == []


def test_what_another_session_or_attempt_is_remembered_of_is_read(desk: Desk) -> None:
    desk.start({})
    desk.lease(0, 1)
    pretend(desk, 0, attempt=1, session="another")
    pretend(desk, 1, attempt=7)
    assert desk.report(outcome(0), outcome(1)) == []
    assert states(desk) == ["completed", "completed"]


def test_money_that_was_added_since_the_grant_is_settled_in_full(desk: Desk) -> None:
    desk.start({})
    desk.lease(0)

    def more(unit: object) -> None:
        reserve_more(unit, unit.stages[0], rows_of(unit.connection, 1, 0, [0])[0], 50)  # type: ignore[attr-defined, arg-type]

    desk.change(more)
    with pytest.raises(Stale):
        desk.report(outcome(0, cost_micros=40))
    assert desk.report(outcome(0, cost_micros=40)) == []
    assert (desk.run.reserved_micros, desk.run.spent_micros) == (0, 40)


def test_one_item_twice_in_a_report_counts_once(desk: Desk) -> None:
    desk.start({})
    desk.lease(0, 1)
    assert desk.report(outcome(0), outcome(0), outcome(1), outcome(1, cost_micros=1)) == ["different"]
    assert states(desk) == ["completed", "completed"]


def test_any_other_end_is_decided_from_its_row(desk: Desk) -> None:
    desk.start({})
    desk.lease(0, 1)
    failed = pb.Outcome(seq=0, attempt=1, kind=pb.OUTCOME_KIND_FAILED, error="no", permanent=True)
    assert desk.report(failed, outcome(1)) == []
    assert states(desk) == ["failed", "completed"]


def test_items_with_and_without_rows_are_granted_together(desk: Desk) -> None:
    desk.start({})
    desk.lease(0, 1, 2)
    released = pb.Outcome(seq=1, attempt=1, kind=pb.OUTCOME_KIND_RELEASED)
    assert desk.report(released, outcome(2)) == []
    (batch,) = desk.grant([0, 1, 2, 3, 4])  # 0 runs and 2 is done: both are refused
    assert [(lease.seq, lease.attempt) for lease in batch.granted] == [(1, 2), (3, 1), (4, 1)]
