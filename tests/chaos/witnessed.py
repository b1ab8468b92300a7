"""A run of documents under a witness, and what must hold of it whatever was killed meanwhile."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from penstock import Client
from penstock.runtime.errors import PenstockError
from penstock.v1 import scheduler_pb2
from tests.servers.stack import Stack, until

__all__ = ["Execution", "WitnessedRun", "start_run", "witness_environment"]

WITNESS = Path(__file__).parent / "witness"
CLOCK_MARGIN_NS = 50_000_000
"""The witness writes wall time, the scheduler the time of its own clock: they may differ by some milliseconds."""

UNDER_WAY_SECONDS = 0.25
"""A grant that was being made when something was killed may be recorded so long after it."""


def witness_environment(log: Path, *, pause: float) -> dict[str, str]:
    return {"PYTHONPATH": str(WITNESS), "PEN_WITNESS_LOG": str(log), "PEN_WITNESS_PAUSE": str(pause)}


@dataclass(frozen=True)
class Execution:
    time_ns: int
    stage: int
    seq: int
    attempt: int


@dataclass
class WitnessedRun:
    """`total` documents of one run of `stack`, with the witness's log."""

    stack: Stack
    log: Path
    number: int
    run_id: str
    total: int
    _client: Client | None = None

    def _run(self) -> scheduler_pb2.Run | None:
        """The run as it is; None while the scheduler is away."""
        try:
            if self._client is None:
                self._client = Client(data=self.stack.data, retry_seconds=1.0)
            return self._client.runs.get(self.run_id)
        except PenstockError:
            # The whole server may have been killed: what comes back may be elsewhere.
            self.close()
            return None

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def executions(self) -> list[Execution]:
        found = []
        for line in self.log.read_text().splitlines():
            moment, run_id, stage, seq, attempt, _ = line.split()
            if run_id == self.run_id:
                found.append(Execution(int(moment), int(stage), int(seq), int(attempt)))
        return found

    def settled(self) -> int:
        """Documents that are settled now; waits for a scheduler that is away."""

        run: scheduler_pb2.Run = until("the scheduler answers", self._run, seconds=30)
        return int(run.stages[0].counts.completed + run.stages[0].counts.failed)

    def await_share(self, share: float, *, seconds: float = 120.0) -> None:
        """Returns once that share of the documents is settled."""
        until(f"{share:.0%} settled", lambda: self.settled() >= share * self.total, seconds=seconds, pause=0.1)

    def await_motion(self, *, seconds: float) -> float:
        """Returns once a document is granted anew; how many seconds from now, by the scheduler's clock, it was.

        What was granted before, or by a call that was under way, may still be executed and reported whatever is broken.
        """
        began = time.time()

        def granted() -> float | None:
            run = self._run()
            if run is None or self._client is None:
                return None
            if run.HasField("end_time"):  # it moved so fast that nobody saw it
                return 0.0
            try:
                running = list(self._client.runs.items(self.run_id, stage=0, states=["running"]))
            except PenstockError:
                return None
            times = [item.start_time.ToMilliseconds() / 1000 - began for item in running]
            return min((time for time in times if time > UNDER_WAY_SECONDS), default=None)

        after: float = until("documents are granted again", granted, seconds=seconds + 20.0)
        assert after <= seconds, f"documents were granted again after {after:.1f} s, at most {seconds:g} are wanted"
        return after

    def await_end(self, *, seconds: float = 180.0) -> scheduler_pb2.Run:
        """The run once it has ended."""

        def ended() -> scheduler_pb2.Run | None:
            run = self._run()
            return run if run is not None and run.HasField("end_time") else None

        run: scheduler_pb2.Run = until("the run ended", ended, seconds=seconds, pause=0.3)
        self.close()
        return run

    def check(self, run: scheduler_pb2.Run, *, kills: int) -> int:
        """Each document recorded once, none failed, none executed after it completed; how often one was executed twice.

        Nobody stops (SIGSTOP) a worker of these runs, so nothing excuses an older attempt that begins late: one that is
        cut off begins nothing outside its trust window, which ends before its lease does.

        kills: how many of them could cost executions; at each, at most the stage's concurrency was in flight.
        """
        assert run.state == scheduler_pb2.RUN_STATE_COMPLETED, f"{run.state} {run.error}"
        counts = run.stages[0].counts
        assert (counts.total, counts.completed, counts.failed) == (self.total, self.total, 0)
        with Client(data=self.stack.data) as client:
            items = list(client.runs.items(self.run_id, stage=0))
            in_flight = client.plans.get(run.plan_id).stages[0].concurrency
        assert [item.seq for item in items] == list(range(self.total)), "each document recorded once"
        assert {item.state for item in items} == {scheduler_pb2.ITEM_STATE_COMPLETED}
        settle_numbers = {item.settle_number for item in items}
        assert len(settle_numbers) == self.total, "each settled once"

        executions = self.executions()
        recorded = {item.seq: item for item in items}
        times = Counter(execution.seq for execution in executions)
        assert set(times) == set(range(self.total)), "the witness saw each document"
        latest: dict[int, int] = {}
        for execution in sorted(executions, key=lambda one: one.time_ns):
            item = recorded[execution.seq]
            assert execution.attempt <= item.attempt, f"document {execution.seq} was granted after it completed"
            end_ns = item.end_time.ToMilliseconds() * 1_000_000
            assert execution.time_ns <= end_ns + CLOCK_MARGIN_NS, f"document {execution.seq} began after it completed"
            assert execution.attempt > latest.get(execution.seq, 0), "an attempt began twice, or after a later one"
            latest[execution.seq] = execution.attempt
        extra = len(executions) - self.total
        most = kills * in_flight
        assert extra <= most, f"{extra} extra executions, at most {most} were in flight"
        return extra


def start_run(stack: Stack, folder: Path, log: Path, total: int) -> WitnessedRun:
    """Uploads the folder and starts it."""
    with Client(data=stack.data) as client:
        job = client.documents.analyze([folder])
    assert job["total_documents"] == total
    return WitnessedRun(stack, log, job["job_id"], job["run_id"], total)
