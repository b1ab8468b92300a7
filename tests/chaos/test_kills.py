"""`kill -9` of each program, of Redis (and FLUSHALL), of the supervisor, of everything, in the middle of a run.

Whatever dies: the run completes, each document is recorded once, none fails for it, none is executed after it
completed, and no more is executed twice than was in flight.
"""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import pytest

from penstock import Client
from tests.chaos.witnessed import start_run, witness_environment
from tests.conftest import StackFactory
from tests.servers.stack import Stack, until
from tests.texts import make_documents

DOCUMENTS = 3_000
CONCURRENCY = 64
"""The documents stage's: so many are in flight at most, and at each kill so many may be executed once more."""

MOVES_AGAIN_SECONDS = 10.0
"""The design says 5; a test machine that does other things gets twice that."""

MOVES_AGAIN_AFTER_ALL_SECONDS = 25.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# Programs whose death costs no execution: they hold nothing that runs.
COST_NOTHING = ("planner", "gateway", "redis", "flush")


def flush_redis(stack: Stack) -> None:
    url = json.loads((stack.data / "endpoints.json").read_text())["redis"]
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(url.removeprefix("unix://"))
        one.sendall(b"FLUSHALL\r\n")
        assert one.recv(100).startswith(b"+OK")


def test_every_program_killed_in_the_middle_of_one_run(fresh_stack: StackFactory, tmp_path: Path) -> None:
    log = tmp_path / "executions"
    make_documents(tmp_path / "documents", DOCUMENTS, words=60)
    stack = fresh_stack(environment=witness_environment(log, pause=0.15))
    stack.start()
    run = start_run(stack, tmp_path / "documents", log, DOCUMENTS)

    victims = ("worker-1", "scheduler", "planner", "analyzer", "gateway", "redis", "flush")
    hits = 0
    for number, victim in enumerate(victims):
        run.await_share((number + 0.5) / (len(victims) + 1))
        assert run.settled() < DOCUMENTS, "too late: the run is over"
        if victim == "flush":
            flush_redis(stack)
        else:
            stack.kill(victim)
        hits += victim not in COST_NOTHING
        run.await_motion(seconds=MOVES_AGAIN_SECONDS)
    run.check(run.await_end(), most_extra=hits * CONCURRENCY)
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
    run.check(run.await_end(), most_extra=2 * CONCURRENCY)
    assert stack.stop() == 0


def test_a_worker_that_was_stopped_past_its_lease_reports_in_vain(fresh_stack: StackFactory, tmp_path: Path) -> None:
    stack = fresh_stack(
        environment={
            "PENSTOCK_SCHEDULER__LEASE_TERM_SECONDS": "7",
        },
        arguments=("--workers", "1"),
    )
    stack.start()
    items = tmp_path / "items.jsonl"
    items.write_text("".join(json.dumps({"key": f"k{i}"}) + "\n" for i in range(8)))
    with Client(data=stack.data) as client:
        from penstock.client.resources import StageOptions

        source = client.sources.items(items)
        stage = StageOptions(processor="noop", parameters={"sleep_seconds": 1.5})
        plan = client.plans.create(source.source_id, stages=[stage])
        run = client.runs.start(plan.plan_id)
        until("items run", lambda: client.runs.get(run.run_id).counts.running == 8)
        worker = stack.kill("worker-1", signal.SIGSTOP)
        lost = until(
            "the leases were lost",
            lambda: [event for event in client.runs.events(run.run_id) if event.type == "lease.lost"],
            seconds=10,
        )
        assert lost
        assert stack.pids()["worker-1"] == worker, "stopped, not dead: nobody may start another in its place"
        stack.kill("worker-1", signal.SIGCONT)
        refused = until(
            "the late report was refused",
            lambda: [event for event in client.runs.events(run.run_id) if event.type == "report.refused"],
            seconds=10,
        )
        assert {event.subject.split("/")[0] for event in refused} == {"item:0"}
        assert all(event.reason for event in refused), "the event says why"
        ended = client.runs.wait(run.run_id)
        assert (ended.counts.completed, ended.counts.failed) == (8, 0)
        outcomes = list(client.runs.items(run.run_id))
    assert all(item.attempt >= 2 for item in outcomes), "what counts is a later attempt's outcome"
