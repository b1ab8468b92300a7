"""A `Ready` over a real Redis, with time by hand, and what must always hold between its sets and its counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import redis

from scheduler.domain.limits import LimitState, RateState, lane_keys
from scheduler.proposals import Proposals, StageAsk
from scheduler.ready import Ready
from scheduler.store.effects import Effects, Place, Slot, StageKey

__all__ = ["RedisWorld", "limit"]

TERM_MS = 1_000


def limit(
    key: str, concurrency: int | None = None, *, closed: int | None = 0, **rates: tuple[float, float, float]
) -> dict[str, LimitState]:
    """One limit; `rates` are dimension=(per minute, burst, estimate)."""
    states = tuple(RateState(name, *values) for name, values in rates.items())
    return {key: LimitState(key, concurrency, states, closed)}


class RedisWorld:
    """`now` moves when the test moves it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.now = 1_700_000_000_000
        self.ready = Ready(url, "test")
        self.raw: Any = redis.Redis.from_url(url, decode_responses=True)
        self.epochs: dict[StageKey, int] = {}
        self.owners: dict[StageKey, str] = {}

    async def build(
        self, leased: Mapping[StageKey, list[Slot]] | None = None, limits: Mapping[str, LimitState] | None = None
    ) -> None:
        await self.ready.rebuild(
            "one", leased or {}, owners={}, limits=limits or {}, now_ms=self.now, expiry_ms=self.now + TERM_MS
        )

    async def open(self, key: StageKey, items: Iterable[str | Place], *, owner: str = "me", epoch: int = 0) -> None:
        """Opens a stage with these lanes in order (or places)."""
        places = [item if isinstance(item, tuple) else (seq, item, seq) for seq, item in enumerate(items)]
        self.epochs[key], self.owners[key] = epoch, owner
        cursors = {"main": max((place[0] for place in places), default=-1)}
        fed = await self.ready.open(key, epoch, owner=owner, cursors=cursors, places=places, now_ms=self.now)
        assert fed.done

    async def limits(self, *changes: Mapping[str, LimitState | None]) -> None:
        for change in changes:
            await self.apply(limits=dict(change))

    def ask(self, key: StageKey, most: int = 1_000, **settings: object) -> StageAsk:
        return StageAsk(key, self.epochs[key], most, self.owners[key], **settings)  # type: ignore[arg-type]

    async def proposals(self, most: int, *asks: StageAsk) -> Proposals:
        found = asks or tuple(self.ask(key) for key in sorted(self.epochs))
        answer = await self.ready.propose(found, most=most, now_ms=self.now, expiry_ms=self.now + TERM_MS)
        self.check()
        return answer

    async def seqs(self, most: int, *asks: StageAsk) -> list[int]:
        """What is proposed of the only stage."""
        answer = await self.proposals(most, *asks)
        return [seq for one in answer.stages.values() for seq, _, _ in one.places]

    async def apply(self, **effects: object) -> None:
        await self.ready.apply(Effects(**effects), now_ms=self.now, expiry_ms=self.now + TERM_MS)  # type: ignore[arg-type]
        self.check()

    async def forget(self, key: StageKey, *slots: Slot) -> None:
        await self.apply(forget={key: list(slots)})

    def leases(self) -> dict[str, list[str]]:
        names = self.raw.keys("test:{s}:leases:*")
        return {name.split("leases:")[1]: self.raw.zrange(name, 0, -1) for name in names}

    def check(self) -> None:
        """Held slots are live leases; nothing that is leased is ready; parked items are counted."""
        slots: Counter[str] = Counter()
        shares: Counter[str] = Counter()
        owners = self.raw.hgetall("test:{s}:owners")
        for stage, members in self.leases().items():
            run = stage.split(":")[0]
            for member in members:
                slots.update(lane_keys(member.partition(" ")[2]))
            shares[f"run:{run}"] += len(members)
            if run in owners:
                shares[f"owner:{owners[run]}"] += len(members)
            assert not set(members) & set(self.raw.zrange(f"test:{{s}}:ready:{stage}", 0, -1))
        assert {k: int(v) for k, v in self.raw.hgetall("test:{s}:slots").items()} == {
            k: v for k, v in slots.items() if v
        }
        assert {k: int(v) for k, v in self.raw.hgetall("test:{s}:shares").items()} == {
            k: v for k, v in shares.items() if v
        }
        for name in self.raw.keys("test:{s}:fed:*"):
            stage = name.split("fed:")[1]
            parked: Counter[str] = Counter()
            blocked = set(self.raw.zrange(f"test:{{s}}:blocked:{stage}", 0, -1))
            for parking in self.raw.keys(f"test:{{s}}:parked:{stage}:*"):
                assert parking.split(f"parked:{stage}:")[1] in blocked, "parked under a key that nobody looks at"
                parked.update(member.partition(" ")[2] for member in self.raw.zrange(parking, 0, -1))
            assert {k: int(v) for k, v in self.raw.hgetall(f"test:{{s}}:waiting:{stage}").items()} == dict(parked)

    async def close(self) -> None:
        await self.ready.close()
        self.raw.close()
