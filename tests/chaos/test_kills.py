"""`kill -9` of each program, of Redis (and FLUSHALL), of the supervisor, of everything, in the middle of a run.

Whatever dies: the run completes, each document is recorded once, none fails for it, none is executed after it
completed, and no more is executed twice than was in flight.
"""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from penstock import Client
from penstock.client.resources import StageOptions
from penstock.v1 import scheduler_pb2
from tests.chaos.witnessed import WitnessedRun, start_run, witness_environment
from tests.conftest import StackFactory
from tests.servers.site import install_processor
from tests.servers.stack import Stack, until
from tests.texts import make_documents

DOCUMENTS = 3_000
STOPPER = Path(__file__).parent / "stopper.py"

# As the design says: from the kill, and from `ready`.
MOVES_AGAIN_SECONDS = 5.0
MOVES_AGAIN_AFTER_ALL_SECONDS = 20.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# Whose death costs no execution: they hold nothing that runs.
COST_NOTHING = ("scheduler", "planner", "gateway", "redis", "flush")


def flush_redis(stack: Stack) -> None:
    url = json.loads((stack.data / "endpoints.json").read_text())["redis"]
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(url.removeprefix("unix://"))
        one.sendall(b"FLUSHALL\r\n")
        assert one.recv(100).startswith(b"+OK")


def kill_each(stack: Stack, run: WitnessedRun, victims: Sequence[str]) -> int:
    """Kills one after another, evenly over the run; how many of them could cost executions."""
    for number, victim in enumerate(victims):
        run.await_share((number + 0.5) / (len(victims) + 1))
        assert run.settled() < run.total, "too late: the run is over"
        if victim == "flush":
            flush_redis(stack)
        else:
            stack.kill(victim)
        seconds = run.await_motion(seconds=MOVES_AGAIN_SECONDS)
        print(f"{victim}: granted again after {seconds:.1f} s")
    return sum(victim not in COST_NOTHING for victim in victims)


def test_every_program_killed_in_the_middle_of_one_run(fresh_stack: StackFactory, tmp_path: Path) -> None:
    log = tmp_path / "executions"
    make_documents(tmp_path / "documents", DOCUMENTS, words=60)
    stack = fresh_stack(environment=witness_environment(log, pause=0.15))
    stack.start()
    run = start_run(stack, tmp_path / "documents", log, DOCUMENTS)
    hits = kill_each(stack, run, ("worker-1", "scheduler", "planner", "analyzer", "gateway", "redis", "flush"))
    run.check(run.await_end(), kills=hits)
    assert stack.stop() == 0


def test_the_same_holds_on_postgresql(fresh_stack: StackFactory, empty_postgres_url: str, tmp_path: Path) -> None:
    log = tmp_path / "executions"
    make_documents(tmp_path / "documents", 2_000, words=60)
    databases = {f"PENSTOCK_{name}__DATABASE_URL": empty_postgres_url for name in ("PLANNER", "SCHEDULER", "ANALYZER")}
    stack = fresh_stack(environment={**witness_environment(log, pause=0.2), **databases})
    stack.start()
    run = start_run(stack, tmp_path / "documents", log, 2_000)
    hits = kill_each(stack, run, ("worker-1", "scheduler", "redis"))
    run.check(run.await_end(), kills=hits)
    assert stack.stop() == 0


@pytest.mark.parametrize("group", [False, True], ids=["supervisor", "group"])
def test_everything_killed_in_the_middle_of_a_run(fresh_stack: StackFactory, tmp_path: Path, group: bool) -> None:
    log = tmp_path / "executions"
    make_documents(tmp_path / "documents", DOCUMENTS, words=60)
    stack = fresh_stack(environment=witness_environment(log, pause=0.1), own_group=True)
    stack.start()
    run = start_run(stack, tmp_path / "documents", log, DOCUMENTS)
    for share in (0.2, 0.6):
        run.await_share(share)
        stack.kill_supervisor(group=group)
        until("all programs ended", lambda: not stack.survivors(), seconds=3.0)
        stack.start()
        run.await_motion(seconds=MOVES_AGAIN_AFTER_ALL_SECONDS)
    run.check(run.await_end(), kills=2)
    assert stack.stop() == 0


def test_a_worker_that_was_stopped_past_its_lease_reports_in_vain(fresh_stack: StackFactory, tmp_path: Path) -> None:
    site = install_processor(tmp_path / "site", STOPPER, name="stopper", target="stopper:Stopper")
    stack = fresh_stack(
        environment={**site, "PENSTOCK_SCHEDULER__LEASE_TERM_SECONDS": "3"}, arguments=("--workers", "1")
    )
    stack.start()
    worker = until("a worker", lambda: stack.pids().get("worker-1"))
    items = tmp_path / "items.jsonl"
    items.write_text('{"key": "only"}\n')
    with Client(data=stack.data) as client:

        def told(kind: str) -> list[scheduler_pb2.Event]:
            return [event for event in client.runs.events(run.run_id) if event.type == kind]

        source = client.sources.items(items)
        plan = client.plans.create(source.source_id, stages=[StageOptions(processor="stopper")])
        run = client.runs.start(plan.plan_id)
        until("the lease was lost", lambda: told("lease.lost"), seconds=15)
        assert stack.pids()["worker-1"] == worker, "stopped, not dead: nobody may start another in its place"
        stack.kill("worker-1", signal.SIGCONT)
        refused, *_ = until("the late report was refused", lambda: told("report.refused"), seconds=10)
        assert refused.subject == "item:0/0"
        assert refused.reason, "the event says why"
        ended = client.runs.wait(run.run_id)
        assert (ended.counts.completed, ended.counts.failed) == (1, 0)
        (outcome,) = client.runs.items(run.run_id)
    # The worker may have stood still when the second lease was granted to it: too old an answer is begun by nobody.
    assert outcome.attempt >= 2, "what counts is a later attempt"
    assert json.loads(outcome.result) == {"attempt": outcome.attempt}
