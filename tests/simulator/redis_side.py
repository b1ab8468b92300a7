"""Redis for the simulator: a real server, called synchronously, behind the interface of `redis.asyncio`.

Every call takes two hops of virtual time: before the server hears of it, and before its caller hears of it. In between
the caller may die. Faults: the server does not answer; it does what was asked and the answer is lost; it is flushed;
it is rolled back to what it was a while ago.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import redis
import redis.exceptions

from tests.simulator.loop import VirtualLoop
from tests.simulator.wire import Wire

__all__ = ["RedisWorld", "SimRedis"]


class RedisWorld:
    """The one server of a simulation and what is wrong with it."""

    def __init__(self, client: Wire, loop: VirtualLoop, fired: Callable[[str], None]) -> None:
        self.client = client
        self.loop = loop
        self.fired = fired
        self.down_until = 0.0
        self.lose_replies = 0
        self.calls = 0
        self.kept: dict[bytes, bytes] | None = None
        self.listeners: list[tuple[set[str], asyncio.Queue[dict[str, Any]]]] = []
        self.after_call: Callable[[], None] | None = None

    def keep(self) -> None:
        """Remembers what the server holds now, for a later `roll_back`."""
        keys = list(self.client.scan_iter(count=1000))
        self.kept = dict(zip(keys, self.client.together([("DUMP", key) for key in keys]), strict=True))

    def roll_back(self) -> bool:
        if self.kept is None:
            return False
        restored = [("RESTORE", key, "0", value) for key, value in self.kept.items()]
        self.client.together([("FLUSHDB",), *restored])
        return True

    def held(self) -> dict[str, int]:
        """Leases that are held, by stage, limit key, run and owner."""
        found: dict[str, int] = {}
        for key in sorted(self.client.scan_iter(count=1000)):
            name = key.decode().rpartition("}:")[2]
            if name.startswith("leases:"):
                found[name] = self.client.zcard(key)
            elif name in ("slots", "shares"):
                counts: dict[bytes, bytes] = self.client.hgetall(key)  # type: ignore[assignment]
                found |= {held.decode(): int(count) for held, count in sorted(counts.items()) if int(count)}
        return found

    def execute(self, action: Callable[[Any], Any]) -> Any:
        """One call, now. Raises what the client would."""
        self.calls += 1
        if self.loop.now < self.down_until:
            self.fired("redis_down")
            raise redis.exceptions.ConnectionError("Connection refused (simulated)")
        answer = action(self.client)
        if self.after_call is not None:
            self.after_call()
        if self.lose_replies:
            self.lose_replies -= 1
            self.fired("redis_reply_lost")
            raise redis.exceptions.TimeoutError("Timeout reading from socket (simulated)")
        return answer

    def publish(self, channel: str, message: Any) -> int:
        count = 0
        for channels, queue in self.listeners:
            if channel in channels:
                data = message.encode() if isinstance(message, str) else message
                queue.put_nowait({"type": "message", "channel": channel.encode(), "data": data, "pattern": None})
                count += 1
        return count


class SimRedis:
    """A connection of one scheduler. Commands, scripts, pipelines and subscriptions, as `redis.asyncio.Redis` has
    them."""

    def __init__(self, world: RedisWorld) -> None:
        self._world = world

    async def _call(self, action: Callable[[Any], Any]) -> Any:
        loop = self._world.loop
        hop = loop.hop()
        if hop:
            await asyncio.sleep(hop)
        try:
            answer = self._world.execute(action)
        finally:
            await asyncio.sleep(loop.hop())
        return answer

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("_"):
            raise AttributeError(name)

        async def command(*args: Any, **kwargs: Any) -> Any:
            return await self._call(lambda client: getattr(client, name)(*args, **kwargs))

        return command

    def register_script(self, text: str) -> Callable[..., Awaitable[Any]]:
        script = self._world.client.register_script(text)

        async def run(keys: Any = (), args: Any = (), client: Any = None) -> Any:
            return await self._call(lambda _: script(keys=keys, args=args))

        return run

    async def publish(self, channel: str, message: Any) -> int:
        await asyncio.sleep(self._world.loop.hop())
        return self._world.publish(channel, message)

    async def scan_iter(self, **options: Any) -> AsyncIterator[bytes]:
        for key in await self._call(lambda client: sorted(client.scan_iter(**options))):
            yield key

    async def info(self, *_: Any) -> dict[str, Any]:
        told: dict[str, Any] = await self._call(lambda _: {"redis_version": "6.2.14", "run_id": "simulated"})
        return told

    def pipeline(self, transaction: bool = True) -> SimPipeline:
        return SimPipeline(self, self._world, transaction)

    def pubsub(self, **_: Any) -> SimPubSub:
        return SimPubSub(self._world)

    async def aclose(self) -> None:
        pass


class SimPipeline:
    def __init__(self, connection: SimRedis, world: RedisWorld, transaction: bool) -> None:
        self._connection = connection
        self._world = world
        self._transaction = transaction
        self._commands: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., SimPipeline]:
        if name.startswith("_"):
            raise AttributeError(name)

        def add(*args: Any, **kwargs: Any) -> SimPipeline:
            self._commands.append((name, args, kwargs))
            return self

        return add

    async def __aenter__(self) -> SimPipeline:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._commands = []

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands, self._commands = self._commands, []
        published = [args for name, args, _ in commands if name == "publish"]

        def action(client: redis.Redis) -> list[Any]:
            pipeline = client.pipeline(transaction=self._transaction)
            for name, args, kwargs in commands:
                getattr(pipeline, name)(*args, **kwargs)
            return pipeline.execute(raise_on_error)

        answers: list[Any] = await self._connection._call(action)
        for channel, message in published:
            self._world.publish(channel, message)
        return answers


class SimPubSub:
    def __init__(self, world: RedisWorld) -> None:
        self._world = world
        self._channels: set[str] = set()
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        world.listeners.append((self._channels, self._queue))

    async def __aenter__(self) -> SimPubSub:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def subscribe(self, *channels: str) -> None:
        await asyncio.sleep(self._world.loop.hop())
        if self._world.loop.now < self._world.down_until:
            raise redis.exceptions.ConnectionError("Connection refused (simulated)")
        self._channels.update(channels)

    async def unsubscribe(self, *channels: str) -> None:
        self._channels.difference_update(channels or set(self._channels))

    async def get_message(self, ignore_subscribe_messages: bool = True, timeout: float | None = 0.0) -> Any:
        if self._world.loop.now < self._world.down_until:
            raise redis.exceptions.ConnectionError("Connection closed (simulated)")
        try:
            async with asyncio.timeout(timeout):
                return await self._queue.get()
        except TimeoutError:
            return None

    async def listen(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            yield await self._queue.get()

    async def aclose(self) -> None:
        self._channels.clear()
