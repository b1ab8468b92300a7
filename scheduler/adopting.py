"""Rows that run and of which Redis knows no lease get one for a term: an effect that Redis never heard of, or a copy of
Redis that is older than they are, taken over after every scheduler that had seen more had died.

May not end anything. A lease that is made here though its attempt ends in the same moment runs out, and is let go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from scheduler.commit import GroupCommit
from scheduler.domain.states import ItemState
from scheduler.ready import Ready
from scheduler.store.effects import Effects, Slot, StageKey
from scheduler.store.items import rows_of

__all__ = ["adopt_running"]

AT_ONCE = 1_000


async def adopt_running(commits: GroupCommit, ready: Ready, running: Mapping[StageKey, Sequence[Slot]]) -> int:
    """Of these, which ran a moment ago; returns how many Redis did not know. Raises Unavailable."""
    count = 0
    for key, slots in running.items():
        for first in range(0, len(slots), AT_ONCE):
            unknown = await ready.unknown(key, slots[first : first + AT_ONCE])
            if unknown:
                count += await _adopt(commits, key, unknown)
    return count


async def _adopt(commits: GroupCommit, key: StageKey, unknown: Sequence[Slot]) -> int:
    def work(connection: sa.Connection, effects: Effects) -> int:
        rows = rows_of(connection, *key, [seq for seq, _ in unknown])
        effects.adopt[key] = [row.slot for row in rows.values() if row.state == ItemState.RUNNING]
        return len(effects.adopt[key])

    return await commits.run(work)
