"""Valves in transactions: what becomes of items closes and opens limits, stages and lanes, on both databases."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
import sqlalchemy as sa

from penstock.runtime.sql import Database
from penstock.v1 import rules_pb2
from scheduler.domain.limits import OPEN, LimitState
from scheduler.store.effects import Effects
from scheduler.store.limit_rows import all_states, forget_events, locked, patterns_of, write
from scheduler.store.limits import Caution, Valves
from scheduler.store.locking import lock
from scheduler.store.schema import limit_events, limits, runs, stages
from scheduler.store.unit import RunUnit
from tests.servers.schemas import prepared

RULES = rules_pb2.StageRules(valve=rules_pb2.ValveRules(failures=3, closed_seconds=10, max_seconds=15))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    yield from with_schema(database_url)


def with_schema(database_url: str) -> Iterator[Database]:
    one = Database(database_url, "scheduler")
    prepared(one)
    with one.write() as connection:
        run = {"number": 1, "run_id": "run_1", "plan_id": "p", "source_id": "s", "kind": 1, "name": ""}
        connection.execute(sa.insert(runs).values(granularity="", state="running", create_ms=1, **run))
        stage = {"processor": "noop", "processor_version": "1", "parameters": b"{}", "worker_class": "default"}
        bounds = {"concurrency": 400, "max_tries": 5, "max_run_seconds": 60, "total": 1000}
        rules = RULES.SerializeToString()
        connection.execute(sa.insert(stages).values(run=1, stage=0, state="running", rules=rules, **stage, **bounds))
        connection.execute(sa.update(stages).values(running=100))
    yield one
    one.close()


class Turn:
    """One transaction at a time, as a call of the scheduler would make it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.caution: Caution | None = Caution()
        self.told: dict[str, LimitState | None] = {}

    @contextmanager
    def at(self, now_ms: int) -> Iterator[tuple[Valves, RunUnit]]:
        effects = Effects()
        with self.database.write() as connection:
            unit = lock(connection, 1, now_ms)
            assert unit is not None
            yield Valves(connection, effects, now_ms, self.caution), unit
            unit.flush(effects)
        self.told |= effects.limits

    def throttled(self, now_ms: int, key: str, seconds: float = 0, *, begun_ms: int | None = None) -> None:
        with self.at(now_ms) as (valves, unit):
            valves.throttled(
                unit, unit.stages[0], key=key, retry_after_seconds=seconds, seq=7, lane=key, begun_ms=begun_ms
            )

    def completed(self, now_ms: int, lane: str, count: int = 1, *, begun_ms: int | None = None) -> None:
        with self.at(now_ms) as (valves, unit):
            valves.completed(unit, unit.stages[0], [(lane, now_ms if begun_ms is None else begun_ms)] * count)

    def failed(self, now_ms: int, lane: str, fingerprint: str = "ff", count: int = 1, kind: str = "provider") -> None:
        with self.at(now_ms) as (valves, unit):
            valves.failed(unit, unit.stages[0], lane=lane, fingerprint=fingerprint, count=count, kind=kind)

    def due(self, now_ms: int) -> int:
        with self.at(now_ms) as (valves, _):
            return valves.due()

    def declare(self, key: str, **settings: object) -> None:
        effects = Effects()
        with self.database.write() as connection:
            row = locked(connection, [key], 0)[key]
            after = replace(row, declared=True, **settings)  # type: ignore[arg-type]
            write(connection, effects, row, after, now_ms=0, type_="limit.set", actor="me")
            if self.caution is not None:
                self.caution.become(Caution.read(connection))
        self.told |= effects.limits

    def events(self, key: str) -> list[tuple[int, str, str, str]]:
        columns = limit_events.c.number, limit_events.c.type, limit_events.c.old_state, limit_events.c.new_state
        query = sa.select(*columns).where(limit_events.c.key == key).order_by(limit_events.c.number)
        with self.database.read() as connection:
            return [tuple(row) for row in connection.execute(query)]

    def states(self) -> dict[str, LimitState]:
        with self.database.read() as connection:
            return all_states(connection)


