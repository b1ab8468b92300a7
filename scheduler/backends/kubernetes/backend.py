"""The loop of the `kubernetes` backend: read what there is, decide, carry it out; one scheduler at a time.

A turn is made when the view changes, and each second. It needs a view that is fresh and the lead, a term in a row of
SQL; and it does nothing but put away the dead for `quiet_seconds` after it has come to lead.

Failure story: what fails in a turn is made up for in a later one, since each begins from what there is. SQL away: no
turn. The API server away: no turn, and `classes` says so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial

import sqlalchemy as sa

from penstock.runtime import metrics
from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import Clock
from penstock.runtime.errors import InvalidInput, PenstockError, Unavailable
from penstock.runtime.logs import get_logger
from penstock.runtime.settings import Settings
from penstock.runtime.sql import Database
from penstock.v1 import diagnosis_pb2
from scheduler.backends import ClassNow, WorkerNow
from scheduler.backends.ending import Ending
from scheduler.backends.kubernetes.api import Api, Refused, Unanswered
from scheduler.backends.kubernetes.classes import ClassFile
from scheduler.backends.kubernetes.doing import Doing
from scheduler.backends.kubernetes.facts import Facts, read_facts
from scheduler.backends.kubernetes.rights import asked_rights
from scheduler.backends.kubernetes.surroundings import surroundings_of
from scheduler.backends.kubernetes.template import Owner, template_hash
from scheduler.backends.kubernetes.view import View
from scheduler.domain.pod_status import INSTANCE, refusal_of
from scheduler.domain.pods import Bury, ClassSpec, Create, Delete, Drain, Memory, Pod, Timing, Trouble, decide, refused
from scheduler.draining import Draining
from scheduler.engine import Engine
from scheduler.store import leaders
from scheduler.store.class_troubles import set_trouble
from scheduler.store.effects import Effects

__all__ = ["KubernetesBackend"]

TURN_SECONDS, LEAST_SECONDS = 1.0, 0.1
LEAD_SECONDS, LEAD_AGAIN_SECONDS = 15.0, 4.0
OWNER_SECONDS = 60.0

log = get_logger("pods")


class KubernetesBackend:
    """Keeps the wanted number of pods of every class of the file."""

    def __init__(
        self, settings: Settings, engine: Engine, database: Database, blobs: BlobStore, *, clock: Clock, name: str
    ) -> None:
        section = settings.scheduler
        missing = [
            f"scheduler.{key}"
            for key in ("worker_namespace", "pods_owner", "classes_file")
            if not getattr(section, key)
        ]
        if missing or section.classes_file is None:
            raise InvalidInput(f"the kubernetes backend needs {', '.join(missing)}", code="settings")
        self._section = section
        self._engine = engine
        self._database = database
        self._clock = clock
        self._name = name
        self._file = ClassFile(section.classes_file)
        self._file.read()
        self._api = Api(section.worker_namespace, section.kubeconfig)
        self._api.open()
        selector = f"{INSTANCE}={section.release},app.kubernetes.io/component=worker"
        self._view = View(self._api, selector, monotonic=clock.monotonic)
        self._around = surroundings_of(settings)
        self._doing = Doing(
            self._api, self._view, engine, Draining(engine, database), Ending(engine, blobs), self._around
        )
        self._timing = Timing(
            start_ms=round(section.start_seconds * 1000),
            lost_ms=round(section.node_lost_seconds * 1000),
            idle_ms=round(section.idle_seconds * 1000),
        )
        self._memories: dict[str, Memory] = {}
        self._told: dict[str, str] = {}
        self._owner: Owner | None = None
        self._owner_at = 0.0
        self._lead_until = self._lead_asked = 0.0
        self._led_since: float | None = None
        self._settled_lists = 0

    # -- the interface

    async def serve(self) -> None:
        self._view.start()
        try:
            while True:
                try:
                    await self._turn()
                except PenstockError as error:
                    log.warning("a turn failed; trying again", error=error.message)
                self._view.changed.clear()
                await asyncio.sleep(LEAST_SECONDS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TURN_SECONDS - LEAST_SECONDS):
                        await self._view.changed.wait()
        finally:
            self._view.stop()

    async def drain(self) -> None:
        """Pods go on; another scheduler may lead at once."""
        self._view.stop()
        if self._led_since is not None:
            self._led_since, self._lead_until = None, 0.0
            with contextlib.suppress(PenstockError):
                await self._take(0.0)
        self._api.close()

    async def workers(self) -> Sequence[WorkerNow]:
        if not self._view.fresh:
            raise Unavailable(self._away().text, code="kubernetes_unavailable")
        return [
            WorkerNow(
                session=pod.session,
                worker_class=pod.worker_class,
                slot=pod.slot,
                generation=pod.generation,
                state=_state(pod),
                create_ms=pod.create_ms,
                place=pod.node,
                note=pod.stuck.text if pod.stuck else pod.death.text if pod.death else "",
            )
            for pod in sorted(self._view.pods.values(), key=lambda one: (one.worker_class, one.slot))
        ]

    async def classes(self) -> Sequence[ClassNow]:
        found = []
        for name, of_class in sorted(self._file.classes.items()):
            trouble = None if self._view.fresh else self._away()
            if self._file.problem:
                text = f"the file of classes can't be used: {self._file.problem}"
                trouble = Trouble("classes", text, "mend worker.classes; what was read before holds")
            trouble = trouble or Trouble("", "", "")
            found.append(
                ClassNow(
                    name=name,
                    slots=of_class.slots,
                    most=of_class.max,
                    code=trouble.code,
                    text=trouble.text,
                    advice=trouble.advice,
                )
            )
        return found

    async def log_tail(self, session: str, most_bytes: int) -> bytes | None:
        pod = next((one for one in self._view.pods.values() if one.session == session), None)
        if pod is None:
            return None
        try:
            return await self._api.call(partial(self._api.log_tail, pod.name, most_bytes))
        except Unanswered as error:
            raise Unavailable(f"the API server: {error}", code="kubernetes_unavailable") from error

    async def probe(self) -> None:
        """For who asks what is wrong: reads the owner of the pods. Raises Unavailable."""
        name, namespace = self._section.pods_owner, self._section.worker_namespace
        try:
            await self._api.call(partial(self._api.owner, name))
        except Refused as error:
            why = f"the ConfigMap {name} in the namespace {namespace} can't be read: {error}"
            raise Unavailable(why, code="kubernetes_refused") from error
        except Unanswered as error:
            raise Unavailable(f"the API server does not answer: {error}", code="kubernetes_unavailable") from error

    async def rights(self) -> Sequence[diagnosis_pb2.Right]:
        """What the API server lets us do. Raises Unavailable."""
        return await asked_rights(self._api, self._section.worker_namespace, self._section.pods_owner)

    def _away(self) -> Trouble:
        return self._view.trouble or Trouble("api", "the API server was not asked yet", "wait a moment")

    # -- a turn

    async def _turn(self) -> None:
        with contextlib.suppress(InvalidInput):
            self._file.read()
        if not self._view.fresh or not await self._leads():
            return
        for uid, pod in list(self._view.gone.items()):
            await self._doing.gone(pod)
            self._view.gone.pop(uid, None)
        sessions = [pod.session for pod in self._view.pods.values()]
        now_ms, term_ms = self._engine.now_ms(), self._engine.term_ms
        facts = await asyncio.to_thread(read_facts, self._database, sessions, now_ms=now_ms, term_ms=term_ms)
        if self._settled_lists != self._view.lists:
            lists, since = self._view.lists, self._clock.monotonic() - self._view.listed_at
            await self._doing.settle_rows(facts.rows, self._engine.now_ms() - round(since * 1000))
            self._settled_lists = lists
        by_class: dict[str, list[Pod]] = {name: [] for name in self._file.classes}
        for pod in self._view.pods.values():
            by_class.setdefault(pod.worker_class, []).append(pod)
        for name, pods in sorted(by_class.items()):
            metrics.WORKERS.labels(name).set(sum(1 for pod in pods if pod.live))
            await self._of_class(name, pods, facts)

    async def _of_class(self, name: str, pods: list[Pod], facts: Facts) -> None:
        of_class = self._file.classes.get(name)
        spec = ClassSpec(name=name, slots=1, most=0, template="")
        if of_class is not None:
            template = template_hash(name, of_class, self._around)
            spec = ClassSpec(name=name, slots=of_class.slots, most=of_class.max, template=template)
        for pod in pods:
            if pod.live and pod.terminating and pod.ready:
                self._doing.leaving(pod)
        wanted = facts.wanted(name, slots=spec.slots, most=spec.most)
        metrics.WORKERS_WANTED.labels(name).set(wanted)
        orders, memory = decide(
            spec,
            pods,
            wanted=wanted,
            sessions=facts.sessions,
            memory=self._memories.get(name, Memory()),
            now_ms=self._engine.now_ms(),
            timing=self._timing,
        )
        now = self._clock.monotonic()
        await asyncio.gather(*(self._doing.bury(order, now) for order in orders if isinstance(order, Bury)))
        if not self._quiet():
            drains = [order for order in orders if isinstance(order, Drain)]
            if drains:
                await self._doing.drain(drains)
            await asyncio.gather(*(self._doing.delete(order, now) for order in orders if isinstance(order, Delete)))
            creates = [order for order in orders if isinstance(order, Create)]
            if creates and of_class is not None:
                owner = await self._owned()
                if isinstance(owner, Trouble):
                    memory = refused(memory, owner, self._engine.now_ms())
                else:
                    made = await self._doing.create(name, of_class, creates, owner)
                    if made.trouble is not None or made.count:
                        memory = refused(memory, made.trouble, self._engine.now_ms())
        self._memories[name] = memory
        await self._tell(name, memory.trouble)

    async def _tell(self, name: str, trouble: Trouble | None) -> None:
        code = trouble.code if trouble else ""
        if self._told.get(name) == code:
            return
        if before := self._told.get(name):
            metrics.CLASS_TROUBLE.labels(name, before).set(0)
        if code:
            metrics.CLASS_TROUBLE.labels(name, code).set(1)

        def work(connection: sa.Connection, effects: Effects) -> bool:
            return set_trouble(connection, effects, name, trouble, self._engine.now_ms())

        if await self._engine.commits.run(work):
            if trouble is not None:
                log.warning("a class lacks workers", worker_class=name, code=code, text=trouble.text)
            else:
                log.info("a class gets workers again", worker_class=name)
        self._told[name] = code

    async def _owned(self) -> Owner | Trouble:
        """The ConfigMap as it is now: pods of one that was made anew since would be collected at once."""
        now = self._clock.monotonic()
        if self._owner is None or now - self._owner_at > OWNER_SECONDS:
            self._owner = None
            try:
                found = await self._api.call(partial(self._api.owner, self._section.pods_owner))
            except Refused as error:
                return refusal_of(error.status, str(error))
            except Unanswered as error:
                return refusal_of(0, str(error))
            self._owner, self._owner_at = Owner(self._section.pods_owner, str(found["metadata"]["uid"])), now
        return self._owner

    # -- the lead

    def _quiet(self) -> bool:
        return self._led_since is None or self._clock.monotonic() - self._led_since < self._section.quiet_seconds

    async def _leads(self) -> bool:
        now = self._clock.monotonic()
        if now - self._lead_asked >= LEAD_AGAIN_SECONDS or now >= self._lead_until:
            self._lead_asked = now
            if await self._take(LEAD_SECONDS):
                self._lead_until = now + LEAD_SECONDS
            else:
                self._lead_until = 0.0
        leads = self._lead_until > self._clock.monotonic()
        if leads and self._led_since is None:
            log.info("leads the worker pods", quiet_seconds=self._section.quiet_seconds)
            self._led_since, self._settled_lists = self._clock.monotonic(), 0
            self._memories, self._told = {}, {}
        elif not leads:
            self._led_since = None
            self._view.gone.clear()  # whoever leads sees to them
        return leads

    async def _take(self, seconds: float) -> bool:
        now = self._engine.now_ms()
        until = now + round(seconds * 1000)

        def work(connection: sa.Connection, effects: Effects) -> bool:
            return leaders.take(connection, leaders.PODS, self._name, now_ms=now, until_ms=until)

        return await self._engine.commits.run(work)


def _state(pod: Pod) -> str:
    if not pod.live:
        return "ended"
    if pod.terminating:
        return "removing"
    return "working" if pod.ready else "starting"
