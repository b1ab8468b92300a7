"""Any order of calls, time, losses and restarts: the scheduler and its reference say the same after every step.

Hypothesis draws the steps and shortens what falls; the scheduler is real, and so are its database and its Redis. The
same machine plays on SQLite and on PostgreSQL: 500 histories of 50 steps where this file is named, fewer in the whole
suite (`tools.test`).
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from penstock.runtime.errors import Conflict
from penstock.v1 import common_pb2
from penstock.v1 import scheduler_pb2 as pb
from scheduler import giving_way
from tests.integration.scheduler.reference import ENDED, Item, Reference, Refused
from tests.integration.scheduler.stateful_world import TERM_SECONDS, Place, StatefulWorld
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

EXAMPLES, STEPS = int(os.environ.get("PEN_HISTORIES") or 500), 50
COUNT, CONCURRENCY, MAX_TRIES, PRICE = 6, 4, 3, 10
KEY = "domain:a"
KINDS = {
    "completed": pb.OUTCOME_KIND_COMPLETED,
    "failed": pb.OUTCOME_KIND_FAILED,
    "released": pb.OUTCOME_KIND_RELEASED,
    "deferred": pb.OUTCOME_KIND_DEFERRED,
    "throttled": pb.OUTCOME_KIND_THROTTLED,
}
VERBS = {"retry": pb.ITEM_VERB_RETRY, "skip": pb.ITEM_VERB_SKIP, "release": pb.ITEM_VERB_RELEASE}
SEQS = st.sets(st.integers(0, COUNT - 1), min_size=1).map(sorted)
HOW = st.sampled_from(["completed", "completed", "failed", "failed", "throttled", "deferred", "released"])
Lease = tuple[str, int, int]
"""Who holds it, as far as it knows; seq; attempt."""


class Histories(RuleBasedStateMachine):
    """Two workers, an operator and an unlucky Redis. `place` is set by the test."""

    place: ClassVar[Place]

    @initialize(
        paid=st.booleans(),
        repeatable=st.sampled_from([True, True, False]),
        budget=st.sampled_from([None, 0, 25, 60, 1_000]),
    )
    def begin(self, paid: bool, repeatable: bool, budget: int | None) -> None:
        """Either money or a limit: with both it would depend on the limit's own pace what can be paid."""
        self.world = StatefulWorld(self.place)
        keys = ["" if paid or seq % 3 else KEY for seq in range(COUNT)]
        items = [common_pb2.Item(seq=seq, key=f"k{seq}", payload=b"{}", lane=key) for seq, key in enumerate(keys)]
        self.model = Reference(
            [Item(seq, key) for seq, key in enumerate(keys)],
            max_tries=MAX_TRIES,
            concurrency=CONCURRENCY,
            term_ms=int(TERM_SECONDS * 1000),
            listed=PRICE if paid else 0,
            repeatable=repeatable,
            budget=budget if paid else None,
            now=self.world.now_ms,
        )
        if paid:
            self.world.call("SetPrice", pb.SetPriceRequest(processor="work", micros=PRICE, actor="o", reason="t"))
        plan_id = self.world.plan(
            items,
            processor="work",
            concurrency=CONCURRENCY,
            max_tries=MAX_TRIES,
            paid=paid,
            repeatable=repeatable,
        )
        start = pb.StartRunRequest(plan_id=plan_id, actor="operator", owner="owner")
        if paid and budget is not None:
            start.budget_micros = budget
        run = self.world.call("StartRun", start)
        self.run_id, self.number = run.run_id, run.number
        self.sessions = {
            name: pb.WorkerSession(session=name, worker=name, worker_class="default", processors={"work": "1"})
            for name in ("ann", "bob")
        }
        self.grants: Counter[str] = Counter()
        self.leases: list[Lease] = []
        self.told: dict[Lease, tuple[pb.Outcome, str, int, int]] = {}
        self.flushed = False

    # -- workers

    @rule(name=st.sampled_from(["ann", "bob"]), most=st.integers(1, 5))
    def acquire(self, name: str, most: int) -> None:
        free, maybe, bound = self.model.acquire(most)
        certain = min(bound, len(free) - len(maybe))
        granted = self._acquire(name, most)
        for _ in range(COUNT):
            # What was skipped is offered once more, and refused; the first who comes finds that Redis was lost; and
            # who asks for more than there is money for finds that when the first of it is offered. Of what goes alone
            # a call is granted one.
            if len(granted) >= certain and (self.model.held is None or self._is_held()):
                break
            self.world.wait_for_redis()
            self.model.now = self.world.now_ms
            granted += self._acquire(name, most - len(granted))
        self.flushed = False
        seqs = [lease.seq for lease in granted]
        assert len(seqs) <= bound, f"{seqs} were granted, {bound} are allowed"
        assert set(seqs) <= {item.seq for item in free}, f"{seqs} were granted, free are {[i.seq for i in free]}"
        passed = [item.seq for item in free if item.seq not in seqs and item not in maybe]
        assert not passed or (len(seqs) == bound and max(seqs, default=-1) < passed[0]), f"{passed} were passed over"
        for lease in granted:
            item = self.model.items[lease.seq]
            self.model.grant(item, name)
            assert (lease.attempt, lease.tries) == (item.attempt, item.tries), lease
            assert lease.reserved_micros == item.reserved, lease
            self.leases.append((name, lease.seq, lease.attempt))
        self.model.settle()

    def _is_held(self) -> bool:
        return any(kind == "run" and numbers[3] for kind, _, _, *numbers in self.place.see())

    def _acquire(self, name: str, most: int) -> list[pb.Lease]:
        self.grants[name] += 1
        request = pb.AcquireRequest(session=self.sessions[name], grant_number=self.grants[name], max_leases=most)
        answer = self.world.call("Acquire", request)
        leases = [lease for batch in answer.batches for lease in batch.leases]
        seqs = [lease.seq for lease in leases]
        assert seqs == sorted(seqs), f"{seqs} are not in order of rank"
        assert sum(lease.alone for lease in leases) <= 1, f"of {seqs} more than one goes alone"
        return leases

    @precondition(lambda self: self.model.among("running"))
    @rule(pick=st.integers(0, COUNT), how=HOW, cost=st.sampled_from([10, 4, 25]), ms=st.sampled_from([700, 3_000]))
    def report(self, pick: int, how: str, cost: int, ms: int) -> None:
        """Of something that runs."""
        running = self.model.among("running")
        item = running[pick % len(running)]
        self._report((item.session, item.seq, item.attempt), how, cost, ms)

    @precondition(lambda self: self.leases)
    @rule(pick=st.integers(0, 200), how=HOW, cost=st.sampled_from([10, 4, 25]))
    def report_late(self, pick: int, how: str, cost: int) -> None:
        """Of any lease there ever was: late, or a second and different word."""
        self._report(self.leases[-1 - pick % len(self.leases)], how, cost, 3_000)

    @precondition(lambda self: self.told)
    @rule(pick=st.integers(0, 200))
    def report_twice(self, pick: int) -> None:
        lease = list(self.told)[-1 - pick % len(self.told)]
        self._send(lease, *self.told[lease])

    @precondition(lambda self: self.leases)
    @rule(pick=st.integers(0, 200), more=st.sampled_from([0, 1]))
    def report_what_another_has(self, pick: int, more: int) -> None:
        """Of a lease of the other worker, or of an attempt that was never granted."""
        name, seq, attempt = self.leases[-1 - pick % len(self.leases)]
        item = self.model.items[seq]
        other = {"ann": "bob", "bob": "ann"}[name]
        if more or (item.attempt == attempt and item.state == "running"):
            self._report((other, seq, item.attempt + more), "completed", 4, 0)

    def _report(self, lease: Lease, how: str, cost: int, ms: int) -> None:
        item = self.model.items[lease[1]]
        if how == "throttled" and not item.key:
            how = "released"
        cost = cost if self.model.listed and how in ("completed", "failed") else 0
        outcome = pb.Outcome(seq=lease[1], attempt=lease[2], kind=KINDS[how], cost_micros=cost)
        if how == "failed":
            outcome.error = "it broke"
        elif how == "throttled":
            outcome.limit_key, outcome.retry_after_seconds = KEY, ms / 1000
        elif how == "deferred":
            outcome.until_time.FromMilliseconds(self.world.now_ms + ms)
        self._send(lease, outcome, how, cost, ms)

    def _send(self, lease: Lease, outcome: pb.Outcome, how: str, cost: int, ms: int) -> None:
        name, seq, attempt = lease
        batch = pb.OutcomeBatch(run_id=self.run_id, outcomes=[outcome])
        answer = self.world.call("Report", pb.ReportRequest(session=self.sessions[name], outcomes=[batch]))
        said = "".join(refused.reason for refused in answer.refused)
        wanted = self.model.report(
            self.model.items[seq], attempt, name, outcome.SerializeToString(), how=how, cost=cost, ms=ms
        )
        assert said == wanted, f"the report of {seq}#{attempt} was answered {said!r}, not {wanted!r}"
        self.told.setdefault(lease, (outcome, how, cost, ms))

    @precondition(lambda self: self.leases)
    @rule(name=st.sampled_from(["ann", "bob"]), begun=st.booleans())
    def renew(self, name: str, begun: bool) -> None:
        """All that a worker has ever held; of the latest, whether it has begun."""
        held = [(seq, attempt) for who, seq, attempt in self.leases if who == name]
        batch = pb.HeldBatch(run_id=self.run_id)
        for seq, attempt in held:
            batch.leases.add(seq=seq, attempt=attempt, begun=begun)
        answer = self.world.call("Renew", pb.RenewRequest(session=self.sessions[name], held=[batch]))
        revoked, back = self.model.renew(name, held, set(held) if begun else set())
        assert {lease.seq for lease in answer.wanted_back} == back
        assert {lease.seq for lease in answer.revoked} == revoked
        mine = {(item.session, item.seq, item.attempt) for item in self.model.among("running")}
        self.leases = [lease for lease in self.leases if lease[0] != name or lease in mine] or self.leases[-1:]

    # -- operators

    def _command(self, method: str, request: Any, *, wanted: Any) -> Any:
        """Both refuse it with the same code, or both take it; the answers."""
        request.actor, request.reason = "operator", "the test"
        try:
            expected, refused = wanted(), ""
        except Refused as error:
            expected, refused = None, str(error)
        answer, code, said = None, "", ""
        try:
            answer = self.world.call(method, request)
        except Conflict as error:
            code, said = error.code, error.message
        assert code == refused, f"{method} was answered {code or 'done'} {said}, not {refused or 'done'}"
        return answer, expected

    @rule(what=st.sampled_from(["pause", "resume", "resume", "resume", "stop", "stop by force"]))
    def command(self, what: str) -> None:
        if what in ("pause", "resume"):
            request = pb.RunCommand(run_id=self.run_id)
            self._command(f"{what.title()}Run", request, wanted=getattr(self.model, what))
        else:
            force = what == "stop by force"
            stop = pb.StopRunRequest(run_id=self.run_id, force=force)
            self._command("StopRun", stop, wanted=lambda: self.model.stop(force=force))

    @precondition(lambda self: self.model.listed)
    @rule(budget=st.sampled_from([None, 0, 12, 40, 90, 500]))
    def raise_or_lower_the_budget(self, budget: int | None) -> None:
        request = pb.UpdateRunRequest(run_id=self.run_id, budget_micros=-1 if budget is None else budget)
        self._command("UpdateRun", request, wanted=lambda: self.model.raise_or_lower(budget))

    @rule(verb=st.sampled_from(["retry", "retry", "skip", "release"]), seqs=SEQS)
    def act_on_items(self, verb: str, seqs: list[int]) -> None:
        request = pb.ActOnItemsRequest(run_id=self.run_id, stage=0, verb=VERBS[verb], seqs=seqs)
        answer, changed = self._command("ActOnItems", request, wanted=lambda: self.model.act(verb, seqs))
        if answer is not None:
            assert answer.changed == changed, answer

    # -- time and trouble

    @rule(milliseconds=st.sampled_from([250, 1_000, 2_600, 5_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.world.pass_time(milliseconds)
        self.model.now = self.world.now_ms

    @rule()
    def sweep(self) -> None:
        self.world.sweep()
        self.model.sweep()

    @rule(what=st.sampled_from(["Redis is flushed", "another scheduler begins"]))
    def trouble(self, what: str) -> None:
        if what == "another scheduler begins":
            self.world.start()
            self.model.rebuilt()
            self.model.begun.clear()
            self.flushed = False
            return
        self.world.flush_redis()
        if self.model.run in ENDED:
            self.flushed = True  # nobody has a reason to look
            return
        self.world.recover()
        self.model.now = self.world.now_ms
        self.model.rebuilt()

    # -- after every step

    @invariant()
    def both_say_the_same(self) -> None:
        model = self.model
        money = sum(item.cost for item in model.items), sum(item.reserved for item in model.items)
        rows = {item.seq: item for item in model.items}
        for kind, seq, state, *numbers in self.place.see():
            if kind == "item":
                item = rows.pop(seq)
                wanted = [item.attempt, item.tries, item.cost, item.reserved]
                assert (state, numbers) == (item.state, wanted), f"item {seq} is {state} {numbers}, not {item}"
            elif kind == "stage":
                counts = Counter(item.state for item in model.items)
                waits = counts["retry"] + 1_000 * counts["deferred"]
                assert numbers[:3] == [counts["running"], waits, counts["completed"] + 1_000 * counts["failed"]]
            elif kind == "money":
                unknown = sum(sum(item.unknown.values()) for item in model.items)
                assert tuple(numbers[:3]) == (*money, unknown), f"the stage says {numbers}"
            elif kind == "run":
                assert state == model.run, f"the run is {state}, not {model.run}"
                assert tuple(numbers[:2]) == money, f"the run says {numbers}"
                assert bool(numbers[3]) == (model.held is not None), "whether it is held by its budget"
            elif kind == "ledger":
                assert numbers[0] == money[0], f"the ledger says {numbers[0]}, the items {money}"
            else:
                assert numbers[0] == numbers[1], "event numbers have gaps"
        assert all(item.state == "queued" and not item.attempt for item in rows.values()), f"no row: {rows}"
        if not self.flushed:
            self._check_redis()

    def _check_redis(self) -> None:
        running = self.model.among("running")
        seqs, slots = self.world.leases(self.number)
        assert seqs == {item.seq for item in running}, f"Redis holds leases of {seqs}, SQL of {running}"
        limited = sum(1 for item in running if item.key)
        held = {f"run:{self.number}": len(running), "owner:owner": len(running), KEY: limited}
        assert slots == {key: count for key, count in held.items() if count}

    def teardown(self) -> None:
        if hasattr(self, "world"):
            found = self.place.breaches()
            assert not found, found


@pytest.fixture(scope="module")
def redis_of_its_own() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def calls_that_are_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands while a call is under way."""
    monkeypatch.setattr(giving_way, "WAY_SECONDS", 0.0)


def _play(url: str, server: RedisServer, folder: Path) -> None:
    before = structlog.get_config() if structlog.is_configured() else None
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    place = Place(url, server.url, folder)
    machine = type("Histories", (Histories,), {"place": place})
    gc.collect()
    gc.freeze()  # what is here by now stays; looking through it again and again is a tenth of the time
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                print_blob=False,
                report_multiple_bugs=False,
            ),
        )
    finally:
        gc.unfreeze()
        place.close()
        if before is None:
            structlog.reset_defaults()
        else:
            structlog.configure(**before)


def test_on_sqlite_it_does_what_the_reference_does(redis_of_its_own: RedisServer) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        _play(f"sqlite:///{folder}/stateful.db", redis_of_its_own, Path(folder))


def test_on_postgresql_it_does_what_the_reference_does(
    redis_of_its_own: RedisServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.create_database()
    try:
        _play(url, redis_of_its_own, tmp_path)
    finally:
        postgres.drop_database(url)
