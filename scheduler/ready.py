"""Redis: what is ready, what is leased until when. It proposes; SQL decides; all of it can be rebuilt.

Keys, all under one hash tag:
    PREFIX:{s}:generation          whose data this is; missing or foreign: Redis was lost
    PREFIX:{s}:ready:RUN:STAGE     sorted set, seq by rank
    PREFIX:{s}:leases:RUN:STAGE    sorted set, seq by expiry (ms); its size is the number of slots held

Failure story: any call may raise `Unavailable`; the engine then stops granting and rebuilds. Nothing here rests on key
expiry or on Redis's own time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources

import redis.asyncio
import redis.exceptions

from penstock.runtime.errors import InvalidInput, Unavailable

__all__ = ["Lost", "Ready", "StageKey"]

StageKey = tuple[int, int]
"""(run number, stage)."""

CALL_SECONDS = 3.0


class Lost(Exception):
    """Redis is not what we left it: it was restarted, flushed or replaced."""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as error:
        raise Unavailable(f"Redis can't be used: {error}", code="redis_unavailable") from error


class Ready:
    """The ready and lease sets of every open stage, under one generation."""

    def __init__(self, url: str, prefix: str) -> None:
        if not url:
            raise InvalidInput(
                "the scheduler has no Redis: set PENSTOCK_REDIS_URL (redis://host:port/0 or unix:///path)",
                code="settings",
            )
        self._redis = redis.asyncio.from_url(
            url, socket_timeout=CALL_SECONDS, socket_connect_timeout=CALL_SECONDS, retry_on_timeout=False
        )
        self._prefix = f"{prefix}:{{s}}"
        source = resources.files("scheduler").joinpath("lua", "propose.lua").read_text()
        self._propose = self._redis.register_script(source)
        self.generation = ""

    def _key(self, kind: str, stage: StageKey) -> str:
        return f"{self._prefix}:{kind}:{stage[0]}:{stage[1]}"

    async def check(self) -> None:
        """Raises Unavailable unless a Redis of 6.2 or newer answers."""
        with _translated():
            information = await self._redis.info("server")
        version = str(information["redis_version"])
        if tuple(int(part) for part in version.split(".")[:2]) < (6, 2):
            raise Unavailable(f"Redis {version} is too old: 6.2 or newer is needed", code="redis_too_old")

    async def propose(
        self, stages: Sequence[tuple[StageKey, int]], *, most: int, expiry_ms: int
    ) -> dict[StageKey, list[int]]:
        """Moves up to `most` ready seqs to the lease sets; `stages` with their concurrency, oldest first. Raises
        Lost.
        """
        keys = [f"{self._prefix}:generation"]
        for stage, _ in stages:
            keys += [self._key("ready", stage), self._key("leases", stage)]
        arguments: list[str | int] = [self.generation, expiry_ms, most, *(limit for _, limit in stages)]
        with _translated():
            answer = await self._propose(keys=keys, args=arguments)
        if answer is None:
            raise Lost
        return {stage: [int(seq) for seq in seqs] for (stage, _), seqs in zip(stages, answer, strict=True) if seqs}

    async def feed(self, stage: StageKey, seqs: Sequence[int]) -> None:
        """Makes these seqs ready at their rank."""
        if not seqs:
            return
        with _translated():
            await self._redis.zadd(self._key("ready", stage), {str(seq): seq for seq in seqs})

    async def apply(
        self,
        *,
        forget: Mapping[StageKey, Iterable[int]],
        ready: Mapping[StageKey, Iterable[int]],
        renew: Mapping[StageKey, Iterable[int]],
        expiry_ms: int,
    ) -> None:
        """After a commit: lets leases go, makes what returned ready again, extends what is held; in one round trip."""
        pipeline = self._redis.pipeline(transaction=True)
        for stage, seqs in forget.items():
            gone = list(seqs)
            if gone:
                pipeline.zrem(self._key("leases", stage), *gone)
        for stage, seqs in ready.items():
            back: dict[str, float] = {str(seq): seq for seq in seqs}
            if back:
                pipeline.zadd(self._key("ready", stage), back)
        for stage, seqs in renew.items():
            held: dict[str, float] = {str(seq): expiry_ms for seq in seqs}
            if held:
                pipeline.zadd(self._key("leases", stage), held)
        with _translated():
            await pipeline.execute()

    async def expired(self, stages: Sequence[StageKey], now_ms: int, limit: int) -> dict[StageKey, list[int]]:
        """Seqs whose lease has run out, at most `limit` a stage."""
        pipeline = self._redis.pipeline(transaction=False)
        for stage in stages:
            pipeline.zrangebyscore(self._key("leases", stage), "-inf", now_ms, start=0, num=limit)
        with _translated():
            answers = await pipeline.execute()
        return {stage: [int(seq) for seq in seqs] for stage, seqs in zip(stages, answers, strict=True) if seqs}

    async def unknown(self, stage: StageKey, seqs: Sequence[int]) -> list[int]:
        """Which of these have no lease here."""
        if not seqs:
            return []
        with _translated():
            scores = await self._redis.zmscore(self._key("leases", stage), [str(seq) for seq in seqs])
        return [seq for seq, score in zip(seqs, scores, strict=True) if score is None]

    async def held(self, stages: Sequence[StageKey]) -> dict[StageKey, int]:
        """Slots held a stage."""
        pipeline = self._redis.pipeline(transaction=False)
        for stage in stages:
            pipeline.zcard(self._key("leases", stage))
        with _translated():
            return dict(zip(stages, await pipeline.execute(), strict=True))

    async def drop(self, stage: StageKey) -> None:
        """Forgets an ended stage."""
        with _translated():
            await self._redis.delete(self._key("ready", stage), self._key("leases", stage))

    async def rebuild(self, generation: str, leased: Mapping[StageKey, Sequence[int]], expiry_ms: int) -> None:
        """Replaces everything: empty ready sets, these leases until `expiry_ms`, and, last, the generation."""
        with _translated():
            stale = [key async for key in self._redis.scan_iter(match=f"{self._prefix}:*", count=1000)]
            pipeline = self._redis.pipeline(transaction=True)
            if stale:
                pipeline.delete(*stale)
            for stage, seqs in leased.items():
                held: dict[str, float] = {str(seq): expiry_ms for seq in seqs}
                if held:
                    pipeline.zadd(self._key("leases", stage), held)
            pipeline.set(f"{self._prefix}:generation", generation)
            await pipeline.execute()
        self.generation = generation

    async def close(self) -> None:
        await self._redis.aclose()
