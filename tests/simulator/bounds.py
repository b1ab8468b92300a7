"""Bounds that nothing may pass: leases and rates of a limit, closed limits, caps of money, leases that workers trust.

Only what a commit adds is judged, and only by bounds that have stood for a while: what was proposed before an operator
lowered a bound may still be granted a moment later.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import orjson

from scheduler.domain.limits import lane_keys
from tests.simulator.world import TERM_SECONDS

if TYPE_CHECKING:
    from tests.simulator.invariants import Model

__all__ = ["Bounds"]

SETTLE_SECONDS = 3 * TERM_SECONDS
"""So long after a change, or after Redis was lost, what is in flight may still pass a new bound."""
MINUTE_SECONDS = 57.0
"""Rates flow by the time of proposals, and what is seen here are commits: each comes a little later, some more than
others."""
TELLING_SECONDS = 0.05
"""A worker that is told of a loss trusts its lease no longer by so much."""


class Bounds:
    """Of one model; `granted` and `lost` are told by it, `committed` ends each commit."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.by_key: Counter[str] = Counter()
        self._new: list[tuple[str, str]] = []
        self._money: dict[tuple[Any, ...], tuple[int, int | None, int]] = {}
        """Of a run or stage at the commit before: reserved, its cap, overrun."""
        self._limits: dict[str, tuple[tuple[Any, ...], float]] = {}
        self._rates: dict[str, tuple[bytes, float]] = {}
        self._times: defaultdict[str, list[float]] = defaultdict(list)
        """When leases of a key were granted, but for those that were handed back."""
        self._began: dict[tuple[int, int, int], float] = {}
        self.unsettled_until = 0.0
        """Redis was lost, or a scheduler died: what it proposed is still under way."""
        self.stood_until = -TERM_SECONDS
        """The only scheduler stood still until then, for longer than it takes to be noticed: nobody could renew."""

    def running(self, lane: str, step: int) -> None:
        for key in lane_keys(lane):
            self.by_key[key] += step

    def granted(self, lane: str, place: tuple[int, int, int]) -> None:
        if lane:
            now = self._model.world.loop.now
            self._new.append((lane, "/".join(map(str, place))))
            self._began[place] = now
            for key in lane_keys(lane):
                self._times[key].append(now)

    def handed_back(self, place: tuple[int, int, int], lane: str) -> None:
        """Its worker did not begin it, or says that it used nothing: it counts for no rate."""
        for key in lane_keys(lane):
            if self._began.get(place) in self._times[key]:
                self._times[key].remove(self._began[place])

    def committed(self, touched: set[int]) -> None:
        if self._new:
            self._check_limits()
            self._new.clear()
        self._check_money(touched)

    # -- limits

    def read_limits(self) -> None:
        """Notes every limit and since when it is as it is."""
        now = self._model.world.loop.now
        query = "SELECT key, concurrency, state, closed_until_ms, declared, rates FROM limits"
        rows = self._model.world.sql.raw.execute(query).fetchall()
        found = {row[0]: row[1:5] for row in rows}
        rates = {row[0]: row[5] for row in rows}
        for key in set(self._rates) | set(rates):
            if key not in self._rates or self._rates[key][0] != rates.get(key, b"[]"):
                self._rates[key] = (rates.get(key, b"[]"), now)
        for key in set(self._limits) - set(found):
            self._limits[key] = ((None, "open", 0, 0), now)
        for key, values in found.items():
            if key not in self._limits or self._limits[key][0] != values:
                self._limits[key] = (values, now)

    def _check_limits(self) -> None:
        world = self._model.world
        self.read_limits()
        if world.loop.now < self.unsettled_until:
            return
        now_ms = world.now_ms()
        for lane, where in self._new:
            for key in lane_keys(lane):
                self._check_rate(key, where)
                pattern = next((k for k in self._limits if k.endswith("*") and key.startswith(k[:-1])), "")
                for name in (key, pattern if key not in self._limits else ""):
                    if name not in self._limits:
                        continue
                    (room, state, until, _), since = self._limits[name]
                    if world.loop.now - since < SETTLE_SECONDS:
                        continue
                    if room is not None and self.by_key[key] > room:
                        self._model.breach("limit", f"{self.by_key[key]} leases of {key}, {room} are allowed", where)
                    if state == "closed" and (until is None or until > now_ms):
                        self._model.breach("closed", f"granted while {key} is closed until {until}", where)

    def _check_rate(self, key: str, where: str) -> None:
        """No minute lets more requests begin than the rate says, as far back as it has stood."""
        text, since = self._rates.get(key, (b"[]", 0.0))
        now = self._model.world.loop.now
        for rate in orjson.loads(text):
            if rate["dimension"] == "requests":
                times = self._times[key]
                count = len(times) - bisect_right(times, max(now - MINUTE_SECONDS, since + SETTLE_SECONDS))
                if count > rate["per_minute"]:
                    said = f"{count} leases of {key} within a minute, {rate['per_minute']:g} are allowed"
                    self._model.breach("rate", said, where)

    # -- money

    def _check_money(self, touched: set[int]) -> None:
        for run in sorted(touched):
            raw = self._model.world.sql.raw
            rows = raw.execute(
                "SELECT 'run', number, 0, spent_micros, reserved_micros, budget_micros, overrun_micros, unknown_micros "
                "FROM runs WHERE number = ?1 UNION ALL SELECT 'stage', run, stage, spent_micros, reserved_micros, "
                "budget_micros, overrun_micros, unknown_micros FROM stages WHERE run = ?1",
                (run,),
            )
            for kind, number, stage, spent, reserved, budget, overrun, unknown in rows.fetchall():
                key = (kind, number, stage)
                was_reserved, cap, was_overrun = self._money.get(key, (0, budget, 0))
                self._money[key] = (reserved, budget, overrun)
                where = f"{number}/{stage}" if kind == "stage" else str(number)
                if min(spent, reserved, overrun, unknown) < 0:
                    self._model.breach("money", f"{kind}: {spent} {reserved} {overrun} {unknown}", where)
                if budget is None or cap is None or reserved <= was_reserved:
                    continue
                # What overran in this commit may have done so after its grants; what did before stops new ones.
                if spent + reserved - (overrun - was_overrun) > max(budget, cap):
                    self._model.breach("cap", f"{kind}: {spent} + {reserved} reserved pass {max(budget, cap)}", where)

    # -- leases

    def lost(self, place: tuple[int, int, int], attempt: int, session: str, how: str) -> None:
        """A lease was ended by the scheduler: its worker must not trust it any more."""
        run, stage, seq = place
        model = self._model
        if self.stood_until <= model.world.loop.now < self.stood_until + TERM_SECONDS - TELLING_SECONDS:
            self._check_quiet(place, attempt)
        run_id = next((name for name, number in model.numbers.items() if number == run), "")
        for worker in model.workers:
            if worker.session.session != session or not worker.process.alive or worker.over:
                continue
            held = worker.held.get((run_id, stage, seq, attempt))
            if held is not None and held.trusted_until > model.world.loop.now + TELLING_SECONDS:
                until = held.trusted_until
                model.breach("trust", f"{how}: attempt {attempt} is trusted until {until:.2f}", f"{run}/{stage}/{seq}")

    def _check_quiet(self, place: tuple[int, int, int], attempt: int) -> None:
        """For a term after a gap in which nobody served no lease runs out."""
        raw = self._model.world.sql.raw
        query = "SELECT error FROM attempts WHERE run = ? AND stage = ? AND seq = ? AND attempt = ?"
        found = raw.execute(query, (*place, attempt)).fetchone()
        if found is not None and (found[0] or "").startswith("the lease ran out"):
            text = f"attempt {attempt} was lost, nobody served until {self.stood_until:.2f}"
            self._model.breach("quiet", text, "/".join(map(str, place)))
