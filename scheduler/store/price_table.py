"""Prices of processors: what operators set, beside what their items did cost.

A price that is set counts until history knows better (`domain.prices`). Setting one lets runs look again that wait for
it, in the same transaction; it changes no reservation that there is.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson
import sqlalchemy as sa

from scheduler.domain.prices import Histogram
from scheduler.domain.states import ENDED_RUNS, RunState, StageState
from scheduler.store import decisions
from scheduler.store.effects import Effects
from scheduler.store.locking import lock
from scheduler.store.money import BUDGET
from scheduler.store.schema import costs, prices, runs, stages

__all__ = ["PriceRow", "all_prices", "set_price"]

# What operators said.
_SET = sa.select(prices.c.processor, prices.c.micros)
# What items of ended stages did cost, by processor and version.
_COSTS = sa.select(costs.c.processor, costs.c.histogram)
# Forgets a processor's price.
_DELETE = sa.delete(prices).where(prices.c.processor == sa.bindparam("p"))
# What items of stages that are not at their end did cost.
_LIVE_COSTS = (
    sa.select(stages.c.processor, stages.c.costs)
    .join(runs, runs.c.number == stages.c.run)
    .where(runs.c.state.not_in(list(ENDED_RUNS)), sa.func.length(stages.c.costs) > 0)
)
_MAY_WAIT = [RunState.RUNNING, RunState.WAITING]
# Runs that such items may be startable of. All are locked, not those alone that wait for a price: a grant of another
# scheduler may be about to say that nobody knows it.
_CONCERNED = (
    sa.select(stages.c.run)
    .join(runs, runs.c.number == stages.c.run)
    .where(
        runs.c.state.in_(_MAY_WAIT),
        stages.c.state == StageState.RUNNING,
        # What heals or confirms is named in the rules of a stage: any run that waits for money may wait for its price.
        sa.or_(stages.c.processor == sa.bindparam("p"), runs.c.waiting.startswith(BUDGET)),
    )
    .distinct()
    .order_by(stages.c.run)
)


@dataclass(frozen=True)
class PriceRow:
    """micros: as set, None: nobody did; learned_micros: None with too little history."""

    processor: str
    micros: int | None
    learned_micros: int | None
    samples: int


def all_prices(connection: sa.Connection) -> list[PriceRow]:
    """Of every processor that somebody set a price for, or that has history; by name."""
    said = {row.processor: row.micros for row in connection.execute(_SET)}
    known: dict[str, Histogram] = {}
    for query in (_COSTS, _LIVE_COSTS):
        for processor, kept in connection.execute(query):
            one = Histogram.of(orjson.loads(kept or b"[]"))
            known[processor] = known[processor].merged(one) if processor in known else one
    return [_row(name, said.get(name), known.get(name)) for name in sorted(said.keys() | known.keys())]


def set_price(
    connection: sa.Connection, effects: Effects, processor: str, micros: int, now_ms: int, *, actor: str, reason: str
) -> PriceRow:
    """Sets a price, or forgets it (-1). Runs that wait at a budget with such items look whether it is enough now."""
    key = decisions.price_of(processor)
    decisions.turn(connection, key)
    before = connection.execute(_SET.where(prices.c.processor == processor)).one_or_none()
    old, new = "none" if before is None else f"{before.micros:,}", "none" if micros < 0 else f"{micros:,}"
    if old != new:
        decisions.note(connection, effects, key, "price.set", old, new, actor=actor, reason=reason, now_ms=now_ms)
    connection.execute(_DELETE, {"p": processor})
    if micros >= 0:
        connection.execute(sa.insert(prices).values(processor=processor, micros=micros, change_ms=now_ms))
    for number in list(connection.execute(_CONCERNED, {"p": processor}).scalars()):
        unit = lock(connection, number, now_ms)
        # What it waits for was told at the price before.
        if unit is not None and unit.look_again(head_moved=old != new):
            unit.flush(effects)
            effects.changed.add(number)
            effects.moved.add(number)
    found = {row.processor: row for row in all_prices(connection)}
    return found.get(processor, PriceRow(processor, None, None, 0))


def _row(processor: str, micros: int | None, history: Histogram | None) -> PriceRow:
    if history is None:
        return PriceRow(processor, micros, None, 0)
    return PriceRow(processor, micros, history.price(), history.samples)
