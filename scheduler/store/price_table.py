"""Prices of processors: what operators set, beside what their items did cost."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from scheduler.domain.states import ENDED_RUNS
from scheduler.store.effects import Effects
from scheduler.store.schema import prices, runs, stages
from scheduler.store.unit import lock

__all__ = ["PriceRow", "all_prices", "set_price"]

# What operators said.
_SET = sa.select(prices.c.processor, prices.c.micros)
# Forgets a processor's price.
_DELETE = sa.delete(prices).where(prices.c.processor == sa.bindparam("p"))
# Live runs that have this processor: a price may let them go on.
_CONCERNED = (
    sa.select(stages.c.run)
    .join(runs, runs.c.number == stages.c.run)
    .where(runs.c.state.not_in(list(ENDED_RUNS)), stages.c.processor == sa.bindparam("p"))
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
    return [PriceRow(name, said[name], None, 0) for name in sorted(said)]


def set_price(connection: sa.Connection, effects: Effects, processor: str, micros: int, now_ms: int) -> PriceRow:
    """Sets a price, or forgets it (-1); runs that have such items are looked at again."""
    connection.execute(_DELETE, {"p": processor})
    if micros >= 0:
        connection.execute(sa.insert(prices).values(processor=processor, micros=micros, change_ms=now_ms))
    for number in connection.execute(_CONCERNED, {"p": processor}).scalars().all():
        unit = lock(connection, number, now_ms)
        if unit is not None and unit.look_again():
            unit.flush()
            effects.changed.add(number)
            effects.moved.add(number)
    found = {row.processor: row for row in all_prices(connection)}
    return found.get(processor, PriceRow(processor, None, None, 0))
