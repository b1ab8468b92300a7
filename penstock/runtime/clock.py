"""Time and ids, handed in from outside so that tests choose them.

Wall time is milliseconds since the epoch (UTC, an int: what SQL rows and scripts carry); durations are measured with
the monotonic clock, in seconds.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from penstock.runtime.errors import InvalidInput

__all__ = ["BACK_MS", "Clock", "IdSource", "SharedClock", "SystemClock", "milliseconds_of", "random_id", "to_timestamp"]

IdSource = Callable[[str], str]
"""Makes a new unique id that begins with the given prefix."""


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall time, milliseconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""


BACK_MS = 24 * 3600 * 1000
"""A wall clock that is further behind what is known is believed: what is known was told by a wrong one."""


@dataclass(frozen=True)
class SystemClock:
    """Wall time once at start plus the monotonic clock: a wall clock that is set while we run moves nothing."""

    wall_at_start_ms: int
    monotonic_at_start: float

    @classmethod
    def start(cls, not_before_ms: int = 0) -> SystemClock:
        """not_before_ms: a time known to be over, whatever the wall clock says, unless it lies BACK_MS ahead."""
        wall_ms = time.time_ns() // 1_000_000
        return cls(not_before_ms if wall_ms < not_before_ms < wall_ms + BACK_MS else wall_ms, time.monotonic())

    def now_ms(self) -> int:
        return self.wall_at_start_ms + int((time.monotonic() - self.monotonic_at_start) * 1000)

    def monotonic(self) -> float:
        return time.monotonic()


STEP_MS = 5.0
"""A later measurement moves the clock by so much at most."""
JUMP_MS = 10_000.0
"""What lies further ahead was slept through (a suspended machine): the clock follows at once."""


class SharedClock:
    """The time of a database that several processes share, measured at start and carried on by the monotonic clock:
    wall clocks of the processes' machines move nothing. Measured again now and then, it follows slowly, and never goes
    back. `monotonic` is replaced by tests."""

    def __init__(self, wall_ms: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._wall_ms = wall_ms
        self._at = monotonic()
        self._last = 0

    def now_ms(self) -> int:
        now = int(self._wall_ms + (self._monotonic() - self._at) * 1000)
        self._last = max(self._last, now)
        return self._last

    def monotonic(self) -> float:
        return self._monotonic()

    def measured(self, wall_ms: float, *, asked: float) -> None:
        """`wall_ms` is what the database said to a question that was asked at `asked` (monotonic)."""
        now = self._monotonic()
        told = wall_ms + (now - asked) * 500  # it was said about half way between question and answer
        mine = self._wall_ms + (now - self._at) * 1000
        apart = told - mine
        if apart < JUMP_MS:
            apart = max(-STEP_MS, min(STEP_MS, apart))
        self._wall_ms, self._at = mine + apart, now


def random_id(prefix: str) -> str:
    """`prefix-` and 20 hex digits (80 random bits)."""
    return f"{prefix}-{secrets.token_hex(10)}"


def milliseconds_of(time: Timestamp, field: str) -> int:
    """A time that somebody gave, since the epoch. Raises InvalidInput (code `bad_time`) for what no calendar has."""
    try:
        return time.ToMilliseconds()
    except ValueError as error:
        raise InvalidInput(f"{field} is no time: {error}", code="bad_time") from error


def to_timestamp(ms: int | None) -> Timestamp | None:
    """Milliseconds as a protobuf timestamp; None stays None, so that the field stays unset."""
    if ms is None:
        return None
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)
