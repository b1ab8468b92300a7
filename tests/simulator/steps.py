"""What happens in a seed: 150 steps drawn at random, each an act of somebody or a fault; then all is mended.

Each step has a stream of its own, so that leaving some out (to shorten a story) leaves the others as they were.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from penstock.v1 import scheduler_pb2 as pb
from tests.simulator import operators
from tests.simulator.drawing import draw_plan
from tests.simulator.world import HOUR_MS, SWEEP_SECONDS, TERM_SECONDS

if TYPE_CHECKING:
    from tests.simulator.play import Play

__all__ = ["FAULTS", "STEPS", "take"]

RUNS = "/penstock.v1.SchedulerService/"
MAX_RUNS = 4


def take(play: Play, kind: str, source: random.Random) -> None:
    """Does one step."""
    play.world.tell("step", kind)
    STEPS[kind][1](play, source)


# -- operators


def _start(play: Play, source: random.Random) -> None:
    if len(play.model.live()) < MAX_RUNS:
        plan_id = play.world.planner.add(*draw_plan(source))
        request = pb.StartRunRequest(
            plan_id=plan_id,
            request_id=play.world.new_id("request"),
            actor=source.choice(("ann", "bob")),
            priority=source.choice((0, 0, 5)),
        )
        if source.random() < 0.15:
            request.budget_micros = source.choice((9, 50, 1_000))
        if source.random() < 0.15:
            request.exclusive_keys.append("project:x")
        play.operate("StartRun", request)


def _command(method: str, **fields: Any) -> Callable[[Play, random.Random], None]:
    def act(play: Play, source: random.Random) -> None:
        run_id = play.some_run(source)
        if run_id:
            kind = pb.StopRunRequest if method == "StopRun" else pb.RunCommand
            request_id = play.world.new_id("request")
            play.operate(method, kind(run_id=run_id, actor="operator", request_id=request_id, **fields))

    return act


# -- faults


def _kill_scheduler(play: Play, source: random.Random) -> None:
    for one in source.sample(play.world.living(), min(1, len(play.world.living()))):
        one.process.fuse = source.randint(0, 120)
        one.process.on_death.append(lambda: play.world.fired("scheduler_killed"))


def _stall_scheduler(play: Play, source: random.Random) -> None:
    for one in source.sample(play.world.living(), min(1, len(play.world.living()))):
        play.world.fired("scheduler_stalled")
        seconds = source.choice((1.0, TERM_SECONDS, 2 * TERM_SECONDS))
        now, bounds = play.world.loop.now, play.model.bounds
        # One that stands still already stands no shorter for it.
        one.process.stalled_until = max(one.process.stalled_until, now + seconds)
        stands = one.process.stalled_until - now > 3 * SWEEP_SECONDS or bounds.stood_until > now
        # Of two, the other may be back before this one goes on.
        if stands and not play.world.shared and len(play.world.living()) == 1:
            bounds.stood_until = one.process.stalled_until


def _kill_worker(play: Play, source: random.Random) -> None:
    worker = play.some_worker(source)
    if worker:
        worker.process.fuse = source.randint(0, 60)
        worker.process.on_death.append(lambda: play.world.fired("worker_killed"))


def _stall_worker(play: Play, source: random.Random) -> None:
    worker = play.some_worker(source)
    if worker:
        play.world.fired("worker_stalled")
        worker.process.stalled_until = play.world.loop.now + source.choice((1.0, TERM_SECONDS, 2.5 * TERM_SECONDS))


def _end_worker(play: Play, source: random.Random) -> None:
    worker = play.some_worker(source)
    if worker:
        play.world.loop.create_task(worker.end(), context=worker.process.context.copy())


def _more(name: str) -> Callable[[Play, random.Random], None]:
    def act(play: Play, source: random.Random) -> None:
        worker = play.some_worker(source)
        if worker:
            setattr(worker, name, getattr(worker, name) + source.randint(1, 3))

    return act


def _report_again(play: Play, source: random.Random) -> None:
    worker = play.some_worker(source)
    if worker and worker.reported:
        play.report_again(worker, *source.choice(worker.reported), different=source.random() < 0.4)


def _calls(fate: str) -> Callable[[Play, random.Random], None]:
    def act(play: Play, source: random.Random) -> None:
        play.world.next_calls.extend([fate] * source.randint(1, 3))

    return act


def _redis_down(play: Play, source: random.Random) -> None:
    play.world.redis.down_until = play.world.loop.now + source.choice((0.2, 1.0, 5.0))


def _redis_flushed(play: Play, source: random.Random) -> None:
    play.world.fired("redis_flushed")
    play.world.redis.client.flushdb()


def _redis_kept(play: Play, source: random.Random) -> None:
    play.world.redis.keep()


def _redis_rolled_back(play: Play, source: random.Random) -> None:
    if play.world.redis.roll_back():
        play.world.fired("redis_rolled_back")


def _redis_reply_lost(play: Play, source: random.Random) -> None:
    play.world.redis.lose_replies += source.randint(1, 2)


def _sql_down(play: Play, source: random.Random) -> None:
    play.world.sql.down_until = play.world.loop.now + source.choice((0.2, 1.0, 3.0))


def _sql_next(fate: str) -> Callable[[Play, random.Random], None]:
    def act(play: Play, source: random.Random) -> None:
        play.world.sql.next_writes.extend([""] * source.randint(0, 3) + [fate])

    return act


def _planner_down(play: Play, source: random.Random) -> None:
    play.world.planner.down_until = play.world.loop.now + source.choice((0.5, 3.0))


def _clock_jumps(play: Play, source: random.Random) -> None:
    """Somebody sets the clock of the only scheduler's machine: the next start sees it."""
    play.world.wall_offset_ms = source.choice((0, -HOUR_MS, HOUR_MS))


