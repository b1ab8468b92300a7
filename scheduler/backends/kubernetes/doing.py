"""Carrying out what was decided about the pods of a class: each step safe to do twice, and to leave half done.

Creates: rows with new generations first, so that each session's name is used once; then the calls, a few at a time; the
first refusal stops the rest. A name that is taken is as good as made: the watch shows whose it is.
Ends: the log's tail, then the session's end, then the row, then the pod's removal, by uid.

Failure story: a call that is not answered may have been carried out: the view shows it. What dies between row and pod
leaves a row without a pod, which is ended after the next list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from penstock.runtime.logs import get_logger
from scheduler.backends.ending import Ending
from scheduler.backends.kubernetes.api import Api, Refused, Unanswered
from scheduler.backends.kubernetes.classes import PodClass
from scheduler.backends.kubernetes.template import Owner, Surroundings, name_of, pod_json
from scheduler.backends.kubernetes.view import View
from scheduler.domain.pod_status import pod_of, refusal_of
from scheduler.domain.pods import API, Bury, Create, Delete, Drain, Pod, Trouble
from scheduler.domain.rules import Kind
from scheduler.draining import Draining
from scheduler.engine import Engine
from scheduler.store import workers
from scheduler.store.class_troubles import tell_runs
from scheduler.store.effects import Effects

__all__ = ["Doing", "Made"]

LOG_BYTES = 65_536
CONFLICT = 409
EARLY_SECONDS = 2.0
CREATES_AT_ONCE = 12
"""Refused ones stop the rest: a quota that is used up is not asked three hundred times."""

log = get_logger("pods")


@dataclass(frozen=True)
class Made:
    """count: creates that were taken; trouble: of the first that was not."""

    count: int
    trouble: Trouble | None


class Doing:
    def __init__(
        self, api: Api, view: View, engine: Engine, draining: Draining, ending: Ending, around: Surroundings
    ) -> None:
        self._api = api
        self._view = view
        self._engine = engine
        self._draining = draining
        self._ending = ending
        self._around = around
        self._asked: dict[str, float] = {}
        self._tails: dict[str, bytes] = {}
        self._early: dict[str, asyncio.Task[None]] = {}
        self._given_up: set[str] = set()
        self._ended: set[str] = set()
        self.making: set[str] = set()
        """Sessions whose creates are under way: of these a list that shows no pod says nothing."""

    # -- making

    async def create(self, name: str, of_class: PodClass, orders: Sequence[Create], owner: Owner) -> Made:
        slots = [order.slot for order in orders]
        now = self._engine.now_ms()

        def work(connection: sa.Connection, effects: Effects) -> dict[int, int]:
            last = workers.generations(connection, name, slots)
            chosen = {slot: last.get(slot, 0) + 1 for slot in slots}
            rows = {slot: self._row(name, slot, number, now) for slot, number in chosen.items()}
            noted = workers.note_start(connection, rows.values())
            # What another scheduler has just noted, it makes.
            return {slot: number for slot, number in chosen.items() if rows[slot].session in noted}

        chosen = await self._engine.commits.run(work)
        slots = sorted(chosen)
        sessions = {slot: self._row(name, slot, number, now).session for slot, number in chosen.items()}
        self.making.update(sessions.values())
        count, trouble, unmade = 0, None, []
        try:
            for first in range(0, len(slots), CREATES_AT_ONCE):
                some = slots[first : first + CREATES_AT_ONCE]
                if trouble is not None:
                    unmade += [sessions[slot] for slot in some]
                    continue
                answers = await asyncio.gather(
                    *(self._create(name, of_class, slot, chosen[slot], owner) for slot in some)
                )
                for slot, answer in zip(some, answers, strict=True):
                    if answer is None:
                        count += 1
                    elif isinstance(answer, Trouble):
                        trouble = trouble or answer
                        if answer.code != API:  # else nobody knows
                            unmade.append(sessions[slot])
                    else:
                        unmade.append(sessions[slot])
        finally:
            self.making.difference_update(sessions.values())
        if unmade:
            await self._never_made(unmade)
        if count:
            log.info("made worker pods", worker_class=name, pods=count)
        return Made(count, trouble)

    def _row(self, name: str, slot: int, generation: int, now_ms: int) -> workers.WorkerRow:
        session = f"{name_of(self._around.release, name, slot)}-{generation}"
        return workers.WorkerRow(session=session, worker_class=name, slot=slot, generation=generation, create_ms=now_ms)

    async def _create(
        self, name: str, of_class: PodClass, slot: int, generation: int, owner: Owner
    ) -> Trouble | bool | None:
        """None: it is made; True: its name is taken."""
        _, pod = pod_json(name, of_class, self._around, slot=slot, generation=generation, owner=owner)
        try:
            made = pod_of(await self._api.call(partial(self._api.create_pod, pod)))
        except Refused as error:
            return True if error.status == CONFLICT else refusal_of(error.status, str(error))
        except Unanswered as error:
            self._view.doubt()
            return refusal_of(0, str(error))
        if made is not None:
            self._view.note_made(made)
        return None

    async def _never_made(self, sessions: Iterable[str]) -> None:
        def work(connection: sa.Connection, effects: Effects) -> None:
            for session in sessions:
                workers.note_end(connection, session, now_ms=self._engine.now_ms(), kind="", reason="it was never made")

        await self._engine.commits.run(work)

    # -- ending

    async def drain(self, orders: Sequence[Drain]) -> None:
        told = await self._draining.tell({order.pod.session: order.pod.worker_class for order in orders})
        for order in orders:
            if order.pod.session in told:
                log.info("a worker is told to drain", session=order.pod.session, reason=order.reason)

    async def delete(self, order: Delete, monotonic: float) -> None:
        """At most once in a while for each pod: the view takes a moment to show it."""
        pod = order.pod
        if monotonic - self._asked.get(pod.uid, -60.0) < 30.0:
            return
        self._asked[pod.uid] = monotonic
        lost = order.grace_seconds == 0
        try:
            if lost:
                self._given_up.add(pod.uid)
                await self._tell_lost(order)
            else:
                # Once it is removed nobody has its log.
                self._tails[pod.uid] = await self._tail(pod)
            work = partial(self._api.delete_pod, pod.name, pod.uid, order.grace_seconds)
            await self._api.call(work)
            log.info("a worker pod is removed", session=pod.session, reason=order.reason)
        except (Refused, Unanswered) as error:
            self._asked.pop(pod.uid, None)
            self._view.doubt()
            log.warning("a worker pod can't be removed; trying again", session=pod.session, error=str(error))

    def leaving(self, pod: Pod) -> None:
        """Of one that somebody else removes: its log goes with it, perhaps before its end is seen."""
        if pod.uid not in self._early and pod.uid not in self._tails:
            self._early[pod.uid] = asyncio.create_task(self._read_early(pod))

    async def _read_early(self, pod: Pod) -> None:
        tail = await self._tail(pod)
        self._tails.setdefault(pod.uid, tail)

    async def _tail(self, pod: Pod) -> bytes:
        """Nothing waits for it: a node that does not answer keeps it."""
        try:
            return await self._api.call(partial(self._api.log_tail, pod.name, LOG_BYTES))
        except Unanswered as error:
            log.warning("the log of a worker pod can't be had", session=pod.session, error=str(error))
            return b""

    async def _tell_lost(self, order: Delete) -> None:
        pod = order.pod

        def work(connection: sa.Connection, effects: Effects) -> None:
            reason = f"worker {pod.session} is given up: {order.reason}"
            now = self._engine.now_ms()
            tell_runs(connection, effects, pod.worker_class, "workers.lost", reason, now, session=pod.session)

        await self._engine.commits.run(work)

    async def bury(self, order: Bury, monotonic: float) -> None:
        """Of a pod that has ended and is still there."""
        pod = order.pod
        if monotonic - self._asked.get(pod.uid, -60.0) < 30.0 and pod.uid in self._asked:
            return
        self._asked[pod.uid] = monotonic
        try:
            if pod.uid not in self._ended:
                if pod.uid not in self._tails or pod.uid in self._early:
                    tail = await self._tail(pod)
                    self._tails[pod.uid] = tail or self._tails.get(pod.uid, b"")
                await self._end(pod)
                self._ended.add(pod.uid)
            await self._api.call(partial(self._api.delete_pod, pod.name, pod.uid, 0))
        except (Refused, Unanswered) as error:
            self._asked.pop(pod.uid, None)
            self._view.doubt()
            log.warning("an ended worker pod can't be put away; trying again", session=pod.session, error=str(error))

    async def gone(self, pod: Pod) -> None:
        """Of a pod that is there no more."""
        early = self._early.pop(pod.uid, None)
        if early is not None:
            _, late = await asyncio.wait({early}, timeout=EARLY_SECONDS)
            for task in late:
                task.cancel()
        if pod.uid not in self._ended:
            await self._end(pod)
        self._asked.pop(pod.uid, None)
        self._tails.pop(pod.uid, None)
        self._given_up.discard(pod.uid)
        self._ended.discard(pod.uid)

    async def _end(self, pod: Pod) -> None:
        kind, reason = str(Kind.WORKER_LOST), "its pod was removed"
        if pod.uid in self._given_up:
            kind, reason = str(Kind.NODE_LOST), "its node was lost"
        elif pod.death is not None:
            kind, reason = "" if pod.death.clean else str(pod.death.kind), pod.death.text
        text = f"its worker's pod: {reason}"
        tail = self._tails.get(pod.uid, b"")
        lost = await self._ending.end(pod.session, pod.worker_class, kind=kind, reason=text, tail=tail)
        log.info("a worker pod has ended", session=pod.session, reason=reason, kind=kind, leases=lost)

    async def settle_rows(self, rows: Mapping[str, workers.WorkerRow], before_ms: int) -> None:
        """Of rows that stood before the list: what has no pod is gone; what has no row is adopted."""
        there = {pod.session for pod in self._view.pods.values()}
        waiting = {pod.session for pod in self._view.gone.values()}
        for session, row in rows.items():
            if row.pid is None and session not in there | waiting | self.making and row.create_ms < before_ms:
                reason = "its worker's pod was gone when the scheduler looked"
                await self._ending.end(session, row.worker_class, kind=str(Kind.WORKER_LOST), reason=reason)
        unknown = [pod for pod in self._view.pods.values() if pod.session not in rows and pod.live]

        def work(connection: sa.Connection, effects: Effects) -> None:
            for pod in unknown:
                if workers.row_of(connection, pod.session) is None:
                    row = workers.WorkerRow(
                        session=pod.session,
                        worker_class=pod.worker_class,
                        slot=pod.slot,
                        generation=pod.generation,
                        create_ms=pod.create_ms,
                    )
                    workers.note_start(connection, [row])
                    log.info("adopted a worker pod", session=pod.session)

        if unknown:
            await self._engine.commits.run(work)
