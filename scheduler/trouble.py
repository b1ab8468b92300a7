"""Whether something that may be away (Redis, SQL) is of use: since when not, how soon it is tried again, what is told.

    (start) ──▶ lost ── restored ──▶ back ── CALM_SECONDS ──▶ well
                  ▲                   │                         │
                  └─ the same trouble ┴── a new trouble: lost ──┘

What is lost again as soon as it is back was not mended: the trouble is as old as its first loss, readiness stays false
while it is back for a moment, and each attempt waits for longer than the last. A single loss, mended, is over at once.
Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Callable

from penstock.runtime.errors import PenstockError, Unavailable
from penstock.runtime.pauses import doubled

__all__ = ["Trouble"]

CALM_SECONDS = 5.0
"""What was not lost for so long is well."""
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.2, 2.0


class Trouble:
    """Begins lost: nobody has asked yet. `sign` is what is not done meanwhile, `patience_seconds` how long that is not
    told, `monotonic` in seconds."""

    def __init__(self, sign: str, *, patience_seconds: float, monotonic: Callable[[], float]) -> None:
        self._sign = sign
        self._patience_seconds = patience_seconds
        self._monotonic = monotonic
        self._since = monotonic()
        self._back: float | None = None
        self._losses = 0
        self._why = Exception("it has not been asked yet")

    def lost(self, why: Exception) -> bool:
        """Notes a loss, or that it lasts; whether a new trouble begins."""
        now, back = self._monotonic(), self._back
        fresh = back is not None and (not self._losses or now - back >= CALM_SECONDS)
        if fresh:
            self._since, self._losses = now, 0
        if back is not None:
            self._losses += 1
        self._back, self._why = None, why
        return fresh

    def restored(self, *, surely: bool = True) -> None:
        """It is of use again, or still. surely: unlike a probe, which may be all that comes through."""
        if self._back is None:
            self._back = self._monotonic()
            if not surely:
                self._losses = max(self._losses, 2)

    def pause(self) -> float:
        """Seconds before it is tried again: none after a first loss."""
        if self._losses < 2:
            return 0.0
        return doubled(FIRST_PAUSE_SECONDS, self._losses - 2, MAX_PAUSE_SECONDS)

    def over(self) -> bool:
        """Whether it is of use, and no longer comes and goes."""
        return self._back is not None and (self._losses < 2 or self._monotonic() - self._back >= CALM_SECONDS)

    def check(self) -> None:
        """Raises Unavailable, with code and cause of the last loss, unless it is over or has its time."""
        if not self.over() and self._monotonic() - self._since >= self._patience_seconds:
            why = self._why if isinstance(self._why, PenstockError) else Unavailable(str(self._why))
            raise Unavailable(f"{self._sign} ({why})", code=why.code, cause=why.cause)
