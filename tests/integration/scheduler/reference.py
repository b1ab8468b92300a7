"""What the scheduler must do, said again in the fewest lines: the reference that the stateful test holds it against.

One run of one stage, in memory: no fences, no locks, no transactions, no Redis. Each method does what a call does, and
answers what the call must answer. It may not import anything of the scheduler but its pure price list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from scheduler.domain.prices import Histogram

__all__ = ["BACKOFF_MS", "Item", "Reference", "Refused"]

BACKOFF_MS = 500
FREE_LOSSES = 10
WAITING = ("queued", "retry", "deferred")
ENDED = ("completed", "completed_with_failures", "failed", "stopped")


class Refused(Exception):
    """The command is refused; the code of the error."""


@dataclass
class Item:
    """said: how each ended attempt ended: what was reported, or the word for why nobody could; unknown: what stands for
    the cost of attempts of which nobody told it; holders: whose each attempt was."""

    seq: int
    key: str = ""
    state: str = "queued"
    attempt: int = 0
    tries: int = 0
    cost: int = 0
    reserved: int = 0
    session: str = ""
    expiry: int = 0
    due: int = 0
    said: dict[int, bytes | str] = field(default_factory=dict)
    unknown: dict[int, int] = field(default_factory=dict)
    holders: dict[int, str] = field(default_factory=dict)


@dataclass
class Reference:
    items: Sequence[Item]
    max_tries: int
    concurrency: int
    term_ms: int
    listed: int = 0
    repeatable: bool = True
    budget: int | None = None
    now: int = 0
    run: str = "running"
    held: int | None = None
    closed: dict[str, int] = field(default_factory=dict)
    costs: Histogram = field(default_factory=Histogram)
    begun: dict[str, set[tuple[int, int]]] = field(default_factory=dict)

    def among(self, *states: str) -> list[Item]:
        return [item for item in self.items if item.state in states]

    @property
    def price(self) -> int:
        return self.listed and (self.costs.price() or self.listed)

    @property
    def room(self) -> int | None:
        used = sum(item.cost + item.reserved for item in self.items)
        return None if self.budget is None else self.budget - used

    # -- workers

    def acquire(self, most: int) -> tuple[list[Item], list[Item], int]:
        """What must be granted in this order, what of it may be held back by a limit, and how many at most."""
        if self.run != "running" or self.held is not None:
            return [], [], 0
        most = min(most, self.concurrency - len(self.among("running")))
        free = [item for item in self.among("queued") if self.closed.get(item.key, 0) <= self.now]
        room, price = self.room, self.price
        if room is not None and most and free:
            paid = most if room >= 0 and not price else max(room, 0) // price if price else 0
            if paid < min(most, len(free)):
                self.held, most = price, paid
        return free, [item for item in free if item.key in self.closed], most

    def grant(self, item: Item, session: str) -> None:
        item.state, item.session, item.reserved = "running", session, self.price
        item.attempt += 1
        item.holders[item.attempt] = session
        item.expiry = self.now + self.term_ms

    def report(self, item: Item, attempt: int, session: str, said: bytes, *, how: str, cost: int, ms: int) -> str:
        if not 1 <= attempt <= item.attempt:
            return "unknown"
        if attempt == item.attempt and item.state == "running":
            if session != item.session:
                return "foreign"
            if how == "throttled":
                self.closed[item.key] = max(self.closed.get(item.key, 0), self.now + ms)
            if self.listed and how in ("completed", "failed"):
                self.costs.add(cost)
            self.end(item, how, said, cost, ms)
            return self.settle()
        known = item.said[attempt]
        if isinstance(known, bytes):
            return "" if known == said else "different"
        if attempt in item.unknown and item.holders[attempt] == session:  # late, and its money counts all the same
            item.cost += cost - item.unknown.pop(attempt)
        self.settle()
        return known

    def end(self, item: Item, how: str, said: bytes | str, cost: int, ms: int = 0) -> None:
        if isinstance(said, str):
            item.unknown[item.attempt] = cost
        unheard = how == "unbegun" and item.attempt - item.tries > FREE_LOSSES
        counts = how in ("failed", "worker_lost") or unheard
        item.tries += counts
        item.said[item.attempt], item.cost, item.reserved = said, item.cost + cost, 0
        unsure = isinstance(said, str) and not self.repeatable
        if how == "completed":
            item.state = "completed"
        elif unsure or (counts and item.tries >= self.max_tries):
            item.state = "failed"
        elif self.run == "stopping" or how == "stopped":
            item.state = "stopped"
        elif how == "deferred":
            item.state, item.due = "deferred", self.now + ms
        elif how == "failed":
            item.state, item.due = "retry", self.now + BACKOFF_MS * 2 ** (item.tries - 1) // 2
        else:
            item.state = "queued"

    def settle(self) -> str:
        """After anything changed: the run's own end, and whether there is money again."""
        running = self.among("running")
        if self.run == "stopping" and not running:
            self.run = "stopped"
        elif self.run in ("running", "paused", "waiting"):
            if not self.among("running", *WAITING):
                failed = self.among("failed")
                self.run = "completed_with_failures" if failed else "completed"
                self.run = "failed" if failed and not self.among("completed") else self.run
                self.held = None
            elif self.held is not None:
                self.look_again()
                if self.held is not None and not running:
                    self.run = "waiting"
        return ""

    def look_again(self, *, anyway: bool = False) -> None:
        if self.held is not None and (anyway or self.room is None or self.room >= self.held):
            self.held = None
            self.run = "running" if self.run == "waiting" else self.run

    def renew(self, session: str, held: Iterable[tuple[int, int]], begun: set[tuple[int, int]]) -> tuple[set[int], ...]:
        """Seqs that are revoked, and that are wanted back."""
        revoked, back = set(), set()
        for seq, attempt in held:
            item = self.items[seq]
            if (item.attempt, item.session, item.state) != (attempt, session, "running"):
                revoked.add(seq)
                continue
            item.expiry = self.now + self.term_ms
            if (seq, attempt) not in begun and self.run != "running":
                back.add(seq)
        self.begun[session] = begun
        return revoked, back

    # -- time

    def sweep(self) -> None:
        for item in self.among("retry", "deferred"):
            if item.due <= self.now:
                item.state = "queued"
        for item in self.among("running"):
            if item.expiry <= self.now:
                begun = (item.seq, item.attempt) in self.begun.get(item.session, ())
                self.end(item, "worker_lost" if begun else "unbegun", "expired", item.reserved)
        self.settle()

    def rebuilt(self) -> None:
        """Redis was made anew: nothing that runs is revoked for a term."""
        for item in self.among("running"):
            item.expiry = self.now + self.term_ms

    # -- operators

    def pause(self) -> None:
        self._takes("running", "waiting", already="paused")
        self.run, self.held = "paused", None

    def resume(self) -> None:
        if self.run == "stopped" and len(self.among("completed", "failed")) == len(self.items):
            raise Refused("nothing_left")
        if self.run in ENDED and self.run != "stopped":
            raise Refused("nothing_left")
        self._takes("paused", "stopped", already="running")
        if self.run == "stopped":
            self._reopen()
        self.run = "running"
        self.settle()

    def stop(self, *, force: bool) -> None:
        already = ("stopped",) if force else ("stopped", "stopping")
        if self.run in already:
            return
        self._takes("running", "waiting", "paused", *(["stopping"] if force else []))
        self.run, self.held = "stopping", None
        if force:
            for item in self.among("running"):
                self.end(item, "stopped", "stopped", item.reserved)
        self.settle()

    def raise_or_lower(self, budget: int | None) -> None:
        if self.run in ENDED:
            raise Refused("run_ended")
        if budget != self.budget:
            self.budget = budget
            self.look_again()

    def act(self, verb: str, seqs: Iterable[int]) -> int:
        """How many items change."""
        if verb == "retry" and self.run == "stopping":
            raise Refused("illegal_state")
        if verb != "retry" and self.run in ENDED:
            raise Refused("run_ended")
        takes = {"retry": ("failed",), "skip": WAITING, "release": WAITING[1:]}[verb]
        chosen = [self.items[seq] for seq in seqs if self.items[seq].state in takes]
        if not chosen:
            return 0
        if self.run in ENDED:
            self._reopen()
            self.run = "running"
        for item in chosen:
            item.state = "skipped" if verb == "skip" else "queued"
            item.tries = 0 if verb == "retry" else item.tries
        self.look_again(anyway=True)
        self.settle()
        return len(chosen)

    def _reopen(self) -> None:
        for item in self.among("stopped"):
            item.state = "queued"

    def _takes(self, *states: str, already: str = "") -> None:
        if self.run not in (*states, already):
            raise Refused("run_ended" if self.run in ENDED else "illegal_state")
