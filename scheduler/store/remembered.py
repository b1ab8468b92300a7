"""What this process has granted and nobody has reported yet, so that a report of it need not read its row first.

A memory, never a truth: who uses it must name everything that it says in the fence of what is written, and raise
`Stale` where a fence does not hold; the call is then decided again from the rows, of which nothing is remembered any
more. So a grant that was rolled back, an attempt that has ended meanwhile, or more money for one that runs cost a
second look and nothing else. Only the thread that writes touches it. Losing all of it costs time alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from scheduler.domain.states import Mode
from scheduler.store.effects import StageKey
from scheduler.store.items import Granted

__all__ = ["Held", "Remembered"]

MOST = 100_000
_WORK = int(Mode.WORK)


class Held(NamedTuple):
    """A lease of mode work as its row says it."""

    seq: int
    attempt: int
    session: str
    start_ms: int
    lane: str
    uses: str | None
    reserved_micros: int


class Remembered:
    """By stage and seq: at most `MOST`, then it begins anew."""

    def __init__(self) -> None:
        self._held: dict[StageKey, dict[int, Held]] = {}
        self._count = 0

    def note(
        self,
        stage: StageKey,
        granted: Iterable[Granted],
        lanes: Mapping[int, str],
        *,
        session: str,
        now_ms: int,
        uses: str,
    ) -> None:
        """What was granted to a session just now; `lanes` by seq."""
        if self._count > MOST:
            self._held, self._count = {}, 0
        held = self._held.setdefault(stage, {})
        before, make, kept = len(held), tuple.__new__, uses or None
        for lease in granted:
            seq = lease[0]
            if lease[4] == _WORK:
                held[seq] = make(Held, (seq, lease[1], session, now_ms, lanes[seq], kept, lease[6]))
            else:
                held.pop(seq, None)
        self._count += len(held) - before

    def take(self, stage: StageKey, seqs: Iterable[int]) -> Mapping[int, Held]:
        """What is known of these; it is forgotten."""
        held = self._held.get(stage)
        if not held:
            return {}
        found = {seq: held.pop(seq) for seq in seqs if seq in held}
        self._count -= len(found)
        if not held:
            del self._held[stage]
        return found