@pytest.fixture(params=["sqlite_url remembering", "postgres_url remembering", "sqlite_url asking"])
def turn(request: pytest.FixtureRequest) -> Iterator[Turn]:
    """With the memory of the process, and without."""
    url, how = request.param.split()
    for database in with_schema(request.getfixturevalue(url)):
        one = Turn(database)
        one.caution = Caution() if how == "remembering" else None
        yield one


def test_a_throttled_key_closes_probes_ramps_and_opens(turn: Turn) -> None:
    key, lane = "domain:a.org", "domain:a.org provider:x"
    turn.declare(key, concurrency=5)
    turn.throttled(1_000, key, 30)
    assert turn.told[key] == LimitState(key, concurrency=1, closed_until_ms=31_000)
    turn.throttled(1_010, key, 5)  # of the same episode
    assert turn.states()[key].closed_until_ms == 31_000
    assert turn.due(30_999) == 0
    assert turn.due(31_000) == 1
    assert turn.told[key] == LimitState(key, concurrency=1)
    caps = []
    for _ in range(3):
        turn.completed(32_000, lane, 4)
        state = turn.told[key]
        assert state is not None
        caps.append(state.concurrency)
    assert caps == [2, 4, 5]
    assert turn.events(key) == [
        (1, "limit.set", "open", "open"),
        (2, "limit.closed", "open", "closed"),
        (3, "limit.probing", "closed", "probing"),
        (4, "limit.ramping", "probing", "ramping"),
        (5, "limit.cap", "ramping", "ramping"),
        (6, "limit.open", "ramping", "open"),
    ]


def test_a_closure_that_redis_never_heard_of_is_told_again(turn: Turn) -> None:
    turn.throttled(0, "domain:a", 30)
    turn.told.clear()
    turn.throttled(10, "domain:a", 1, begun_ms=-5)
    assert turn.told == {}
    turn.throttled(500, "domain:a", 1, begun_ms=400)
    assert turn.told == turn.states()


def test_a_closure_that_moves_by_little_is_told_once(turn: Turn) -> None:
    for now_ms in range(0, 900, 100):
        turn.throttled(now_ms, "domain:a", 30)
    assert turn.states()["domain:a"].closed_until_ms == 30_800
    assert len(turn.events("domain:a")) == 1
    turn.throttled(900, "domain:a", 60)
    assert len(turn.events("domain:a")) == 2
    turn.throttled(61_000, "domain:a", 0.01)  # the probe, before anybody noted that it was time for it
    assert len(turn.events("domain:a")) == 3


def test_what_began_before_the_closure_is_no_probe(turn: Turn) -> None:
    turn.throttled(1_000, "domain:a", 1)
    turn.completed(2_500, "domain:a", 300, begun_ms=900)
    assert turn.states()["domain:a"].concurrency == 1
    turn.completed(2_600, "domain:a", begun_ms=2_000)
    assert turn.states()["domain:a"].concurrency == 2


def test_a_probe_needs_no_sweep(turn: Turn) -> None:
    turn.throttled(0, "domain:a", 1)
    turn.completed(1_000, "domain:a")
    assert turn.states()["domain:a"].concurrency == 2


