"""How an attempt ended, as somebody told it; and what settings say of what comes next.

Its worker tells it, or a sweep, or an operator's force. Plain values between `endings`, which makes them, and `ended`,
which carries them out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import orjson

from scheduler.domain.outcomes import Backoff, Ended
from scheduler.store.limits import Caution

__all__ = ["Rules", "Told"]


@dataclass(frozen=True)
class Rules:
    """What endings need from settings: the back-off, and where its jitter comes from; and what the process remembers
    of careful keys (see `store.limits`)."""

    backoff: Backoff
    jitter: Callable[[], float] = random.random
    caution: Caution | None = None


@dataclass(frozen=True, kw_only=True)
class Told:
    """How an attempt ended, and what was told of it. cost: None when nobody told; cost_unknown: it is what is known so
    far of more; blob: (sha256, bytes); until_ms, saved: of a deferred one (no until_ms: after retry_after_seconds);
    limit_key, retry_after_seconds: of a throttled one; used: by dimension; digest: of the report, None when there was
    none; excused: the loss is the doing of another item, which ran alone."""

    ended: Ended
    kind: str = ""
    error: str = ""
    fingerprint: str = ""
    no_try: bool = False
    permanent: bool = False
    cost: int | None = None
    cost_unknown: bool = False
    result: bytes | None = None
    blob: tuple[str, int] | None = None
    until_ms: int = 0
    saved: bytes | None = None
    limit_key: str = ""
    retry_after_seconds: float = 0.0
    used: Mapping[str, int] = field(default_factory=dict)
    digest: bytes | None = None
    excused: bool = False

    def claimed(self) -> bytes:
        """The result that work claims, for the second witness."""
        if self.blob is not None:
            return orjson.dumps({"blob": {"sha256": self.blob[0], "size_bytes": self.blob[1]}})
        return self.result or b"null"
