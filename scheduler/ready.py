"""Redis: what is ready, what is leased until when. It proposes; SQL decides; all of it can be rebuilt.

Keys, all under one hash tag:
    PREFIX:{s}:generation          whose data this is; missing or foreign: Redis was lost
    PREFIX:{s}:ready:RUN:STAGE     sorted set, seq by rank
    PREFIX:{s}:leases:RUN:STAGE    sorted set, seq by expiry (ms); its size is the number of slots held

Failure story: any call may raise `Unavailable`; the engine then stops granting and rebuilds. Nothing here rests on key
expiry or on Redis's own time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources

import redis.asyncio
import redis.exceptions

from penstock.runtime.errors import InvalidInput, Unavailable
from scheduler.store.effects import Place, Slot, StageKey

__all__ = ["Lost", "Proposed", "Ready", "StageKey"]

CALL_SECONDS = 3.0


@dataclass(frozen=True)
class Proposed:
    """Seqs that were moved to a stage's lease set, and how many are ready still."""

    seqs: list[int]
    left: int


class Lost(Exception):
    """Redis is not what we left it: it was restarted, flushed or replaced."""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # The client closes its connection when it is cancelled, and may tell that instead.
            raise asyncio.CancelledError from error
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
        scripts = resources.files("scheduler").joinpath("lua")
        self._propose = self._redis.register_script(scripts.joinpath("propose.lua").read_text())
        self._apply = self._redis.register_script(scripts.joinpath("apply.lua").read_text())
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
    ) -> dict[StageKey, Proposed]:
        """Moves up to `most` ready seqs to the lease sets; `stages` with their concurrency, oldest first. Raises
        Lost."""
        keys = [f"{self._prefix}:generation"]
        for stage, _ in stages:
            keys += [self._key("ready", stage), self._key("leases", stage)]
        arguments: list[str | int] = [self.generation, expiry_ms, most, *(limit for _, limit in stages)]
        with _translated():
            answer = await self._propose(keys=keys, args=arguments)
        if answer is None:
            raise Lost
        return {
            stage: Proposed([int(seq) for seq in seqs], int(left))
            for (stage, _), (left, *seqs) in zip(stages, answer, strict=True)
        }

    async def feed(self, stage: StageKey, places: Sequence[Place]) -> None:
        """Makes these items ready at their rank."""
        if places:
            with _translated():
                await self._apply(keys=[self._key("ready", stage)], args=["ready", 0, _ranges(places)])

    async def apply(
        self,
        *,
        forget: Mapping[StageKey, Sequence[Slot]],
        ready: Mapping[StageKey, Sequence[Place]],
        renew: Mapping[StageKey, Sequence[Slot]],
        expiry_ms: int,
    ) -> None:
        """After a commit: lets leases go, makes what returned ready again, extends what is held; in one call."""
        keys = []
        arguments: list[str | int] = []
        changes: tuple[tuple[str, str, Mapping[StageKey, Sequence[Slot | Place]]], ...]
        changes = (("leases", "forget", forget), ("ready", "ready", ready), ("leases", "renew", renew))
        for kind, action, stages in changes:
            for stage, slots in stages.items():
                if slots:
                    keys.append(self._key(kind, stage))
                    arguments += [action, expiry_ms, _ranges(slots)]
        if keys:
            with _translated():
                await self._apply(keys=keys, args=arguments)

    async def expired(self, stages: Sequence[StageKey], now_ms: int, limit: int) -> dict[StageKey, list[Slot]]:
        """Leases that have run out, at most `limit` a stage."""
        pipeline = self._redis.pipeline(transaction=False)
        for stage in stages:
            pipeline.zrangebyscore(self._key("leases", stage), "-inf", now_ms, start=0, num=limit)
        with _translated():
            answers = await pipeline.execute()
        return {stage: [(int(seq), "") for seq in seqs] for stage, seqs in zip(stages, answers, strict=True) if seqs}

    async def held(self, keys: Sequence[str]) -> dict[str, int]:
        """Leases that each of these limit keys has out. Raises Unavailable."""
        if not keys:
            return {}
        with _translated():
            counts = await self._redis.hmget(f"{self._prefix}:slots", list(keys))
        return {key: int(count or 0) for key, count in zip(keys, counts, strict=True)}

    async def unknown(self, stage: StageKey, slots: Sequence[Slot]) -> list[Slot]:
        """Which of these have no lease here."""
        if not slots:
            return []
        with _translated():
            scores = await self._redis.zmscore(self._key("leases", stage), [str(seq) for seq, _ in slots])
        return [slot for slot, score in zip(slots, scores, strict=True) if score is None]

    async def drop(self, stage: StageKey) -> None:
        """Forgets what is ready of a stage that gives out nothing now; its leases go one by one."""
        with _translated():
            await self._redis.delete(self._key("ready", stage))

    async def rebuild(self, generation: str, leased: Mapping[StageKey, Sequence[Slot]], expiry_ms: int) -> None:
        """Replaces everything: empty ready sets, these leases until `expiry_ms`, and, last, the generation."""
        with _translated():
            stale = [key async for key in self._redis.scan_iter(match=f"{self._prefix}:*", count=1000)]
            pipeline = self._redis.pipeline(transaction=True)
            if stale:
                pipeline.delete(*stale)
            for stage, slots in leased.items():
                held: dict[str, float] = {str(seq): expiry_ms for seq, _ in slots}
                if held:
                    pipeline.zadd(self._key("leases", stage), held)
            pipeline.set(f"{self._prefix}:generation", generation)
            await pipeline.execute()
        self.generation = generation

    async def close(self) -> None:
        await self._redis.aclose()


def _ranges(slots: Iterable[Slot | Place]) -> str:
    """Seqs as `first-last` ranges: windows are mostly contiguous, and one short argument costs less than thousands."""
    parts: list[str] = []
    first = last = -1
    for seq in sorted(slot[0] for slot in slots):
        if seq == last + 1 and last >= 0:
            last = seq
            continue
        if last >= 0:
            parts.append(f"{first}-{last}")
        first = last = seq
    if last >= 0:
        parts.append(f"{first}-{last}")
    return ",".join(parts)