def test_what_nobody_declared_is_forgotten_when_it_is_open_again(turn: Turn) -> None:
    turn.throttled(0, "domain:a", 1)
    for _ in range(9):
        turn.completed(2_000, "domain:a", 500)
    assert turn.states() == {}
    assert turn.told["domain:a"] is None
    turn.throttled(3_000, "domain:a", 1)
    numbers = [number for number, *_ in turn.events("domain:a")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_key_closes_within_what_its_pattern_declares(turn: Turn) -> None:
    turn.declare("domain:*", concurrency=3, cooldown_ms=2_000)
    turn.declare("domain:special.*", concurrency=7, cooldown_ms=9_000)
    turn.throttled(0, "domain:a")
    turn.throttled(0, "domain:special.org")
    assert turn.states()["domain:a"].closed_until_ms == 2_000
    assert turn.states()["domain:special.org"].closed_until_ms == 9_000
    for now in (2_000, 2_001):
        turn.completed(now, "domain:a", 9)
    assert turn.told["domain:a"] is None  # 1, 2, then its pattern's 3


def test_a_closed_pattern_closes_what_remembers_something_of_its_own(turn: Turn) -> None:
    turn.declare("domain:*", concurrency=9)
    turn.throttled(0, "domain:a", 1)
    turn.completed(1_000, "domain:a")
    with turn.database.write() as connection:
        pattern = locked(connection, ["domain:*"], 0)["domain:*"]
        shut = replace(pattern, valve=pattern.valve.close(1_000, None))
        write(connection, Effects(), pattern, shut, now_ms=1_000)
    assert turn.states()["domain:a"].closed_until_ms is None


def test_events_stand_in_the_run_too(turn: Turn) -> None:
    turn.throttled(5, "domain:a", 1)
    with turn.at(6) as (_, unit):
        assert unit.run.event_number == 1


def test_equal_failures_of_one_lane_close_the_lane(turn: Turn) -> None:
    turn.failed(0, "domain:a", count=2)
    turn.completed(0, "domain:b", 50)
    turn.failed(0, "domain:a")
    assert turn.told == {"lane:1:0:domain:a": LimitState("lane:1:0:domain:a", concurrency=1, closed_until_ms=10_000)}
    assert turn.states() == turn.told


def test_equal_failures_of_several_lanes_close_the_stage(turn: Turn) -> None:
    for lane in ("domain:a", "domain:b", ""):
        turn.failed(0, lane)
    assert turn.told["stage:1:0"] == LimitState("stage:1:0", concurrency=1, closed_until_ms=10_000)
    turn.failed(10_000, "domain:c", "other")  # the probe
    assert turn.told["stage:1:0"] == LimitState("stage:1:0", concurrency=1, closed_until_ms=25_000)
    turn.completed(25_000, "domain:c")
    assert turn.told["stage:1:0"] == LimitState("stage:1:0", concurrency=2)


def test_failures_that_differ_or_are_broken_by_success_close_nothing(turn: Turn) -> None:
    for fingerprint in ("a", "b", "a", "b", "a"):
        turn.failed(0, "", fingerprint)
    for _ in range(5):
        turn.failed(0, "", "c", count=2)
        turn.completed(0, "")
    assert all(state.closed_until_ms == OPEN for state in turn.states().values())
    assert not turn.states()  # and nothing is remembered after a success


def test_without_rules_failures_close_nothing(turn: Turn) -> None:
    with turn.database.write() as connection:
        connection.execute(sa.update(stages).values(rules=b""))
    turn.failed(0, "domain:a", count=100)
    assert turn.states() == {}


def test_the_valves_of_a_run_go_with_it(turn: Turn) -> None:
    turn.failed(0, "domain:a", count=3)
    turn.throttled(0, "domain:z", 900)
    assert turn.due(1) == 0
    with turn.database.write() as connection:
        connection.execute(sa.update(runs).values(state="failed"))
    assert turn.due(2) == 1
    assert turn.told["lane:1:0:domain:a"] is None
    assert set(turn.states()) == {"domain:z"}


def test_each_key_of_an_adaptive_pattern_finds_its_own_concurrency(turn: Turn) -> None:
    turn.declare("domain:*", adaptive=True, concurrency=6)
    assert turn.told["domain:*"] == LimitState("domain:*", concurrency=2)
    caps = []
    for _ in range(4):
        turn.completed(0, "domain:a", 10)
        state = turn.states()["domain:a"]
        caps.append(state.concurrency)
    assert caps == [4, 6, 6, 6]
    turn.throttled(0, "domain:a", 1)
    turn.failed(1_000, "domain:a")  # no word of the limit: the probe is asked for again
    assert turn.states()["domain:a"].concurrency == 1
    turn.failed(1_000, "domain:a", kind="item")  # the outside did answer
    turn.completed(1_000, "domain:a", 10)
    assert turn.states()["domain:a"].concurrency == 3  # half of 6
    assert "domain:b" not in turn.states()


def test_completions_cost_nothing_while_nothing_is_cautious(turn: Turn) -> None:
    if turn.caution is None:
        pytest.skip("that one asks")
    turn.declare("domain:a", concurrency=5)
    with turn.at(0) as (valves, unit):
        statements: list[str] = []
        note: Callable[..., None] = lambda *facts: statements.append(facts[2])  # noqa: E731
        engine = turn.database.engine
        sa.event.listen(engine, "before_cursor_execute", note)
        valves.completed(unit, unit.stages[0], [("domain:a", 0)] * 100)
        sa.event.remove(engine, "before_cursor_execute", note)
    assert statements == []


def test_old_events_are_forgotten_and_numbers_go_on(turn: Turn) -> None:
    turn.declare("domain:a", concurrency=5)
    turn.throttled(10_000, "domain:a", 1)
    with turn.database.write() as connection:
        assert forget_events(connection, 10_000, 50) == 1
        assert forget_events(connection, 10_000, 50) == 0
    turn.completed(11_000, "domain:a")
    assert [number for number, *_ in turn.events("domain:a")] == [2, 3]


def test_two_schedulers_move_the_same_valves_and_every_change_has_its_number(database: Database) -> None:
    """Each has a run of its own, so nothing but the limits' rows keeps them apart."""
    keys = ["domain:a", "domain:b", "domain:c"]
    with database.write() as connection:
        connection.execute(
            sa.insert(runs).from_select(
                ["number", *(c.name for c in runs.c if c.name not in ("number", "run_id")), "run_id"],
                sa.select(
                    sa.literal(2),
                    *(c for c in runs.c if c.name not in ("number", "run_id")),
                    sa.literal("run_2"),
                ),
            )
        )
        others = [c for c in stages.c if c.name != "run"]
        connection.execute(
            sa.insert(stages).from_select(["run", *(c.name for c in others)], sa.select(sa.literal(2), *others))
        )

    def scheduler(number: int) -> None:
        randomness, caution = random.Random(number), Caution()
        for step in range(30):
            effects, now_ms = Effects(), step * 100
            with database.write() as connection:
                unit = lock(connection, number, now_ms)
                assert unit is not None
                valves, stage = Valves(connection, effects, now_ms, caution), unit.stages[0]
                some = randomness.sample(keys, 2)
                if randomness.random() < 0.5:
                    valves.lock(some)
                    for key in some:
                        valves.throttled(unit, stage, key=key, retry_after_seconds=0.05, seq=step)
                else:
                    valves.completed(unit, stage, [(" ".join(sorted(some)), now_ms)] * randomness.choice([1, 400]))
                unit.flush(effects)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(scheduler, (1, 2)))
    with database.read() as connection:
        for key in keys:
            query = sa.select(limit_events).where(limit_events.c.key == key).order_by(limit_events.c.number)
            told = list(connection.execute(query))
            assert [event.number for event in told] == list(range(1, len(told) + 1))
            for before, after in pairwise(told):
                assert before.new_state == after.old_state
            row = connection.execute(sa.select(limits).where(limits.c.key == key)).one_or_none()
            assert (row.version, row.state) == (len(told), told[-1].new_state) if row else told[-1].new_state == "open"


def test_what_was_noted_while_others_were_read_is_not_forgotten(turn: Turn) -> None:
    if turn.caution is None:
        pytest.skip("that one asks")
    read_before = Caution()
    turn.throttled(0, "domain:a", 1)
    turn.caution.become(read_before)
    turn.completed(1_000, "domain:a")
    assert turn.states()["domain:a"].concurrency == 2


def test_patterns_are_few_and_found_by_their_ending(turn: Turn) -> None:
    turn.declare("domain:*")
    turn.declare("domain:a")
    with turn.database.read() as connection:
        assert set(patterns_of(connection)) == {"domain:*"}
        assert connection.execute(sa.select(limits.c.key).where(sa.text("cautious"))).all() == []
