"""What goes on for a while is said once in a while."""

from __future__ import annotations

import pytest

from penstock.processor import ServiceUnavailable
from penstock.runtime.errors import NotFound, Unavailable
from penstock.runtime.interceptors import QUIET_SECONDS, _Repeats
from worker.services import Services


def test_calls_that_are_refused_for_one_reason_are_said_now_and_then() -> None:
    now = 100.0
    repeats = _Repeats(lambda: now)
    away = Unavailable("the database can't be used", code="sql_unavailable")
    assert repeats.said("/Report", away) == 0
    assert [repeats.said("/Report", away) for _ in range(7)] == [None] * 7
    assert repeats.said("/Acquire", away) == 0, "of another method"
    assert repeats.said("/Report", Unavailable("no Redis", code="redis_unavailable")) == 0, "for another reason"
    now += QUIET_SECONDS
    assert repeats.said("/Report", away) == 7
    assert repeats.said("/Report", away) is None


def test_what_a_user_is_told_is_always_said() -> None:
    repeats = _Repeats(lambda: 0.0)
    assert [repeats.said("/GetRun", NotFound("there is no such run")) for _ in range(3)] == [0, 0, 0]


def test_a_service_without_an_address_is_named_with_its_setting() -> None:
    services = Services({"planner": 1})
    assert services["planner"] == 1
    with pytest.raises(ServiceUnavailable, match=r"analyzer_address \(PENSTOCK_ANALYZER_ADDRESS\) is not set"):
        services["analyzer"]
