"""What a processor answers, as the scheduler gets it: waits, money, what was used, and ends that nobody knows."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import orjson
import pytest

from penstock.processor import BudgetRefused, WorkItem
from penstock.runtime.blobs import BlobStore
from penstock.runtime.errors import Conflict, Unavailable
from penstock.runtime.settings import WorkerSection
from penstock.v1 import scheduler_pb2 as pb
from tests.integration.worker.test_agent import sent
from worker import outcomes
from worker.agent import Agent
from worker.held import HeldLease
from worker.runner import Runner, StageWork


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(BlobStore(tmp_path), {})


def work(does: str, **fields: Any) -> StageWork:
    seconds = 1 if does == "hang" else 60
    return StageWork("run-1", 0, "spending", orjson.dumps({"mode": does}), seconds, **fields)


async def run(runner: Runner, does: str, lease: pb.Lease | None = None, **fields: Any) -> pb.Outcome:
    held = HeldLease("run-1", 0, lease or pb.Lease(seq=4, attempt=2, key="k"), 1e9)
    (outcome,) = sent(await runner.run(work(does, **fields), [held], list))
    assert (outcome.seq, outcome.attempt) == (4, 2)
    return outcome


async def test_costs_and_uses_are_told(runner: Runner) -> None:
    plain = await run(runner, "plain")
    assert (plain.kind, plain.cost_micros, dict(plain.used)) == (pb.OUTCOME_KIND_COMPLETED, 7, {"tokens": 9})
    free = await run(runner, "free")
    assert (free.result, free.cost_micros, dict(free.used)) == (b'{"a":1}', 0, {})
    told = await run(runner, "told")
    assert (told.cost_micros, dict(told.used)) == (7, {"tokens": 3, "images": 4}), "both were added"
    assert (told.error_kind, told.fingerprint, told.cost_unknown) == ("item", "no luck", False)


async def test_a_processor_that_waits_says_until_when(runner: Runner) -> None:
    throttled = await run(runner, "throttled")
    assert throttled.kind == pb.OUTCOME_KIND_THROTTLED
    assert (throttled.limit_key, throttled.retry_after_seconds) == ("provider:x", 2.5)
    assert (throttled.error, throttled.cost_micros) == ("slow down", 1)
    until = await run(runner, "until")
    assert until.kind == pb.OUTCOME_KIND_DEFERRED
    assert until.until_time.ToDatetime(dt.UTC) == dt.datetime(2030, 1, 2, tzinfo=dt.UTC)
    assert (until.saved, dict(until.used)) == (b'{"batch":7}', {"tokens": 1})
    after = await run(runner, "after")
    assert (after.HasField("until_time"), after.retry_after_seconds, after.saved) == (False, 30.0, b"")


@pytest.mark.parametrize(
    ("mode", "words", "cost"),
    [
        ("neither", "names either `until` or `after_seconds`", 4),
        ("no_zone", "no time with a time zone", 0),
        ("for_ever", "retry_after_seconds is inf", 0),
        ("long_key", "has 307 characters, it may have 200", 0),
        ("no_key", "is not `kind:name`", 0),
        ("saves_too_much", "it saved 100002 bytes; 64000 are possible", 0),
        ("negative", "its cost is -1 micro-dollars", 0),
        ("no_number", "its cost is '7' micro-dollars", 0),
        ("no_dimension", "it used {'': 1}", 0),
        ("half", "it used {'tokens': 0.5}", 0),
    ],
)
async def test_what_can_t_be_recorded_is_an_invalid_result(runner: Runner, mode: str, words: str, cost: int) -> None:
    outcome = await run(runner, mode)
    assert outcome.kind == pb.OUTCOME_KIND_FAILED
    assert (outcome.error_kind, outcome.permanent, outcome.cost_micros) == ("invalid_result", True, cost)
    assert words in outcome.error
    assert outcome.cost_unknown == ("cost" in words or "used" in words)


@pytest.mark.parametrize(
    ("mode", "kind", "unknown"), [("raised", "provider", False), ("crash", "unknown", True), ("hang", "unknown", True)]
)
async def test_what_was_spent_counts_however_it_ends(runner: Runner, mode: str, kind: str, unknown: bool) -> None:
    outcome = await run(runner, mode)
    assert (outcome.cost_micros, dict(outcome.used)) == (5, {"tokens": 2, "images": 4})
    assert (outcome.error_kind, outcome.cost_unknown, outcome.permanent) == (kind, unknown, unknown)
    assert ("whether it took effect is not known" in outcome.error) == unknown


async def test_work_that_was_done_and_can_t_be_kept_is_not_done_again(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(BlobStore, "put_many", full)
    outcome = await run(runner, "large")
    assert (outcome.kind, outcome.error_kind, outcome.permanent) == (pb.OUTCOME_KIND_FAILED, "unknown", True)
    assert "the disk is full; it was done, and its result could not be kept" in outcome.error
    assert (outcome.cost_micros, outcome.no_try) == (7, False)


async def test_a_result_has_a_bound(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "MAX_RESULT_BYTES", 99_999)
    outcome = await run(runner, "large")
    assert (outcome.error_kind, outcome.permanent, outcome.cost_micros) == ("invalid_result", True, 7)
    assert "its result has 100,002 bytes; 99,999 are possible" in outcome.error


async def test_a_processor_is_told_what_its_lease_is_for(runner: Runner) -> None:
    lease = pb.Lease(seq=4, attempt=2, context=b'{"kind":"item"}', saved=b"[1]", reserved_micros=9, heals=2)
    seen = await run(runner, "seen", lease, mode=pb.MODE_HEAL, budgeted=True)
    assert orjson.loads(seen.result) == ["heal", {"kind": "item"}, [1], 9, 2]
    seen = await run(runner, "seen", pb.Lease(seq=4, attempt=2, reserved_micros=9), mode=pb.MODE_CONFIRM)
    assert orjson.loads(seen.result) == ["confirm", None, None, None, 0], "without a budget there is no bound"


class ToppingUp:
    """A scheduler that answers top-ups as it is told."""

    def __init__(self, *answers: pb.TopUpResponse | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[pb.TopUpRequest] = []

    async def TopUp(self, request: pb.TopUpRequest, timeout: float) -> pb.TopUpResponse:
        self.asked.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def agent_of(runner: Runner, stub: ToppingUp) -> Agent:
    return Agent(pb.WorkerSession(session="s"), stub, runner, WorkerSection())  # type: ignore[arg-type]


async def test_a_top_up_is_asked_for_until_there_is_an_answer(runner: Runner) -> None:
    stub = ToppingUp(Unavailable("away"), pb.TopUpResponse(granted=True, reserved_micros=109))
    agent_of(runner, stub)
    outcome = await run(runner, "top_up", pb.Lease(seq=4, attempt=2, reserved_micros=9), budgeted=True)
    assert outcome.result == b"109"
    first, second = stub.asked
    assert first == second, "the same request, with the same id"
    assert first.request_id
    assert (first.lease, first.micros) == (pb.LeaseId(run_id="run-1", stage=0, seq=4, attempt=2), 100)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            pb.TopUpResponse(reserved_micros=9, reason="stage_budget"),
            "$0.0001 more than $0.000009 were refused: stage_b",
        ),
        (Conflict("the lease has expired"), "refused: the lease has expired"),
    ],
)
async def test_a_refused_top_up_fails_the_item_unless_it_is_caught(
    runner: Runner, answer: pb.TopUpResponse | Exception, words: str
) -> None:
    agent_of(runner, ToppingUp(answer, answer))
    outcome = await run(runner, "top_up", budgeted=True)
    assert (outcome.error_kind, outcome.cost_unknown) == ("budget", False)
    assert words in outcome.error
    assert runner.top_up is not None
    with pytest.raises(BudgetRefused):
        await runner.top_up(work("top_up"), WorkItem("run-1", 0, 4, "k", "", {}), 100)


async def test_without_a_budget_every_top_up_is_granted(runner: Runner) -> None:
    agent_of(runner, ToppingUp())
    assert (await run(runner, "top_up")).result == b"100"
