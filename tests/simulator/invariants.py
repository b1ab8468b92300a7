"""What must hold after every commit, and in full now and then.

`Model` follows the rows by what the triggers tell: a few additions a change, never a scan. It knows the tables of the
states, and it remembers what workers and operators were answered: an acknowledged word must stay true. A breach is
kept in `broken` (an exception would be swallowed by the code under test), and ends the seed.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.states import ENDED_RUNS, ITEM_TABLE, RUN_TABLE, STARTABLE_ITEMS, ItemState, RunState
from tests.rules import breaches
from tests.simulator.bounds import Bounds
from tests.simulator.sql_side import Change
from tests.simulator.world import World

if TYPE_CHECKING:
    from tests.simulator.workers import SimWorker

__all__ = ["Model", "Row", "Violation"]

ITEM_EDGES = {(str(old), str(new)) for (old, _), new in ITEM_TABLE.items()}
RUN_EDGES = {(str(old), str(new)) for (old, _), new in RUN_TABLE.items()}
RUN_EDGES |= {(a, c) for a, b in RUN_EDGES for b2, c in RUN_EDGES if b == b2}
"""One commit may do two steps: a run begins, and waits at its first gate."""
UNSETTLED = (ItemState.RUNNING, ItemState.RETRY, ItemState.DEFERRED)
COUNTED = (*UNSETTLED, ItemState.COMPLETED, ItemState.FAILED)
Place = tuple[int, int, int]


@dataclass(frozen=True)
class Violation:
    """Which rule fell, and about what."""

    rule: str
    text: str
    subject: str = ""


@dataclass
class Row:
    state: str
    attempt: int
    session: str
    rank: int
    lane: str
    reserved: int
    cost: int
    settled: int | None
    due: int | None


class Model:
    def __init__(self, world: World) -> None:
        self.world = world
        self.rows: dict[Place, Row] = {}
        self.counts: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
        self.runs: dict[int, str] = {}
        self.numbers: dict[str, int] = {}
        self.settled: dict[int, int] = {}
        self._settling: dict[int, int] = {}
        self.rerun: set[int] = set()
        """Runs of which somebody asked to run finished items again."""
        self.answers: dict[tuple[Any, ...], str] = {}
        self.accepted: dict[tuple[str, int, int, int], bytes] = {}
        self.revoked: set[tuple[tuple[int, int, int], int]] = set()
        """Attempts that an operator ended; their workers may begin them until they hear of it."""
        self.broken: list[Violation] = []
        self.grants = 0
        self.shown: set[int] = set()
        self.rooms: dict[tuple[int, int], int] = {}
        self.workers: list[SimWorker] = []
        self.bounds = Bounds(self)
        world.sql.committed = self.committed

    def breach(self, rule: str, text: str, subject: str = "") -> None:
        self.broken.append(Violation(rule, text, subject))
        self.world.tell("INVARIANT", rule, f"{subject} {text}")

    # -- after each commit

    def committed(self, changes: list[Change]) -> None:
        touched: set[int] = set()
        granted: set[tuple[int, int]] = set()
        told: list[str] = []
        for change in changes:
            kind, run = change[0], change[1]
            touched.add(run)
            if kind == "item":
                if self._item(change):
                    granted.add((run, change[2]))
                told.append(f"{run}/{change[2]}/{change[3]}:{change[4]}>{change[5]}#{change[7]}")
            elif kind == "run":
                self._run(change)
                if change[4] != change[5]:
                    told.append(f"run {run}:{change[4]}>{change[5]}")
            elif kind == "gone":
                self._gone(change)
            elif kind == "attempt":
                place = (run, change[2], change[3])
                if change[5] in ("worker_lost", "unbegun"):
                    self.bounds.lost(place, change[7], change[9], change[5])
                if change[5] in ("released", "unbegun") and place in self.rows:
                    self.bounds.handed_back(place, self.rows[place].lane)
        if told:
            self.world.tell("sql", "commit", " ".join(told))
        for run in touched:
            self._check_run(run, granted)
        self.settled |= self._settling
        self.bounds.committed(touched)

    def _item(self, change: Change) -> bool:
        (_, run, stage, seq, old, new, old_attempt, attempt, _, session, rank, lane, reserved, cost, settled, due) = (
            change[:16]
        )
        place = (run, stage, seq)
        where = f"{run}/{stage}/{seq}"
        before = self.rows.get(place)
        if (before.state if before else None) != old:
            self.breach("rows", f"the model says {before}, the row was {old}", where)
        counts = self.counts[run, stage]
        if before is not None:
            counts[before.state] -= 1
            if before.state == ItemState.RUNNING:
                self.bounds.running(before.lane, -1)
        lane = lane or (before.lane if before else "")
        row = Row(new, attempt, session, seq if rank is None else rank, lane, reserved, cost, settled, due)
        self.rows[place] = row
        counts[new] += 1
        granted = False
        if old == ItemState.RUNNING and new in (ItemState.STOPPED, ItemState.SKIPPED):
            self.revoked.add((place, attempt))
        if new == ItemState.RUNNING:
            self.bounds.running(lane, 1)
            granted = old != new
        if old is not None and old != new and (old, new) not in ITEM_EDGES:
            self.breach("transition", f"{old} -> {new}", where)
        if granted:
            self.grants += 1
            self.bounds.granted(lane, place)
            if attempt != old_attempt + 1:
                self.breach("fence", f"granted attempt {attempt} after {old_attempt}", where)
            if old is not None and old not in STARTABLE_ITEMS:
                self.breach("startable", f"granted out of {old}", where)
            if self.runs.get(run) != RunState.RUNNING:
                self.breach("paused", f"granted while its run is {self.runs.get(run)}", where)
        elif attempt != old_attempt and old is not None:
            self.breach("fence", f"attempt {old_attempt} -> {attempt} without a grant", where)
        if old == ItemState.COMPLETED and new != old and run not in self.rerun:
            self.breach("completed once", f"a completed item is {new}", where)
        if settled is not None and (before is None or before.settled != settled):
            if settled <= self.settled.get(run, 0):
                self.breach("settle number", f"{settled} after {self.settled[run]}", where)
            self._settling[run] = max(settled, self._settling.get(run, 0))
        return granted

    def _run(self, change: Change) -> None:
        _, run, _, _, old, new, old_epoch, epoch = change[:8]
        if old is not None and old != new and (old, new) not in RUN_EDGES:
            self.breach("transition", f"run {old} -> {new}", str(run))
        if old_epoch is not None and epoch < old_epoch:
            self.breach("epoch", f"{old_epoch} -> {epoch}", str(run))
        self.runs[run] = new

    def _gone(self, change: Change) -> None:
        run, stage, seq = change[1:4]
        row = self.rows.pop((run, stage, seq))
        self.counts[run, stage][row.state] -= 1
        if RunState(self.runs[run]) not in ENDED_RUNS:
            self.breach("purge", "a row of a live run is gone", f"{run}/{stage}/{seq}")

    def _check_run(self, run: int, granted: Iterable[tuple[int, int]]) -> None:
        raw = self.world.sql.raw
        found = raw.execute(
            "SELECT stage, state, total, running, retry, deferred, completed, failed, skipped, stopped, concurrency "
            "FROM stages WHERE run = ?",
            (run,),
        ).fetchall()
        if not found:
            return
        for stage, state, total, running, retry, deferred, completed, failed, skipped, stopped, room in found:
            counts = self.counts[run, stage]
            said = (running, retry, deferred, completed, failed)
            if run not in self.purged() and said != tuple(counts[state] for state in COUNTED):
                self.breach("counters", f"the stage says {said}, its rows {dict(counts)}", f"{run}/{stage}")
            if sum(said) + skipped + stopped > total or min(*said, skipped, stopped) < 0:
                self.breach("counters", f"{said} {skipped} {stopped} of {total} ({state})", f"{run}/{stage}")
            # A transaction may have both: a grant, then a lower bound.
            most = max(room, self.rooms.get((run, stage), room))
            self.rooms[run, stage] = room
            if (run, stage) in granted and running > most:
                self.breach("concurrency", f"{running} leases, {most} are allowed", f"{run}/{stage}")
        ((state, number),) = raw.execute("SELECT state, event_number FROM runs WHERE number = ?", (run,))
        ((last,),) = raw.execute("SELECT max(number) FROM events WHERE run = ?", (run,))
        if (last or 0) != number:
            self.breach("events", f"the last event is {last}, the run says {number}", str(run))
        if state in ENDED_RUNS and any(row[3] for row in found):
            self.breach("ended", f"the run is {state} and {[row[3] for row in found]} of it run", str(run))
        if run not in self.numbers.values():
            ((run_id,),) = raw.execute("SELECT run_id FROM runs WHERE number = ?", (run,))
            self.numbers[run_id] = run

    def purged(self) -> set[int]:
        return self.shown

    # -- what workers and operators were told

    def executed(self, worker: SimWorker, key: tuple[str, int, int, int]) -> None:
        """A worker that trusts its lease begins the item: nobody else may have it, and it is not done."""
        run_id, stage, seq, attempt = key
        self.world.tell(worker.name, "begins", f"{run_id}/{stage}/{seq}#{attempt}")
        row = self.rows.get((self.numbers.get(run_id, 0), stage, seq))
        where = f"{self.numbers.get(run_id)}/{stage}/{seq}"
        if row is None or row.attempt < attempt:
            self.breach("lease before row", f"attempt {attempt} is executed; the row is {row}", where)
        elif row.attempt > attempt:
            if ((self.numbers[run_id], stage, seq), attempt) not in self.revoked:
                self.breach("two at once", f"attempt {attempt} begins while {row} is later", where)
        elif row.state == ItemState.COMPLETED:
            self.breach("completed once", f"attempt {attempt} begins after it was recorded", where)

    def answered(self, session: str, key: tuple[str, int, int, int], outcome: pb.Outcome, reason: str) -> None:
        """A report was answered: "" = recorded."""
        run_id, stage, seq, attempt = key
        number = self.numbers.get(run_id, 0)
        where = f"{number}/{stage}/{seq}"
        digest = hashlib.blake2b(outcome.SerializeToString(deterministic=True), digest_size=12).digest()
        before = self.answers.setdefault((*key, session, digest), reason)
        if before != reason:
            self.breach("same answer", f"attempt {attempt} was answered {before!r}, then {reason!r}", where)
        self.world.tell("scheduler", "answers", f"{where}#{attempt} {reason or 'accepted'}")
        if reason in ("unknown", "foreign"):
            self.breach("known lease", f"a report of attempt {attempt} was refused as {reason}", where)
        if reason:
            return
        other = self.accepted.setdefault(key, digest)
        if other != digest:
            self.breach("one outcome", f"two outcomes of attempt {attempt} were accepted", where)
        if number in self.shown:
            return
        kept = self.world.sql.raw.execute(
            "SELECT digest FROM items WHERE run = ?1 AND stage = ?2 AND seq = ?3 AND attempt = ?4 UNION ALL "
            "SELECT digest FROM attempts WHERE run = ?1 AND stage = ?2 AND seq = ?3 AND attempt = ?4",
            (number, stage, seq, attempt),
        ).fetchall()
        if not any(row[0] is not None for row in kept):
            self.breach("acknowledged", f"attempt {attempt} was accepted, and no row says so: {kept}", where)

    def commanded(self, method: str, request: Any, answer: Any) -> None:
        """An operator was answered."""
        run = getattr(answer, "run", answer)
        self.world.tell("scheduler", f"{method} acknowledged", getattr(run, "number", ""))
        if "LimitService" in method:
            self.bounds.read_limits()  # one that stands for a moment has let through what it allows
        if method == "UpdateRun":
            number = self.numbers[request.run_id]
            query = "SELECT budget_micros FROM runs WHERE number = ?"
            ((cap,),) = self.world.sql.raw.execute(query, (number,))
            self.world.tell("model", "budget is", cap)

    # -- in full

    def check_all(self) -> None:
        raw = self.world.sql.raw
        found: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
        for run, stage, state, count in raw.execute("SELECT run, stage, state, count(*) FROM items GROUP BY 1, 2, 3"):
            found[run, stage][state] = count
        for key in set(found) | set(self.counts):
            if +found[key] != +self.counts[key]:
                self.breach("rows", f"{dict(found[key])}, the model says {dict(self.counts[key])}", f"{key}")
        for breach in breaches(self.world.sql.connection):
            self.breach(breach.rule, breach.text, breach.subject)
        self._check_sent()

    def _check_sent(self) -> None:
        for context in self.world.loop.raised:
            error = context.get("exception")
            self.breach("defect", f"{context.get('message')}: {error!r}")
        self.world.loop.raised.clear()

    def live(self) -> list[int]:
        return [number for number, state in self.runs.items() if state not in ENDED_RUNS]
