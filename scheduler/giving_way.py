"""Who made work startable gives way to the workers that wait for it.

All run in one loop: a call that is answered at once has its answer written, and often its next call read, before a
worker's is looked at. May not be used by workers' own calls. What fails here fails nothing: it only waits.
"""

from __future__ import annotations

import asyncio

__all__ = ["give_way"]

WAY_SECONDS = 0.001


async def give_way() -> None:
    """For a command, between its commit and its answer."""
    await asyncio.sleep(WAY_SECONDS)
