"""The scheduler's transactions by hand: rows in a real database, grants and endings called as the engine calls them.

Without Redis and workers, so that a test says exactly which attempt ends how, and when.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from penstock.runtime.sql import Database
from penstock.v1 import rules_pb2
from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.outcomes import Backoff
from scheduler.domain.states import RunEvent, RunState, StageState
from scheduler.renewing import renewed
from scheduler.store.due import release_due
from scheduler.store.effects import Effects
from scheduler.store.endings import Endings, Refusal, Rules, Spared
from scheduler.store.items import Proposal
from scheduler.store.leases import GrantedBatch, Offer, Session, asked, asking, grant_batches
from scheduler.store.locking import lock
from scheduler.store.reads import load_run
from scheduler.store.remembered import Remembered
from scheduler.store.rows import RunRow, StageRow
from scheduler.store.schema import events, items, ledger, runs, stages
from scheduler.store.statements import together
from scheduler.store.unit import RunUnit
from scheduler.watching import Begun
from tests.rules import breaches
from tests.servers.schemas import prepared

__all__ = ["SESSION", "Desk"]

SESSION = Session("session-1", "hand", "default")
RUN_ID = "run-1"
FIRST_MS = 1_000_000


@dataclass
class Desk:
    """One run, number 1; `now_ms` is moved by the test. remembered: as an engine remembers what it granted."""

    database: Database
    now_ms: int = FIRST_MS
    begun: Begun = field(default_factory=Begun)
    effects: Effects = field(default_factory=Effects)
    grants: int = 0
    remembered: Remembered | None = None

    @classmethod
    def open(cls, url: str) -> Desk:
        database = Database(url, "scheduler")
        prepared(database)
        return cls(database)

    def close(self) -> None:
        with self.database.read() as connection:
            found = breaches(connection)
        self.database.close()
        assert not found, found

    def start(self, *specs: dict[str, Any], **run: Any) -> None:
        """Begins a run with these stages: columns of `stages`; `rules` as keyword arguments of StageRules."""
        with self.database.write() as connection:
            values = {"run_id": RUN_ID, "plan_id": "plan", "source_id": "s", "kind": 2, "name": "n", "granularity": ""}
            connection.execute(sa.insert(runs).values(**values, state=RunState.QUEUED, create_ms=self.now_ms, **run))
            for index, spec in enumerate(specs):
                defaults: dict[str, Any] = {
                    "processor": "noop",
                    "processor_version": "1",
                    "parameters": b"{}",
                    "concurrency": 1_000,
                    "max_tries": 3,
                    "max_run_seconds": 60,
                    "worker_class": "default",
                    "total": 10,
                }
                rules = rules_pb2.StageRules(**spec.pop("rules", {})).SerializeToString()
                row = {"run": 1, "stage": index, "state": StageState.PENDING, "rules": rules, **defaults, **spec}
                connection.execute(sa.insert(stages).values(**row))
            unit = self._unit(connection)
            unit.move_run(RunEvent.BEGIN)
            unit.settle_up()
            unit.flush(self.effects)

    def _unit(self, connection: sa.Connection) -> RunUnit:
        unit = lock(connection, 1, self.now_ms)
        assert unit is not None
        return unit

    def change(self, work: Any) -> Any:
        """Calls `work` with the locked run, and writes what it changed."""
        with self.database.write() as connection:
            unit = self._unit(connection)
            answer = work(unit)
            unit.flush(self.effects)
            return answer

    def due(self) -> int:
        """Makes startable what is due; how many."""
        with self.database.write() as connection:
            return release_due(connection, self.effects, self.now_ms, 100)

    def grant(
        self, seqs: Iterable[int], *, stage: int = 0, lane: str = "", uses: str = "", older: int = 0
    ) -> list[GrantedBatch]:
        """Proposes these items in the run's present epoch, or one that is so many older; what was granted."""
        self.effects, self.grants = Effects(), self.grants + 1
        with self.database.write() as connection:
            answers = together(connection, asking(SESSION, self.grants, self.now_ms, again=False))
            asked(connection, SESSION, self.grants, self.now_ms, answers)
            epoch = connection.execute(sa.select(runs.c.epoch)).scalar_one()
            offer = Offer(epoch - older, [Proposal(seq, f"k{seq}", "g", lane) for seq in seqs], uses)
            return grant_batches(
                connection,
                self.effects,
                SESSION,
                self.grants,
                {(1, stage): offer},
                self.now_ms,
                remembered=self.remembered,
            )

    def seqs(self, batches: Sequence[GrantedBatch]) -> list[int]:
        return [lease.seq for batch in batches for lease in batch.granted]

    def lease(self, *seqs: int, stage: int = 0, **how: Any) -> None:
        """Grants exactly these."""
        assert self.seqs(self.grant(seqs, stage=stage, **how)) == list(seqs)

    def endings(self, connection: sa.Connection) -> Endings:
        self.effects = Effects()
        rules = Rules(Backoff(1, 60), lambda: 0.0)
        return Endings(connection, self.effects, rules, self.now_ms, self.begun, remembered=self.remembered)

    def report(self, *outcomes: pb.Outcome, stage: int = 0, session: str = SESSION.session) -> list[str]:
        """Reasons of refusals."""
        with self.database.write() as connection:
            batch = pb.OutcomeBatch(run_id=RUN_ID, stage=stage, outcomes=outcomes)
            refused: list[Refusal] = self.endings(connection).settle_reports(session, [batch])
            return [refusal.reason for refusal in refused]

    def lose(self, *seqs: int, stage: int = 0, handed_back: bool = False, spared: Spared | None = None) -> int:
        slots = [(seq, "") for seq in seqs]
        with self.database.write() as connection:
            endings = self.endings(connection)
            return endings.lose(1, stage, slots, reason="gone", handed_back=handed_back, spared=spared)

    def renew(self, *leases: tuple[int, int], stage: int = 0) -> list[int]:
        """Renews these (seq, attempt); those that are revoked."""
        held = [pb.HeldLease(seq=seq, attempt=attempt) for seq, attempt in leases]
        request = pb.RenewRequest(held=[pb.HeldBatch(run_id=RUN_ID, stage=stage, leases=held)])
        with self.database.write() as connection:
            found = renewed(connection, self.effects, SESSION, request, lambda: self.now_ms)
        return [lease.seq for lease in found.answer.revoked]

    def say_begun(self, *leases: tuple[int, int], stage: int = 0) -> None:
        """Its worker says that it has begun these (seq, attempt)."""
        self.begun.note(SESSION.session, {(RUN_ID, stage, *lease) for lease in leases}, self.now_ms)

    @property
    def run(self) -> RunRow:
        with self.database.read() as connection:
            return load_run(connection, 1)[0]

    def stage(self, index: int = 0) -> StageRow:
        with self.database.read() as connection:
            return load_run(connection, 1)[1][index]

    def row(self, seq: int, *, stage: int = 0) -> Any:
        with self.database.read() as connection:
            return connection.execute(sa.select(items).where(items.c.stage == stage, items.c.seq == seq)).one()

    def events(self, type_: str) -> list[Any]:
        with self.database.read() as connection:
            return list(connection.execute(sa.select(events).where(events.c.type == type_).order_by(events.c.number)))

    def ledger(self) -> list[Any]:
        with self.database.read() as connection:
            return list(connection.execute(sa.select(ledger).order_by(ledger.c.number)))

    def set(self, table: sa.Table, **values: Any) -> None:
        with self.database.write() as connection:
            connection.execute(sa.insert(table).values(**values))


def outcome(seq: int, attempt: int = 1, *, kind: str = "completed", **fields: Any) -> pb.Outcome:
    """`kind` in the contract's words; `error_kind` and the rest as the message has them."""
    number = pb.OutcomeKind.Value(f"OUTCOME_KIND_{kind.upper()}")
    return pb.Outcome(seq=seq, attempt=attempt, kind=number, **fields)
