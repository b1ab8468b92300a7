"""What operators do at random: budgets, limits, gates, items; and how they set everything right at the end."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from penstock.v1 import rules_pb2
from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.states import ENDED_RUNS, RunState
from tests.simulator.drawing import DOMAINS, KEYS, PRICE, PROVIDER

if TYPE_CHECKING:
    from tests.simulator.play import Play

__all__ = ["LIMITS", "RUNS", "STEPS", "mend", "prepare"]

RUNS = "/penstock.v1.SchedulerService/"
LIMITS = "/penstock.v1.LimitService/"
WHO: dict[str, Any] = {"actor": "operator", "reason": "drawn"}
VERBS = (
    *(pb.ITEM_VERB_RETRY, pb.ITEM_VERB_SKIP, pb.ITEM_VERB_RELEASE, pb.ITEM_VERB_RERUN),
    *(pb.ITEM_VERB_FRONT, pb.ITEM_VERB_ACCEPT),
)
FILTERS = ("state = failed", "state = retry", 'group = "g1"', "state = deferred", "state = queued", "seq < 5")


def _id(play: Play) -> str:
    return play.world.new_id("request")


def prepare(play: Play) -> None:
    """What every seed begins with: limits of all keys, and a price."""
    source = play.world.stream("limits")
    _set_limit(play, source, PROVIDER)
    play.operate(LIMITS + "SetPrice", pb.SetPriceRequest(processor="paid", micros=PRICE, request_id=_id(play), **WHO))
    pattern = pb.Limit(key="domain:*", concurrency=source.choice((1, 2, 4)))
    play.operate(LIMITS + "SetLimit", pb.SetLimitRequest(limit=pattern, request_id=_id(play), **WHO))


def _set_limit(play: Play, source: random.Random, key: str) -> None:
    limit = pb.Limit(key=key, adaptive=source.random() < 0.4, cooldown_seconds=source.choice((1.0, 3.0)))
    if source.random() < 0.8:
        limit.concurrency = source.choice((1, 2, 4, 8))
    if source.random() < 0.5:
        limit.rates.add(dimension="requests", per_minute=source.choice((12, 60, 240, 1200)))
        limit.rates.add(dimension="tokens", per_minute=source.choice((600, 6000)), estimate=10)
    play.operate(LIMITS + "SetLimit", pb.SetLimitRequest(limit=limit, request_id=_id(play), **WHO))


def _limit(play: Play, source: random.Random) -> None:
    play.world.fired("limit_set")
    _set_limit(play, source, source.choice(KEYS))


def _close(play: Play, source: random.Random) -> None:
    request = pb.CloseLimitRequest(key=source.choice(KEYS), request_id=_id(play), **WHO)
    if source.random() < 0.6:
        request.until_time.FromMilliseconds(play.world.now_ms() + 1000 * source.choice((1, 4, 15)))
    play.world.fired("limit_closed")
    play.operate(LIMITS + "CloseLimit", request)


def _open(play: Play, source: random.Random) -> None:
    play.operate(LIMITS + "OpenLimit", pb.OpenLimitRequest(key=source.choice(KEYS), request_id=_id(play), **WHO))


def _delete(play: Play, source: random.Random) -> None:
    play.world.fired("limit_deleted")
    request = pb.DeleteLimitRequest(key=source.choice(DOMAINS), request_id=_id(play), **WHO)
    play.operate(LIMITS + "DeleteLimit", request)


def _update(play: Play, source: random.Random) -> None:
    run_id = play.some_run(source)
    if not run_id:
        return
    request = pb.UpdateRunRequest(run_id=run_id, request_id=_id(play), **WHO)
    what = source.choice(("budget", "budget", "stage_budget", "priority", "concurrency", "tries"))
    caps = (-1, 0, 2 * PRICE, 15 * PRICE, 1_000)
    if what == "budget":
        request.budget_micros = source.choice(caps)
        play.world.fired("budget_capped")
    elif what == "priority":
        request.priority = source.choice((-1, 9))
    else:
        stage = request.stages.add(stage=0)
        if what == "stage_budget":
            stage.budget_micros = source.choice(caps)
        elif what == "concurrency":
            stage.concurrency = source.choice((1, 3, 30))
            play.world.fired("concurrency_set")
        else:
            stage.max_tries = source.choice((1, 6))
    play.world.fired("run_updated")
    play.operate("UpdateRun", request)


def _gate(play: Play, source: random.Random) -> None:
    for run_id, number in play.model.numbers.items():
        if play.model.runs[number] == RunState.WAITING:
            answer = source.choice((rules_pb2.GATE_ANSWER_APPROVE, rules_pb2.GATE_ANSWER_REJECT))
            gate = f"gate-{source.choice((0, 1))}"
            request = pb.AnswerGateRequest(run_id=run_id, gate=gate, answer=answer, request_id=_id(play), **WHO)
            play.world.fired("gate_answered")
            play.operate("AnswerGate", request)


def _items(play: Play, source: random.Random) -> None:
    run_id = play.some_run(source)
    if not run_id:
        return
    verb = source.choice(VERBS)
    request = pb.ActOnItemsRequest(run_id=run_id, stage=0, verb=verb, request_id=_id(play), **WHO)
    if source.random() < 0.5:
        request.seqs.extend(sorted(source.sample(range(24), 3)))
    else:
        request.filter = source.choice(FILTERS)
    if verb == pb.ITEM_VERB_RERUN:
        play.model.rerun.add(play.model.numbers[run_id])
    play.world.fired("items_acted_on")
    play.operate("ActOnItems", request)


def _retries(play: Play, source: random.Random) -> None:
    play.world.fired("retries_switched")
    play.operate("SetRetries", pb.SetRetriesRequest(allowed=source.random() < 0.6, request_id=_id(play), **WHO))


def _clone(play: Play, source: random.Random) -> None:
    run_id = play.some_run(source)
    if run_id and len(play.model.live()) < 4:
        play.world.fired("run_cloned")
        play.operate("CloneRun", pb.CloneRunRequest(run_id=run_id, request_id=_id(play), **WHO))


STEPS: dict[str, tuple[int, Callable[[Play, random.Random], None]]] = {
    "set_limit": (3, _limit),
    "close_limit": (3, _close),
    "open_limit": (3, _open),
    "delete_limit": (1, _delete),
    "update_run": (6, _update),
    "answer_gate": (3, _gate),
    "act_on_items": (7, _items),
    "retries": (2, _retries),
    "clone": (2, _clone),
}


def mend(play: Play) -> None:
    """Operators let everything go on: caps are lifted, gates and limits open, retries allowed, runs resumed; and what
    runs one by one may run at once."""
    if not play.mended:
        play.mended = True
        play.operate("SetRetries", pb.SetRetriesRequest(allowed=True, request_id=_id(play), **WHO))
        for key in KEYS:
            limit = pb.Limit(key=key, concurrency=8)
            play.operate(LIMITS + "SetLimit", pb.SetLimitRequest(limit=limit, request_id=_id(play), **WHO))
            play.operate(LIMITS + "OpenLimit", pb.OpenLimitRequest(key=key, request_id=_id(play), **WHO))
    # A call that was drawn before, and is made again until somebody answers, may come through after all this; and what
    # is throttled still closes its key for longer and longer.
    raw = play.world.sql.raw
    for (key,) in raw.execute("SELECT key FROM limits WHERE state = 'closed'").fetchall():
        play.operate(LIMITS + "OpenLimit", pb.OpenLimitRequest(key=key, request_id=_id(play), **WHO))
    if raw.execute("SELECT 1 FROM switches WHERE name = 'retries' AND value = 'off'").fetchone():
        play.operate("SetRetries", pb.SetRetriesRequest(allowed=True, request_id=_id(play), **WHO))
    for run_id, number in play.model.numbers.items():
        state = play.model.runs[number]
        if state in ENDED_RUNS:
            continue
        if state == RunState.PAUSED:
            play.operate("ResumeRun", pb.RunCommand(run_id=run_id, request_id=_id(play), **WHO))
        if state in (RunState.WAITING, RunState.PAUSED) or number not in play.lifted:
            play.lifted.add(number)
            request = pb.UpdateRunRequest(run_id=run_id, budget_micros=-1, request_id=_id(play), **WHO)
            for (stage,) in play.world.sql.raw.execute("SELECT stage FROM stages WHERE run = ?", (number,)).fetchall():
                request.stages.add(stage=stage, budget_micros=-1, item_budget_micros=-1, concurrency=30)
            play.operate("UpdateRun", request)
            for gate in ("gate-0", "gate-1"):
                approve = pb.AnswerGateRequest(run_id=run_id, gate=gate, request_id=_id(play), **WHO)
                approve.answer = rules_pb2.GATE_ANSWER_APPROVE
                play.operate("AnswerGate", approve)
