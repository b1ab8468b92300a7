"""Redis: what is ready, what is leased until when, what limits hold back. It proposes; SQL decides; all of it can be
rebuilt.

The keys are named in `lua/shared.lua`. A member of a set is `seq lane`; its score is a rank, or an expiry in ms. Every
script counts itself in `meta` (ops): Redis is *lost* when its generation is not ours, when its server is another, or
when that count is lower than we saw it (it was rolled back to an old copy).

Failure story: any call may raise `Unavailable` or `Lost`; the engine then stops granting and rebuilds. A Redis out of
memory refuses calls whole and loses nothing: it is waited for. Nothing here rests on key expiry or on Redis's own time:
now is passed in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import orjson

from penstock.runtime.errors import InvalidInput, Unavailable
from scheduler.domain.limits import LimitState
from scheduler.members import by_lane, fields, limit_text, members, places, ranked, slot
from scheduler.parked import Parked, read_parked
from scheduler.proposals import Proposals, Proposed, StageAsk
from scheduler.redis_errors import translated
from scheduler.redis_place import connect
from scheduler.store.effects import Effects, Place, Slot, StageKey

__all__ = [
    "END",
    "MAIN",
    "ROWS",
    "Fed",
    "Lost",
    "Ready",
    "StageKey",
    "lane_field",
]

BATCH = 1_000
LISTEN_SECONDS = 2.0
MAIN, ROWS = "main", "rows"
"""Fields of `fed`: how far a stage was fed from its plan, but for lanes that are fed apart (`lane_field`), and from
rows that are queued again."""
END = 10_000_000_000_000
"""The cursor of a field that has nothing left; a number that Lua writes as it is."""


@dataclass(frozen=True)
class Fed:
    """How far a stage was fed, by field (the last seq); what is ready; parked items by lane. done: by this call."""

    done: bool
    epoch: int | None
    cursors: Mapping[str, int]
    left: int
    waiting: Mapping[str, int]


def lane_field(lane: str) -> str:
    return f"lane:{lane}"


class Lost(Exception):
    """Redis is not what we left it: it was restarted, flushed, replaced, rolled back, or made anew by another."""

    def __init__(self, why: str = "its data is gone") -> None:
        super().__init__(why)


def _in_order(counts: Mapping[str, int] | None) -> dict[str, int]:
    """By name: the order in which Redis tells a hash is another one in each of its processes."""
    return dict(sorted((counts or {}).items()))


class Ready:
    """The ready and lease sets of every open stage, and the limits, under one generation."""

    def __init__(self, url: str, prefix: str, *, ca_file: Path | None = None) -> None:
        if not url:
            raise InvalidInput(
                "the scheduler has no Redis: set PENSTOCK_REDIS_URL (redis://host:port/0 or unix:///path)",
                code="settings",
            )
        self._redis = connect(url, ca_file, connected=self._connected)
        self._prefix = f"{prefix}:{{s}}"
        scripts = resources.files("scheduler").joinpath("lua")
        shared = scripts.joinpath("shared.lua").read_text()
        self._scripts = {
            name: self._redis.register_script(shared + scripts.joinpath(f"{name}.lua").read_text())
            for name in ("propose", "apply", "feed", "tidy")
        }
        self.generation = ""
        self._seen = 0
        self._server = ""
        self._foreign = False
        self._listens = False

    async def _connected(self, connection: Any) -> None:
        await connection.on_connect()
        if self._server:
            await connection.send_command("INFO", "server")
            answer = await connection.read_response()
            self._foreign = self._foreign or f"run_id:{self._server}" not in bytes(answer).decode()

    def _key(self, kind: str, stage: StageKey) -> str:
        return f"{self._prefix}:{kind}:{stage[0]}:{stage[1]}"

    async def _run(self, script: str, generation: str, now_ms: int, ask: dict[str, object]) -> Any:
        """The script's answer. Raises Lost, Unavailable."""
        payload = orjson.dumps({**ask, "generation": generation, "seen": self._seen, "now": now_ms})
        with translated():
            answer = await self._scripts[script](keys=[f"{self._prefix}:meta"], args=[payload])
        if answer is None or self._foreign:
            raise Lost
        return answer

    def _saw(self, ops: int) -> None:
        self._seen = max(self._seen, ops)

    async def check(self, room: int = 0) -> None:
        """Raises Unavailable unless a Redis of 6.2 or newer answers and has memory for so many bytes more."""
        await self._server_id()
        name = f"{self._prefix}:room"
        with translated():
            await self._redis.set(name, bytes(room))
            await self._redis.delete(name)

    async def time_ms(self) -> float:
        """By its own clock, on which nothing here rests: for who looks whether clocks are apart. Raises Unavailable."""
        with translated():
            seconds, micros = await self._redis.time()
        return int(seconds) * 1000 + int(micros) / 1000

    async def _server_id(self) -> str:
        with translated():
            information = await self._redis.info("server")
        version = str(information["redis_version"])
        if tuple(int(part) for part in version.split(".")[:2]) < (6, 2):
            raise Unavailable(f"Redis {version} is too old: 6.2 or newer is needed", code="redis_too_old")
        return str(information["run_id"])

    async def propose(self, stages: Sequence[StageAsk], *, most: int, now_ms: int, expiry_ms: int) -> Proposals:
        """Moves up to `most` ready items to the lease sets; `stages` oldest first. Raises Lost."""
        asks = [(f"{s.key[0]}:{s.key[1]}", str(s.epoch), s.most, s.owner, s.weight, s.priority, s.uses) for s in stages]
        generation = self.generation
        answer = orjson.loads(
            await self._run("propose", generation, now_ms, {"stages": asks, "most": most, "expiry": expiry_ms})
        )
        self._saw(answer["ops"])
        found: dict[StageKey, Proposed] = {}
        closed: list[StageKey] = []
        told = answer["stages"] or {}
        for stage in stages:
            name = f"{stage.key[0]}:{stage.key[1]}"
            one = told.get(name)
            if one is False:
                closed.append(stage.key)
            elif one:
                found[stage.key] = Proposed(
                    places(one["items"], one.get("ranks") or {}),
                    one["left"],
                    _in_order(one.get("waiting")),
                    orjson.dumps(one["uses"]).decode() if one.get("uses") else "",
                )
        next_ms = answer.get("next")
        return Proposals(found, closed, None if next_ms is None else int(next_ms), answer["again"], generation)

    async def apply(self, effects: Effects, *, now_ms: int, expiry_ms: int) -> None:
        """What a commit means: limits change, leases end, items are ready again, leases go on, rates are corrected; in
        this order, in one call. Raises Lost."""
        ask: dict[str, object] = {"expiry": expiry_ms}
        if effects.limits:
            ask["limits"] = {key: limit_text(state) for key, state in effects.limits.items()}
        forget = [(f"{run}:{stage}", *members(slots)) for (run, stage), slots in effects.forget.items() if slots]
        if forget:
            ask["forget"] = forget
        ready = [(f"{run}:{stage}", *ranked(places)) for (run, stage), places in effects.ready.items() if places]
        if ready:
            ask["ready"] = ready
        for name, leases in (("extend", effects.renew), ("renew", effects.adopt)):
            told = [(f"{run}:{stage}", members(slots)[0]) for (run, stage), slots in leases.items() if slots]
            if told:
                ask[name] = told
        if effects.used:
            ask["used"] = fields(effects.used)
        if len(ask) > 1:
            self._saw(await self._run("apply", self.generation, now_ms, ask))

    async def limit_texts(self) -> dict[str, str]:
        """Every limit that is known here, as `limit_text` tells it."""
        with translated():
            found: list[dict[bytes, bytes]] = [
                await self._redis.hgetall(f"{self._prefix}:{name}")  # type: ignore[misc]
                for name in ("limits", "patterns")
            ]
        return {key.decode(): text.decode() for one in found for key, text in one.items()}

    # -- feeding

    async def open(
        self,
        stage: StageKey,
        epoch: int,
        *,
        owner: str,
        cursors: Mapping[str, int],
        places: Iterable[Place],
        now_ms: int,
    ) -> Fed:
        """Begins a stage anew with what is startable below its cursors; `done` is false when another scheduler has
        opened it under this epoch: then it goes on as it is. Raises Lost."""
        ask: dict[str, object] = {"what": "open", "owner": owner, "cursors": cursors}
        return await self._feed(stage, epoch, places, now_ms, ask)

    async def feed(
        self,
        stage: StageKey,
        epoch: int,
        places: Iterable[Place],
        *,
        field: str,
        after: int,
        to: int,
        without: Sequence[str] = (),
        now_ms: int,
    ) -> Fed:
        """Adds what was read of the plan after a seq, unless that was read already, or left out lanes (`without`) that
        are not read apart: both may be of a Redis that was lost since. Raises Lost."""
        apart = [lane_field(lane) for lane in without]
        ask: dict[str, object] = {"what": "feed", "field": field, "from": after, "to": to, "without": apart}
        return await self._feed(stage, epoch, places, now_ms, ask)

    async def split(self, stage: StageKey, epoch: int, field: str, *, now_ms: int) -> Fed:
        """Reads a lane apart from where the plan is read in Redis now, wherever the caller saw it. Raises Lost."""
        return await self._feed(stage, epoch, (), now_ms, {"what": "split", "field": field})

    async def add(self, stage: StageKey, epoch: int, places: Iterable[Place], *, now_ms: int) -> Fed:
        """Adds what is startable again. Raises Lost."""
        return await self._feed(stage, epoch, places, now_ms, {"what": "add"})

    async def drop(self, stage: StageKey, epoch: int, *, now_ms: int) -> None:
        """Forgets what is ready of a stage that gives out nothing under this epoch any more; its leases go one by one.
        Raises Lost."""
        await self._feed(stage, epoch, (), now_ms, {"what": "drop"})

    async def _feed(
        self, stage: StageKey, epoch: int, places: Iterable[Place], now_ms: int, ask: dict[str, object]
    ) -> Fed:
        plain, moved = by_lane(places)
        ask |= {"stage": f"{stage[0]}:{stage[1]}", "epoch": epoch, "members": plain, "moved": moved}
        answer = orjson.loads(await self._run("feed", self.generation, now_ms, ask))
        self._saw(answer["ops"])
        cursors = _in_order(answer["fed"])
        return Fed(answer["done"], cursors.pop("epoch", None), cursors, answer["left"], _in_order(answer["waiting"]))

    # -- what sweeps look for

    async def expired(self, stages: Sequence[StageKey], now_ms: int, limit: int) -> dict[StageKey, list[Slot]]:
        """Items whose lease has run out, at most `limit` a stage. Raises Lost: one that was rolled back names leases
        that were renewed since."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hmget(f"{self._prefix}:meta", ["generation", "ops"])
        for stage in stages:
            pipeline.zrangebyscore(self._key("leases", stage), "-inf", now_ms, start=0, num=limit)
        generation, seen = self.generation, self._seen
        with translated():
            (known, ops), *answers = await pipeline.execute()
        if (known or b"").decode() != generation or int(ops or 0) < seen or self._foreign:
            raise Lost
        return {stage: [slot(m) for m in members] for stage, members in zip(stages, answers, strict=True) if members}

    async def held(self, keys: Sequence[str]) -> dict[str, int]:
        """Leases that each of these limit keys has out. Raises Unavailable."""
        if not keys:
            return {}
        with translated():
            counts = await self._redis.hmget(f"{self._prefix}:slots", list(keys))
        return {key: int(count or 0) for key, count in zip(keys, counts, strict=True)}

    async def in_use(self) -> dict[str, int]:
        """Every limit key that leases hold, and how many: no more keys than leases name. Raises Unavailable."""
        with translated():
            found: dict[bytes, bytes] = await self._redis.hgetall(f"{self._prefix}:slots")  # type: ignore[assignment]
        return {key.decode(): int(count) for key, count in found.items()}

    async def parked(self, stage: StageKey) -> Parked:
        """What limits hold back of a stage. Raises Unavailable."""
        with translated():
            return await read_parked(self._redis, lambda name: self._key(name, stage), end=END)

    async def unknown(self, stage: StageKey, slots: Sequence[Slot]) -> list[Slot]:
        """Which of these have no lease here."""
        if not slots:
            return []
        with translated():
            scores = await self._redis.zmscore(self._key("leases", stage), [f"{seq} {lane}" for seq, lane in slots])
        return [slot for slot, score in zip(slots, scores, strict=True) if score is None]

    async def known_runs(self) -> list[int]:
        """Runs of which a stage was opened, or a lease made anew, since Redis was made. Raises Unavailable."""
        with translated():
            names = await self._redis.hkeys(f"{self._prefix}:owners")
        return sorted(int(name) for name in names)

    async def forget_runs(self, numbers: Sequence[int]) -> None:
        """Forgets whose these runs were: they hold nothing any more. Raises Unavailable."""
        with translated():
            await self._redis.hdel(f"{self._prefix}:owners", *(str(number) for number in numbers))

    async def tidy(self, cursor: int, *, idle_ms: int, now_ms: int) -> tuple[int, int]:
        """Forgets rates' buckets that nobody took from for `idle_ms`, some at a time: the cursor to go on with (0: that
        was all), and how many. Raises Lost, Unavailable."""
        ask: dict[str, object] = {"idle": idle_ms, "cursor": cursor, "count": BATCH}
        answer = orjson.loads(await self._run("tidy", self.generation, now_ms, ask))
        self._saw(answer["ops"])
        return answer["cursor"], answer["gone"]

    async def leased(self, stages: Sequence[StageKey], limit: int) -> dict[StageKey, list[Slot]]:
        """What these stages hold, at most `limit` each. Raises Unavailable."""
        pipeline = self._redis.pipeline(transaction=False)
        for stage in stages:
            pipeline.zrange(self._key("leases", stage), 0, limit - 1)
        with translated():
            answers = await pipeline.execute()
        return {stage: [slot(m) for m in members] for stage, members in zip(stages, answers, strict=True) if members}

    # -- after a loss

    async def rebuild(
        self,
        generation: str,
        leased: Mapping[StageKey, Sequence[Slot]],
        *,
        owners: Mapping[int, str],
        limits: Mapping[str, LimitState],
        now_ms: int,
        expiry_ms: int,
    ) -> None:
        """Replaces everything: no ready items, empty buckets, these leases until `expiry_ms`, and, last, the
        generation. Whoever is in the middle of something meanwhile is told that Redis is lost. Raises Lost when
        somebody came between: another builder, or an older copy."""
        meta = f"{self._prefix}:meta"
        building = f"building {generation}"
        self._server = await self._server_id()
        self._foreign = False
        with translated():
            await self._redis.delete(meta)
            stale = [key async for key in self._redis.scan_iter(match=f"{self._prefix}:*", count=1000)]
            for first in range(0, len(stale), BATCH):
                await self._redis.delete(*stale[first : first + BATCH])
            if owners:
                await self._redis.hset(f"{self._prefix}:owners", mapping={str(run): who for run, who in owners.items()})
            if not await self._redis.hsetnx(meta, "generation", building):
                raise Lost  # an older copy came back meanwhile
        self._seen = 0
        times = {"expiry": expiry_ms}
        said = {**times, "limits": {k: limit_text(v) for k, v in limits.items()}}
        self._saw(await self._run("apply", building, now_ms, said))
        for (run, stage), slots in leased.items():
            for first in range(0, len(slots), BATCH):
                renew = [(f"{run}:{stage}", members(slots[first : first + BATCH])[0])]
                self._saw(await self._run("apply", building, now_ms, {**times, "renew": renew}))
        named = {"generation": generation, "since": str(now_ms), "server": self._server}
        self._saw(await self._run("apply", building, now_ms, {**times, "named": named}))
        self.generation = generation

    async def adopt(self, generation: str) -> bool:
        """Goes on with what another scheduler has built, if Redis holds this generation still, and no older copy."""
        server = await self._server_id()
        with translated():
            found = await self._redis.hmget(f"{self._prefix}:meta", ["generation", "server", "ops"])
        known, built_on, ops = [bytes(value).decode() if value is not None else "" for value in found]  # type: ignore[arg-type]
        if not generation or known != generation or built_on != server:
            return False
        if known == self.generation and int(ops or 0) < self._seen:
            return False
        self.generation, self._server, self._foreign, self._seen = generation, server, False, int(ops or 0)
        return True

    # -- between schedulers

    async def publish(self, message: bytes) -> None:
        with translated():
            await self._redis.publish(f"{self._prefix}:wake", message)

    async def messages(self) -> AsyncIterator[bytes]:
        """What is published from now on, until the connection breaks: then Unavailable."""
        with translated():
            async with self._redis.pubsub() as listening:
                await listening.subscribe(f"{self._prefix}:wake")
                try:
                    while True:
                        message = await listening.get_message(timeout=LISTEN_SECONDS)
                        if message is not None and message["type"] == "message":
                            yield bytes(message["data"])
                        elif message is not None:
                            self._listens = True
                finally:
                    self._listens = False

    async def others(self) -> int:
        """How many other schedulers listen; one that Redis does not know to be cut off counts too. Raises
        Unavailable."""
        own = int(self._listens)
        with translated():
            ((_, count),) = await self._redis.pubsub_numsub(f"{self._prefix}:wake")
        return max(int(count) - own, 0)

    async def close(self) -> None:
        await self._redis.aclose()
