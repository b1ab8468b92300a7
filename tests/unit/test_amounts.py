"""Estimates and what became of them are rounded in one place: the same number reads alike everywhere."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.amounts import money_range, money_text, time_range, time_text
from penstock.cli.estimate_text import print_estimate, print_estimates
from penstock.client.estimate_views import estimate_page_view, estimate_view
from penstock.client.plan_views import plan_view
from penstock.v1 import planner_pb2
from planner.domain.estimate_words import total_words
from planner.domain.estimates import Estimate, Range
from planner.guards import BUDGET_MAY_NOT_DO, BUDGET_TOO_SMALL, budget_objection

SECONDS = st.floats(0.1, 1e7)
MICROS = st.floats(10, 1e12)
NEAR = st.floats(0.9, 1.1)
"""What a budget times this costs: near enough for a rounding to put it on the other side."""
SECONDS_OF = {"s": 1, "min": 60, "h": 3_600, "days": 86_400}


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (0.003, "less than 0.01 s"),
        (0.347, "0.35 s"),
        (1.25, "1.3 s"),
        (80, "80 s"),
        (89.9, "90 s"),
        (90, "1.5 min"),
        (2_100, "35 min"),
        (5_400, "1.5 h"),
        (90_000, "25 h"),
        (129_600, "1.5 days"),
        (86_400 * 450, "450 days"),
    ],
)
def test_times_have_two_digits_that_count_in_the_unit_that_suits_them(seconds: float, told: str) -> None:
    assert time_text(seconds) == told


@pytest.mark.parametrize(
    ("micros", "told"),
    [
        (0, "$0"),
        (0.4, "less than $0.000001"),
        (1, "$0.000001"),
        (3_417, "$0.0034"),
        (99_600, "$0.10"),
        (1_234_000, "$1.20"),
        (1_250_000, "$1.30"),
        (9_940_000, "$9.90"),
        (9_960_000, "$10"),
        (12_345_678, "$12"),
        (1_234e6, "$1,200"),
        (-1_234_000, "-$1.20"),
    ],
)
def test_money_has_two_digits_that_count(micros: float, told: str) -> None:
    assert money_text(micros) == told


def test_ends_that_read_alike_are_told_once() -> None:
    assert time_range(1_200, 2_100) == "20 to 35 min"
    assert time_range(1_200, 1_210) == "about 20 min"
    assert time_range(0, 0) == "0 s"
    assert time_range(0, 0.4) == "0 to 0.4 s"
    assert money_range(1_234_000, 3_400_000) == "$1.20 to $3.40"
    assert money_range(1_234_000, 1_236_000) == "about $1.20"
    assert money_range(1_800_000, 1_800_000) == "$1.80"
    assert money_range(9_960_000, 10_400_000) == "about $10"
    assert money_range(0.1, 0.4) == "less than $0.000001"
    assert money_range(0, 0.4) == "less than $0.000001"
    assert money_range(0.4, 5) == "$0 to $0.000005"
    assert money_range(0, 0) == "$0"


@given(SECONDS)
def test_what_is_told_is_within_a_tenth_of_what_it_was(seconds: float) -> None:
    number, unit = time_text(seconds).split()
    assert float(number.replace(",", "")) * SECONDS_OF[unit] == pytest.approx(seconds, rel=0.1)


@given(MICROS)
def test_money_that_is_told_is_within_a_tenth_of_what_it_was(micros: float) -> None:
    assert float(money_text(micros).strip("$").replace(",", "")) * 1e6 == pytest.approx(micros, rel=0.1)


@given(st.integers(1, 10**12), NEAR, NEAR)
@example(1_220_000, 1.24 / 1.22, 1.30 / 1.22)
@example(1_990_000, 1.96 / 1.99, 2.50 / 1.99)
@example(1_220_000, 1.0000001, 1.0000001)
def test_a_cost_is_told_on_the_side_of_the_budget_where_it_is(budget: int, one: float, other: float) -> None:
    low, high = sorted((budget * one, budget * other))
    found = budget_objection("the run has", planner_pb2.Range(low=low, middle=low, high=high), budget)
    if found is None:
        assert high <= budget + 0.5
        return
    told = [float(one.replace(",", "")) for one in re.findall(r"\$([\d.,]*\d)", found.message)]
    budget_told, low_told, high_told = told[0], told[1], told[-1]
    assert budget_told * 1e6 == pytest.approx(budget, abs=0.5)
    if found.code == BUDGET_TOO_SMALL:
        assert found.message.endswith(": it can't finish")
        assert low_told > budget_told
    else:
        assert found.code == BUDGET_MAY_NOT_DO
        assert low_told <= budget_told < high_told


def test_a_budget_is_compared_with_as_few_digits_as_tell_them_apart() -> None:
    def told(low: float, high: float, budget: int) -> str:
        found = budget_objection("the run has", planner_pb2.Range(low=low * 1e6, high=high * 1e6), budget)
        assert found is not None
        return found.message.partition("will cost ")[2]

    assert told(1.24, 1.3, 1_220_000) == "$1.24 to $1.30: it can't finish"
    assert told(1.96, 2.5, 1_990_000) == "$1.96 to $2.50: it may not finish"
    assert told(1_234.5, 1_300, 1_230_000_000) == "$1,235 to $1,300: it can't finish"
    assert told(1.234, 1.236, 1_000_000) == "about $1.20: it can't finish"


def test_a_preview_a_comparison_and_a_warning_round_alike_and_json_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    time = planner_pb2.Range(low=1_234.56, middle=1_600.1, high=2_100.9)
    cost = planner_pb2.Range(low=3_417.25, middle=9_000.5, high=18_923.75)
    told = planner_pb2.Estimate(runtime_seconds=time, cost_micros=cost)
    ranges = Range(1_234.56, 1_600.1, 2_100.9), Range(3_417.25, 9_000.5, 18_923.75)
    told.words = total_words(Estimate(*ranges, stages=[]))
    stage = told.stages.add(processor="scan", items=9, runtime_seconds=time, cost_micros=cost)
    stage.runtime_rest.basis = "measured"
    print_estimate(plan_view(planner_pb2.Plan(plan_id="plan-1", estimate=told)))
    preview = capsys.readouterr().out
    page = planner_pb2.ListEstimatesResponse()
    judged = page.estimates.add(run_id="run-1", number=1, plan_id="plan-1")
    judged.runtime_seconds.told.CopyFrom(time)
    judged.cost_micros.told.CopyFrom(cost)
    judged.runtime_seconds.actual, judged.cost_micros.actual = 1_600.1, 9_000.5
    print_estimates(estimate_page_view(page))
    compared = capsys.readouterr().out
    warned = budget_objection("stage 0 has", cost, 5_000)
    assert warned is not None
    for text in (preview.splitlines()[1], preview.splitlines()[-1], compared, warned.message):
        assert re.findall(r"\$\S+ to \$[\d.]+", text) == ["$0.0034 to $0.019"]
    for text in (preview.splitlines()[1], preview.splitlines()[-1], compared):
        assert re.findall(r"[\d.]+ to [\d.]+ min", text) == ["21 to 35 min"]
    assert "27 min" in preview
    assert "27 min" in compared
    assert "$0.009" in compared
    view = estimate_view(told)
    assert view["runtime_seconds"] == {"p10": 1_234.56, "p50": 1_600.1, "p90": 2_100.9}
    assert view["cost_micros"] == {"p10": 3_417.25, "p50": 9_000.5, "p90": 18_923.75}
