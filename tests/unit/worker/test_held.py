"""What a worker holds: one attempt of an item begins, the latest."""

from __future__ import annotations

from penstock.v1 import scheduler_pb2 as pb
from worker.held import Call, Held, HeldLease


def lease(attempt: int, *, begun: bool = False) -> HeldLease:
    one = HeldLease("run", 0, pb.Lease(seq=7, attempt=attempt), trusted_until=100.0)
    one.begun = begun
    return one


def test_an_answer_that_comes_twice_is_taken_once() -> None:
    held = Held()
    assert held.add(lease(1))
    assert not held.add(lease(1))
    assert len(held) == 1


def test_a_later_attempt_takes_the_place_of_one_that_has_not_begun() -> None:
    held = Held()
    first, second = lease(1), lease(2)
    assert held.add(first)
    assert held.add(second)
    assert not held.holds(first)
    assert held.holds(second)


def test_an_attempt_that_comes_late_does_not_begin_beside_a_later_one() -> None:
    held = Held()
    held.add(lease(2))
    assert not held.add(lease(1))
    assert [one.lease.attempt for one in held] == [2]


def test_what_runs_goes_on_until_the_scheduler_takes_it_back() -> None:
    held, told = Held(), []
    first, second = lease(1, begun=True), lease(2)
    first.call = Call(1, lambda: told.append("revoked"))
    held.add(first)
    assert held.add(second)
    assert held.holds(first)
    held.revoke(first.key)
    assert told == ["revoked"]
    assert held.holds(second)
    held.drop([second.key])
    assert len(held) == 0
    assert held.add(lease(1)), "nothing is remembered of what is not held"
