"""A run of documents under a witness, and what must hold of it whatever was killed meanwhile."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from penstock import Client
from penstock.runtime.clock import from_timestamp
from penstock.runtime.errors import PenstockError
from penstock.v1 import scheduler_pb2
from tests.servers.stack import Stack, until

__all__ = ["Execution", "WitnessedRun", "start_run", "witness_environment"]

WITNESS = Path(__file__).parent / "witness"
CLOCK_MARGIN_NS = 50_000_000
"""The witness writes wall time, the scheduler the time of its own clock: they may differ by some milliseconds."""


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
        """Returns once more documents are settled than now; the seconds that took."""
        began, before = time.monotonic(), self.settled()
        if before < self.total:
            until("documents move again", lambda: self.settled() > before, seconds=seconds, pause=0.05)
        return time.monotonic() - began

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
        for execution in executions:
            item = recorded[execution.seq]
            assert execution.attempt <= item.attempt, f"document {execution.seq} was executed after it completed"
            end_ns = from_timestamp(item.end_time) * 1_000_000
            if execution.attempt < item.attempt:
                continue
            assert execution.time_ns <= end_ns + CLOCK_MARGIN_NS, f"document {execution.seq} began after it completed"
        assert len({(e.seq, e.attempt) for e in executions}) == len(executions), "no attempt was executed twice"
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