def _both_lead(play: Play, source: random.Random) -> None:
    play.world.both_lead_until = play.world.loop.now + source.choice((2.0, 8.0))


def _nothing(play: Play, source: random.Random) -> None:
    pass


STEPS: dict[str, tuple[int, Callable[[Play, random.Random], None]]] = {
    "wait": (30, _nothing),
    "start": (14, _start),
    "pause": (4, _command("PauseRun")),
    "resume": (9, _command("ResumeRun")),
    "stop": (2, _command("StopRun")),
    "force_stop": (2, _command("StopRun", force=True)),
    **operators.STEPS,
    "scheduler_killed": (6, _kill_scheduler),
    "scheduler_stalled": (2, _stall_scheduler),
    "worker_killed": (4, _kill_worker),
    "worker_stalled": (4, _stall_worker),
    "worker_ended": (2, _end_worker),
    "report_late": (3, _more("late")),
    "report_never": (3, _more("never")),
    "report_again": (5, _report_again),
    "call_lost": (3, _calls("lost")),
    "call_answer_lost": (5, _calls("answer_lost")),
    "call_cut": (4, _calls("cut")),
    "call_twice": (3, _calls("twice")),
    "redis_down": (2, _redis_down),
    "redis_flushed": (3, _redis_flushed),
    "redis_kept": (3, _redis_kept),
    "redis_rolled_back": (3, _redis_rolled_back),
    "redis_reply_lost": (3, _redis_reply_lost),
    "sql_down": (2, _sql_down),
    "sql_fails": (3, _sql_next("fails")),
    "commit_raises": (5, _sql_next("raises")),
    "planner_down": (2, _planner_down),
    "clock_jumps": (1, _clock_jumps),
    "both_lead": (2, _both_lead),
}
FAULTS: Sequence[str] = (
    *("scheduler_killed", "scheduler_stalled", "worker_killed", "worker_stalled", "item_kills_worker"),
    *("report_late", "report_never", "report_again", "report_different"),
    *("call_lost", "call_answer_lost", "call_cut", "call_twice"),
    *("redis_down", "redis_flushed", "redis_rolled_back", "redis_reply_lost"),
    *("sql_down", "sql_fails", "commit_raises", "planner_down"),
    *("clock_jumped", "clock_off", "worker_clock_off", "second_scheduler", "two_lead"),
    *("limit_set", "limit_closed", "limit_deleted", "run_updated", "concurrency_set", "budget_capped"),
    *("items_acted_on", "retries_switched", "topped_up", "gate_answered", "run_cloned"),
)
"""What `World.fired` counts: each must strike often in a run of many seeds."""
