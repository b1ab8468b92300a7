"""A whole Penstock in one thread: schedulers as `scheduler.__main__` wires them, over simulated SQL, Redis and network.

The network delivers calls to a scheduler that lives, loses requests and answers, cuts calls under way, and tells
callers when their scheduler has died. Everything random comes from streams that the seed begins.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from penstock.runtime.errors import PenstockError, Unavailable
from penstock.runtime.settings import Settings
from scheduler.__main__ import build
from tests.simulator.loop import Process, VirtualLoop
from tests.simulator.planner_side import PlannerWorld
from tests.simulator.redis_side import RedisWorld
from tests.simulator.sql_side import SqlWorld
from tests.simulator.wire import Wire

__all__ = ["BASE_MS", "BUILDING", "HOUR_MS", "SWEEP_SECONDS", "TERM_SECONDS", "SchedulerProcess", "SimClock", "World"]

BASE_MS = 1_800_000_000_000
TERM_SECONDS = 3.0
SWEEP_SECONDS = 1.5
STORY_LINES = 4_000
HOUR_MS = 3_600_000
SHARED_SHARE = 0.15
"""Of all seeds: two schedulers share the rows and Redis."""

BUILDING: contextvars.ContextVar[SchedulerProcess] = contextvars.ContextVar("building")
"""Whose code runs: what it opens is of its world (`wiring`)."""


class SimClock:
    """Virtual time, as one process sees it: `offset_ms` is how wrong its wall clock was when it began."""

    def __init__(self, loop: VirtualLoop, offset_ms: int = 0) -> None:
        self._loop = loop
        self.offset_ms = offset_ms

    def now_ms(self) -> int:
        return BASE_MS + int(self._loop.now * 1000) + self.offset_ms

    def monotonic(self) -> float:
        return self._loop.now


class _Server:
    """Takes the servicers of a scheduler, for calls without a socket."""

    def __init__(self) -> None:
        self.methods: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        pass

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        for name, handler in handlers.items():
            self.methods[f"/{service}/{name}"] = handler.unary_unary or handler.unary_stream


class SchedulerProcess:
    """One process of the scheduler, from start to death."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.process = Process(name)
        self.serving = False
        self.server = _Server()
        self.service: Any = None
        self.calls: dict[asyncio.Future[Any], None] = {}
        self.wall_offset_ms = world.wall_offset_ms if not world.shared else world.clocks.choice((0, -HOUR_MS, HOUR_MS))
        self._monotonic_from = world.clocks.uniform(0.0, 1e6)
        self.process.context.run(BUILDING.set, self)
        self.process.on_death.append(self._died)

    def monotonic(self) -> float:
        """What its machine's monotonic clock says: it counts from anywhere."""
        return self.world.loop.now + self._monotonic_from

    def start(self) -> None:
        self.world.loop.create_task(self._main(), context=self.process.context.copy())

    async def _main(self) -> None:
        world = self.world
        while True:
            try:
                self.service = await build(world.settings)
                break
            except PenstockError as error:
                world.tell(self.process.name, "cannot start", error.message)
                await asyncio.sleep(0.5)
        self.service.register(self.server)
        for name, body in self.service.loops.items():
            asyncio.get_running_loop().create_task(self._restarted(name, body))
        self.serving = True
        world.tell(self.process.name, "serves")
        if world.shared:
            world.fired("second_scheduler" if len(world.living()) > 1 else "schedulers_share")
            if self.wall_offset_ms:
                world.fired("clock_off")

    async def _restarted(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await body()
            except PenstockError as error:
                self.world.tell(self.process.name, f"loop {name} raised", error.message)
            except Exception as error:
                self.world.loop.raised.append({"message": f"loop {name} raised", "exception": error})
            await asyncio.sleep(1.0)

    def _died(self) -> None:
        self.serving = False
        self.world.tell(self.process.name, "dies")
        for future in list(self.calls):
            self.world.loop.call_later(self.world.loop.hop(), _lost, future)
        self.world.scheduler_died(self)


def _lost(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(Unavailable("the connection was lost (simulated)"))


class World:
    """One seed's simulation. `fired` counts the faults that really struck."""

    def __init__(self, seed: int, sql: SqlWorld, client: Wire, folder: Path) -> None:
        self.seed = seed
        self.loop: VirtualLoop = VirtualLoop(self.stream("time"))  # type: ignore[abstract]
        self.counted: Counter[str] = Counter()
        self.lines: deque[tuple[float, str, str, str]] = deque(maxlen=STORY_LINES)
        self._hash = hashlib.blake2b(digest_size=16)
        client.flushdb()
        sql.reset()
        self.sql = sql
        sql.now = self.loop.time
        sql.now_ms = self.now_ms
        sql.fired = self.fired
        self.redis = RedisWorld(client, self.loop, self.fired)
        self.planner = PlannerWorld(self.loop, self.fired)
        self.net = self.stream("net")
        self.ids = self.stream("ids")
        self.jitter = self.stream("jitter")
        self.clocks = self.stream("clocks")
        self.shared = self.clocks.random() < SHARED_SHARE
        self.wall_offset_ms = 0
        """How wrong the wall clock of the only scheduler's machine is now."""
        self.clock_offset_ms = 0
        """By how much the schedulers' time is off."""
        self.both_lead_until = 0.0
        self.restarting = True
        self.schedulers: list[SchedulerProcess] = []
        self.next_calls: deque[str] = deque()
        """What becomes of the next calls: lost, answer_lost, cut, twice."""
        self.calm = False
        self.settings = Settings.model_validate(
            {
                "blobs": folder / "blobs",
                "redis_url": "redis://simulated:1/0",
                "planner_address": "simulated:1",
                "scheduler": {
                    "database_url": "sqlite:///simulated",
                    "lease_term_seconds": TERM_SECONDS,
                    "sweep_seconds": SWEEP_SECONDS,
                    "retry_first_seconds": 0.5,
                    "retry_max_seconds": 4.0,
                    "window_items": self.stream("window").choice((10, 16, 32)),
                },
            }
        )

    def stream(self, name: str) -> random.Random:
        """A source of randomness of its own."""
        return random.Random(f"{self.seed}:{name}")

    # -- telling

    def tell(self, who: str, what: str, detail: object = "") -> None:
        line = (self.loop.now, who, what, str(detail))
        self.lines.append(line)
        self._hash.update(f"{line}".encode())

    def fired(self, fault: str) -> None:
        self.counted[fault] += 1
        self.tell("fault", fault)

    @property
    def history(self) -> str:
        """A hash of all that was told."""
        return self._hash.hexdigest()

    def new_id(self, prefix: str) -> str:
        return f"{prefix}-{self.ids.getrandbits(40):010x}"

    def now_ms(self) -> int:
        """What time the schedulers say it is."""
        return BASE_MS + int(self.loop.now * 1000) + self.clock_offset_ms

    # -- schedulers

    def start_clock(self, not_before_ms: int) -> SimClock:
        """The clock of the machine on which a scheduler starts."""
        true_ms = BASE_MS + int(self.loop.now * 1000)
        wall_ms = true_ms + BUILDING.get().wall_offset_ms
        clock = SimClock(self.loop, max(wall_ms, not_before_ms) - true_ms)
        if not self.shared and clock.offset_ms != self.clock_offset_ms:
            self.fired("clock_jumped")
            self.clock_offset_ms = clock.offset_ms
        return clock

    def start_scheduler(self) -> SchedulerProcess:
        scheduler = SchedulerProcess(self, f"scheduler-{len(self.schedulers) + 1}")
        self.schedulers.append(scheduler)
        scheduler.start()
        return scheduler

    def scheduler_died(self, scheduler: SchedulerProcess) -> None:
        if self.restarting:
            self.loop.call_later(self.net.choice((0.1, 0.5, 2.0)), self.start_scheduler)

    def living(self) -> list[SchedulerProcess]:
        return [one for one in self.schedulers if one.process.alive and one.serving]

    # -- the network

    async def call(self, who: str, method: str, request: Any, *, timeout: float = 25.0) -> Any:
        """The answer of a scheduler that lives. Raises PenstockError, Unavailable for all that the network does."""
        living = self.living()
        if not living:
            await asyncio.sleep(0.1)
            raise Unavailable("nobody answers (simulated)")
        scheduler = living[self.net.randrange(len(living))] if len(living) > 1 else living[0]
        fate = self.next_calls.popleft() if self.next_calls and not self.calm else ""
        sent = request.SerializeToString()
        kind = type(request)
        future = self.loop.create_future()
        scheduler.calls[future] = None
        tasks: list[asyncio.Task[Any]] = []
        empty = Process("network").context

        def deliver(answered: asyncio.Future[Any] | None) -> None:
            if not scheduler.process.alive:
                _lost(future)
                return
            copy = kind.FromString(sent)
            context = scheduler.process.context.copy()
            task = self.loop.create_task(scheduler.server.methods[method](copy, None), context=context)
            tasks.append(task)
            task.add_done_callback(lambda done: answer(done, answered), context=empty)

        def answer(task: asyncio.Task[Any], answered: asyncio.Future[Any] | None) -> None:
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, PenstockError):
                self.loop.raised.append({"message": f"{method} raised", "exception": error})
            if answered is None:
                return
            if task.cancelled() or fate == "answer_lost":
                self.loop.call_later(self.loop.hop(), _lost, answered, context=empty)
            elif error is not None:
                self.loop.call_later(self.loop.hop(), _raise, answered, error, context=empty)
            else:
                result = type(task.result()).FromString(task.result().SerializeToString())
                self.loop.call_later(self.loop.hop(), _result, answered, result, context=empty)

        if fate:
            self.fired(f"call_{fate}")
        if fate == "lost":
            self.loop.call_later(self.net.random(), _lost, future, context=empty)
        else:
            self.loop.call_later(self.loop.hop(), deliver, future, context=empty)
        if fate == "twice":
            self.loop.call_later(self.net.random() * TERM_SECONDS * 1.5, deliver, None, context=empty)
        if fate == "cut":
            self.loop.call_later(self.net.random() * 0.05, _cut, tasks, future, context=empty)
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            for task in tasks:
                task.cancel()
            raise Unavailable("the deadline has passed (simulated)") from None
        finally:
            scheduler.calls.pop(future, None)


def _cut(tasks: list[asyncio.Task[Any]], future: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    _lost(future)


def _raise(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _result(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)
