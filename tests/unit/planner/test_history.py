"""Histories: parts add up to the whole, whatever their order and number, and stay small."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.domain.history import MAX_GROUPS, MAX_RUNS, History, Outcomes
from planner.domain.moments import RunFacts, run_facts
from planner.domain.sampling import sample_seqs
from planner.domain.sketch import GROWTH, Sketch
from planner.domain.tries import End, tries_under
from tests.unit.planner.simulated import Processor, play

ITEMS = st.tuples(
    st.sampled_from(["run-1", "run-2"]),
    st.sampled_from(["a", "b", "", "é"]),
    st.floats(0, 1e6),
    st.integers(0, 10**9),
    st.integers(0, 5),
    st.booleans(),
)
Item = tuple[str, str, float, int, int, bool]


def outcomes(run: str, items: Sequence[Item], run_ms: int = 0) -> Outcomes:
    own = [item for item in items if item[0] == run]
    return Outcomes(
        run=run,
        run_ms=run_ms,
        max_tries=5,
        groups=[item[1] for item in own],
        seconds=np.array([item[2] for item in own], np.float64),
        cost_micros=np.array([item[3] for item in own], np.float64),
        tries=np.array([item[4] for item in own], np.int64),
        failed=np.array([item[5] for item in own], np.bool_),
    )


def history(items: Sequence[Item]) -> History:
    return History.of(outcomes("run-1", items, 1)) + History.of(outcomes("run-2", items, 2))


def close(one: object, two: object) -> bool:
    """Whether two records as JSON are equal but for the last digits of sums."""
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(close, one, two))
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(close(one[name], two[name]) for name in one)
    return one == pytest.approx(two, rel=1e-9, abs=1e-6) if isinstance(one, float) else one == two


@settings(max_examples=60)
@given(st.lists(ITEMS, max_size=40), st.integers(0, 40))
def test_batches_add_up_to_the_whole_in_any_order(items: list[Item], cut: int) -> None:
    whole = history(items).as_json()
    first, second = history(items[:cut]), history(items[cut:])
    assert close((first + second).as_json(), whole)
    assert close((second + first).as_json(), whole)
    assert history(items).items == len(items)


@settings(max_examples=30)
@given(st.lists(ITEMS, max_size=30))
def test_a_history_is_kept_as_json(items: list[Item]) -> None:
    facts = RunFacts(1.5, None)
    known = history(items) + History.of(outcomes("run-1", items, 1), facts)
    assert History.of_json(json.loads(json.dumps(known.as_json()))) == known
    assert known.runs["run-1"].facts == facts


def test_a_record_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format 2"):
        History.of_json({"format": 2})


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_what_is_no_amount_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds of an outcome"):
        outcomes("run-1", [("run-1", "a", seconds, 0, 0, False)])


def test_a_history_stays_small_whatever_the_number_of_items_groups_and_runs() -> None:
    random = np.random.default_rng(1)
    known = History()
    for run in range(MAX_RUNS + 3):
        groups = [f"group {number}" for number in random.integers(0, MAX_GROUPS + 500, 20_000)]
        count = len(groups)
        known += History.of(
            Outcomes(
                run=f"run-{run}",
                run_ms=run,
                max_tries=5,
                groups=groups,
                seconds=random.lognormal(0, 2, count),
                cost_micros=np.rint(random.lognormal(8, 2, count)),
                tries=random.integers(0, 3, count),
                failed=np.zeros(count, np.bool_),
            )
        )
    assert known.items == (MAX_RUNS + 3) * 20_000
    assert len(known.groups) == MAX_GROUPS
    assert sum(group.items for group in known.groups.values()) + known.others.items == known.items
    assert sorted(run.run_ms for run in known.runs.values()) == list(range(3, MAX_RUNS + 3))
    assert len(json.dumps(known.as_json())) < 400_000


@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_sketch_is_exact_in_sums_and_within_a_twentieth_in_quantiles(amounts: list[float], share: float) -> None:
    sketch = Sketch.of(np.array(amounts))
    told, counts = sketch.points()
    assert (told * counts).sum() == pytest.approx(sum(amounts))
    true = sorted(amounts)[max(int(np.ceil(share * len(amounts) - 1e-9)) - 1, 0)]
    assert true / GROWTH <= sketch.quantile(share) <= true * GROWTH
    assert Sketch.of_rows(sketch.rows()) == sketch


def test_the_facts_of_a_run_are_seen_in_when_its_attempts_began_and_ended() -> None:
    items = Processor(gap=0.5).items(np.random.default_rng(2), ["a"] * 400)
    played = play(items, lanes=8)
    facts = run_facts(played.begins + 7.0, played.ends + 7.0, start_seconds=4.0, slots=8)
    assert facts is not None
    assert facts.gap_seconds is not None
    assert facts.startup_seconds == pytest.approx(3.0)
    assert facts.gap_seconds == pytest.approx(items.gap, rel=0.05)
    limited = run_facts(played.begins, played.ends, start_seconds=0.0, slots=8, limited=True)
    assert limited == RunFacts(0.0, None)
    assert run_facts(np.empty(0), np.empty(0), start_seconds=0.0, slots=8) is None


def test_tries_under_another_bound_are_what_would_have_been() -> None:
    ends = {(0, End.COMPLETED): 50, (1, End.COMPLETED): 20, (1, End.FAILED): 5, (2, End.GAVE_UP): 25}
    same = tries_under(ends, 2)
    assert [same.scale, same.failed] == pytest.approx([1.0, 0.30])
    once = tries_under(ends, 1)
    assert [once.mean, once.failed] == pytest.approx([1.0, 0.50])
    more = tries_under(ends, 3)
    assert more.mean == pytest.approx(same.mean + 0.25)
    assert more.failed == pytest.approx(0.05 + 0.25 * 25 / 45)
    assert tries_under({}, 5).mean == 1.0


@given(st.lists(st.integers(0, 6), min_size=1, max_size=300), st.integers(1, 60), st.text(max_size=5))
def test_a_sample_has_each_groups_share_and_is_the_same_for_the_same_plan(
    codes: list[int], size: int, plan: str
) -> None:
    groups = np.array(codes)
    chosen = sample_seqs(plan, groups, size)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert chosen.size == min(size, groups.size)
    assert (sample_seqs(plan, groups, size) == chosen).all()
    counts, found = np.bincount(groups, minlength=7), np.bincount(groups[chosen], minlength=7)
    there = counts > 0
    if size >= there.sum():
        assert (found[there] >= 1).all()
    else:
        assert (abs(found - counts * size / groups.size) < 1 + 1e-9).all()


def test_a_sample_is_spread_over_the_order() -> None:
    chosen = sample_seqs("plan", np.zeros(10_000, np.int64), 50)
    assert np.bincount(chosen // 1_000).tolist() == [5] * 10
