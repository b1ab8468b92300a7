"""The valve: what closes it, how it lets work in again, and how an adaptive cap finds its height."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scheduler.domain.limits import OPEN
from scheduler.domain.valve import CEILING, MAX_CLOSED_MS, RAMP_END, SLOW_START, Bounds, Valve, ValveState

PLAIN = Bounds(first_ms=1_000, max_ms=8_000)
TEN = replace(PLAIN, concurrency=10)
ADAPTIVE = replace(PLAIN, adaptive=True)


def closed(now_ms: int = 0, bounds: Bounds = PLAIN, **facts: int) -> Valve:
    return Valve().throttled(now_ms, bounds, **facts)


def passed(valve: Valve, now_ms: int, bounds: Bounds, count: int = 1, running: int = 10_000) -> Valve:
    return valve.completed(now_ms, bounds, count=count, running=running)


def caps_of_a_ramp(bounds: Bounds) -> list[int]:
    """What it allows, wave by wave, from the probe until it is open."""
    valve, caps = closed(0, bounds).at(1_000), []
    while valve.state is not ValveState.OPEN:
        cap = valve.concurrency(bounds)
        assert cap is not None
        caps.append(cap)
        valve = passed(valve, 1_000, bounds, cap)
    return caps


def test_an_open_valve_allows_anything() -> None:
    assert Valve().concurrency(TEN) is None
    assert not Valve().cautious(TEN)


def test_a_throttle_closes_until_the_named_time_exactly() -> None:
    valve = closed(500, retry_after_ms=7_250)
    assert (valve.state, valve.until_ms) == (ValveState.CLOSED, 7_750)


def test_an_absurd_retry_after_is_bounded() -> None:
    assert closed(0, retry_after_ms=10**18).until_ms == MAX_CLOSED_MS


def test_at_the_end_of_the_closure_one_probes() -> None:
    valve = closed(0, retry_after_ms=100)
    assert valve.at(99) is valve
    assert valve.concurrency(TEN) == 1
    assert valve.at(100).state is ValveState.PROBING
    assert valve.at(100).concurrency(TEN) == 1


def test_a_ramp_doubles_up_to_the_declared_concurrency() -> None:
    assert caps_of_a_ramp(TEN) == [1, 2, 4, 8]
    assert caps_of_a_ramp(PLAIN) == [2**n for n in range(9) if 2**n < RAMP_END]
    assert caps_of_a_ramp(replace(PLAIN, concurrency=1)) == [1]


def test_a_wave_is_over_when_as_many_passed_as_it_allows() -> None:
    valve = passed(closed().at(1_000), 1_000, TEN)
    assert valve.concurrency(TEN) == 2
    valve = passed(valve, 1_000, TEN)
    assert valve.concurrency(TEN) == 2
    assert passed(valve, 1_000, TEN).concurrency(TEN) == 4


def test_a_flood_of_old_reports_moves_it_by_one_wave() -> None:
    assert passed(closed().at(1_000), 1_000, TEN, 500).concurrency(TEN) == 2


def test_an_error_begins_the_wave_again() -> None:
    valve = passed(passed(passed(closed().at(1_000), 1_000, TEN), 1_000, TEN).erred(), 1_000, TEN)
    assert valve.concurrency(TEN) == 2


def test_closures_without_a_named_time_grow_up_to_the_longest() -> None:
    valve, now, lengths = Valve(), 0, []
    for _ in range(6):
        valve = valve.throttled(now, PLAIN)
        assert valve.until_ms is not None
        lengths.append(valve.until_ms - now)
        now = valve.until_ms
    assert lengths == [1_000, 2_000, 4_000, 8_000, 8_000, 8_000]


def test_once_open_again_it_begins_with_the_first_closure() -> None:
    valve = closed().throttled(1_000, TEN).at(5_000)
    while valve.state is not ValveState.OPEN:
        valve = passed(valve, 5_000, TEN, 100)
    assert valve.throttled(6_000, TEN).until_ms == 7_000


def test_throttles_of_one_episode_count_once() -> None:
    valve = closed(0, retry_after_ms=1_000)
    assert valve.throttled(10, PLAIN) is valve
    assert valve.throttled(10, PLAIN, retry_after_ms=500) is valve
    later = valve.throttled(10, PLAIN, retry_after_ms=5_000)
    assert (later.until_ms, later.closures) == (5_010, 1)


def test_what_began_before_the_closure_does_not_fail_the_probe() -> None:
    probing = closed(1_000, retry_after_ms=1_000).at(2_000)
    assert probing.throttled(2_100, PLAIN, begun_ms=900) is probing
    again = probing.throttled(2_100, PLAIN, retry_after_ms=300, begun_ms=900)
    assert (again.state, again.until_ms, again.closures) == (ValveState.CLOSED, 2_400, 1)
    assert probing.throttled(2_100, PLAIN, begun_ms=2_050).closures == 2


def test_what_an_operator_closed_without_an_end_stays_closed() -> None:
    valve = Valve().close(0, None)
    assert valve.at(10**15).state is ValveState.CLOSED
    assert valve.throttled(5, PLAIN, retry_after_ms=5) is valve
    assert passed(valve, 5, PLAIN) is valve
    assert valve.open(PLAIN) == Valve()


def test_equal_failures_in_a_row_close_it() -> None:
    def fails(valve: Valve, name: str, count: int = 1) -> Valve:
        return valve.failed(0, PLAIN, fingerprint=name, count=count, threshold=3)

    assert fails(fails(Valve(), "a", 2), "a").state is ValveState.CLOSED
    assert fails(Valve(), "a", 7).state is ValveState.CLOSED
    assert fails(fails(fails(Valve(), "a", 2), "b"), "a", 2).state is ValveState.OPEN
    assert fails(passed(fails(Valve(), "a", 2), 0, PLAIN), "a").state is ValveState.OPEN


def test_the_probe_s_failure_closes_it_for_longer() -> None:
    valve = Valve().failed(0, PLAIN, fingerprint="a", count=3, threshold=3)
    assert valve.until_ms == 1_000
    assert valve.failed(500, PLAIN, fingerprint="a", count=9, threshold=3) is valve
    probing = valve.at(1_000)
    assert probing.failed(1_000, PLAIN, fingerprint="b", count=1, threshold=3).until_ms == 3_000
    assert probing.failed(1_000, PLAIN, fingerprint="a", count=9, threshold=3, begun_ms=-1) is probing


def test_on_the_ramp_the_old_failure_closes_it_and_a_new_one_is_counted() -> None:
    valve = Valve().failed(0, PLAIN, fingerprint="a", count=3, threshold=3)
    ramping = passed(valve.at(1_000), 1_000, PLAIN)
    assert ramping.failed(1_000, PLAIN, fingerprint="a", count=1, threshold=3).state is ValveState.CLOSED
    assert ramping.failed(1_000, PLAIN, fingerprint="b", count=1, threshold=3).state is ValveState.RAMPING


def test_an_adaptive_cap_starts_slowly_and_doubles() -> None:
    valve, caps = Valve(), []
    for _ in range(12):
        cap = valve.concurrency(ADAPTIVE)
        assert cap is not None
        caps.append(cap)
        valve = passed(valve, 0, ADAPTIVE, cap)
    assert caps[:4] == [SLOW_START, 2 * SLOW_START, 4 * SLOW_START, 8 * SLOW_START]
    assert caps[-1] == CEILING
    assert not valve.cautious(ADAPTIVE)


def test_an_adaptive_cap_is_cut_once_an_episode_and_grows_by_one_after() -> None:
    valve = Valve(cap=32).throttled(0, ADAPTIVE).throttled(10, ADAPTIVE)
    for now in (1_000, 3_000, 7_000):  # the probe is throttled, twice: the same episode
        assert valve.until_ms == now
        valve = valve.throttled(now, ADAPTIVE) if now < 7_000 else valve.at(now)
    while valve.state is not ValveState.OPEN:
        valve = passed(valve, 7_000, ADAPTIVE, 100)
    assert valve.concurrency(ADAPTIVE) == 16
    assert passed(valve, 7_000, ADAPTIVE, 16).concurrency(ADAPTIVE) == 17


def test_an_adaptive_cap_does_not_grow_while_errors_last_or_nobody_fills_it() -> None:
    valve = Valve(cap=4)
    assert passed(passed(valve, 0, ADAPTIVE, 3).erred(), 0, ADAPTIVE, 3).concurrency(ADAPTIVE) == 4
    assert passed(Valve(cap=100), 0, ADAPTIVE, 1, running=10) == Valve(cap=100)


def test_an_adaptive_cap_never_passes_what_was_declared() -> None:
    bounds = replace(ADAPTIVE, concurrency=5)
    valve = Valve()
    for _ in range(5):
        valve = passed(valve, 0, bounds, 100)
    assert valve.concurrency(bounds) == 5
    assert Valve(cap=400).concurrency(bounds) == 5


bounds_of = st.builds(
    Bounds,
    first_ms=st.integers(1, 60_000),
    max_ms=st.integers(1, 600_000),
    concurrency=st.none() | st.integers(1, 500),
    adaptive=st.booleans(),
)


@given(bounds_of, st.integers(1, 10**12), st.none() | st.integers(-5, 10**15))
def test_whatever_is_said_a_closure_ends(bounds: Bounds, now: int, retry_after: int | None) -> None:
    valve = Valve().throttled(now, bounds, retry_after_ms=retry_after)
    assert valve.until_ms is not None
    assert now <= valve.until_ms <= now + MAX_CLOSED_MS
    assert valve.at(valve.until_ms).state is ValveState.PROBING


class AnyHistory(RuleBasedStateMachine):
    """Any order of facts: what it allows stays in its bounds, grows by one wave at a time, and always opens again."""

    bounds = replace(PLAIN, concurrency=40, adaptive=True)

    def __init__(self) -> None:
        super().__init__()
        self.valve = Valve()
        self.now = 1_000_000  # 0 is the word for open

    def next(self, valve: Valve) -> None:
        before = self.valve.at(self.now).concurrency(self.bounds) or 1
        after = valve.concurrency(self.bounds) or 1
        assert after <= max(2 * before, SLOW_START)
        self.valve = valve

    @rule(milliseconds=st.integers(0, 5_000))
    def time_passes(self, milliseconds: int) -> None:
        self.now += milliseconds
        self.next(self.valve.at(self.now))

    @rule(after=st.none() | st.integers(0, 3_000), age=st.none() | st.integers(0, 3_000))
    def throttled(self, after: int | None, age: int | None) -> None:
        begun = None if age is None else self.now - age
        was = self.valve.at(self.now)
        self.next(self.valve.throttled(self.now, self.bounds, retry_after_ms=after, begun_ms=begun))
        if was.state in (ValveState.CLOSED, ValveState.PROBING):
            assert self.valve.goal == was.goal, "cut twice in an episode"

    @rule(name=st.sampled_from("ab"), count=st.integers(1, 5))
    def failed(self, name: str, count: int) -> None:
        self.next(self.valve.failed(self.now, self.bounds, fingerprint=name, count=count, threshold=4))

    @rule(count=st.integers(1, 50), running=st.integers(0, 50))
    def completed(self, count: int, running: int) -> None:
        was = self.valve.at(self.now)
        self.next(self.valve.completed(self.now, self.bounds, count=count, running=running))
        assert (was.state is ValveState.CLOSED) == (self.valve.state is ValveState.CLOSED)

    @rule()
    def erred(self) -> None:
        self.next(self.valve.erred())

    @rule(milliseconds=st.none() | st.integers(1, 5_000))
    def an_operator_closes(self, milliseconds: int | None) -> None:
        self.next(self.valve.close(self.now, None if milliseconds is None else self.now + milliseconds))

    @precondition(lambda self: self.valve.until_ms is None)
    @rule()
    def an_operator_opens(self) -> None:
        self.valve = self.valve.open(self.bounds)

    @invariant()
    def it_makes_sense(self) -> None:
        valve = self.valve
        allowed = valve.concurrency(self.bounds)
        assert allowed is not None
        assert 1 <= allowed <= 40
        assert (valve.until_ms == OPEN) == (valve.state is not ValveState.CLOSED)
        assert valve.state is ValveState.OPEN or valve.cautious(self.bounds)

    @invariant()
    def it_opens_again_when_all_goes_well(self) -> None:
        valve, now = self.valve, self.now
        if valve.state is ValveState.CLOSED:
            if valve.until_ms is None:
                return
            now = valve.until_ms
        for _ in range(10):
            valve = passed(valve, now, self.bounds, 40)
        assert valve.state is ValveState.OPEN


TestAnyHistory = AnyHistory.TestCase
