"""What limits hold back of a stage, as Redis counts it, for those who explain it.

It only reads. What Redis answers is one moment's truth, of what was read from the plan and looked at until then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import redis.asyncio

__all__ = ["NOTHING", "Parked", "read_parked"]

LANE = "lane:"


@dataclass(frozen=True)
class Parked:
    """lanes: how many items of each wait for a limit; keys: the limits that hold some of them back; unread: lanes that
    are read apart, and not to their end; whole: nothing else is left to read, or to look at."""

    lanes: Mapping[str, int]
    keys: frozenset[str]
    unread: frozenset[str] = frozenset()
    whole: bool = False


NOTHING = Parked({}, frozenset())


async def read_parked(client: redis.asyncio.Redis, name_of: Callable[[str], str], *, end: int) -> Parked:
    """Of one stage; `name_of` gives its keys in Redis, `end` is the cursor of what was read to its end. Raises what the
    client raises."""
    pipeline = client.pipeline(transaction=True)
    pipeline.hgetall(name_of("waiting"))
    pipeline.zrange(name_of("blocked"), 0, -1)
    pipeline.hgetall(name_of("fed"))
    pipeline.zcard(name_of("ready"))
    waiting, blocked, fed, ready = await pipeline.execute()
    cursors = {name.decode(): int(cursor) for name, cursor in fed.items() if name not in (b"epoch", b"moved")}
    unread = {name for name, cursor in cursors.items() if cursor < end}
    lanes = frozenset(name.removeprefix(LANE) for name in unread if name.startswith(LANE))
    return Parked(
        lanes={lane.decode(): int(count) for lane, count in waiting.items()},
        keys=frozenset(key.decode() for key in blocked),
        unread=lanes,
        whole=bool(cursors) and len(unread) == len(lanes) and not ready,
    )
