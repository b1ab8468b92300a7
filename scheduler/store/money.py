"""Money in the transaction: what the next item needs, whether the caps have room for it, what the last ones did cost.

All of it happens under the run's lock, so that reserved + spent never passes a cap but for overruns, which are recorded
in full. At any commit: spent of a run = the sum of its ledger = the sum over its items; reserved = the sum over what
runs. Nothing here fails but with the transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from penstock.runtime import metrics
from penstock.words import counted, dollars
from scheduler.domain.prices import Histogram, Use, price_of
from scheduler.domain.states import Mode, StageState
from scheduler.store.rows import STAGE_CHANGES, RunRow, StageRow
from scheduler.store.stage_rules import stage_rules
from scheduler.store.statements import Statement

if TYPE_CHECKING:
    from scheduler.store.items import ItemRow, Proposal
    from scheduler.store.unit import RunUnit

__all__ = [
    "BUDGET",
    "Bill",
    "Short",
    "affordable",
    "budgeted",
    "hold",
    "learn",
    "look_again",
    "price",
    "reserve",
    "room",
    "room_for_more",
]

BUDGET = "budget: "
"""How `runs.waiting` begins while a run waits for money."""
EXAMPLES = 20

# What the operator says that an item of a processor costs, and what such items did cost.
_KNOWN = Statement(
    "SELECT (SELECT micros FROM prices WHERE processor = :processor), "
    "(SELECT histogram FROM costs WHERE processor = :processor AND version = :version)"
)
# The same, by whoever is to add to it: until its transaction ends, others wait. There must be a row to lock.
_BEGIN_COSTS = Statement(
    "INSERT INTO costs (processor, version, histogram) VALUES (:processor, :version, :none) "
    "ON CONFLICT (processor, version) DO NOTHING"
)
_LOCK_COSTS = Statement(
    "SELECT histogram FROM costs WHERE processor = :processor AND version = :version",
    postgresql="SELECT histogram FROM costs WHERE processor = :processor AND version = :version FOR UPDATE",
)
# Add what a stage learned to what is known of its processor.
_LEARN = Statement(
    "INSERT INTO costs (processor, version, histogram) VALUES (:processor, :version, :histogram) "
    "ON CONFLICT (processor, version) DO UPDATE SET histogram = excluded.histogram"
)
# Add a batch to the ledger.
_ENTER = Statement(
    "INSERT INTO ledger (run, number, time_ms, stage, micros, entries) "
    "VALUES (:run, :number, :now, :stage, :micros, :entries)"
)


_SPENT, _OVERRUN = STAGE_CHANGES.index("spent_micros"), STAGE_CHANGES.index("overrun_micros")


def spent_since(stage: StageRow, before: tuple[Any, ...]) -> list[metrics.Count]:
    """What metrics count as spent since the stage's changing columns were these; a correction downwards is not
    counted."""
    counts: list[metrics.Count] = []
    if stage.spent_micros > before[_SPENT]:
        counts.append((metrics.SPENT_MICROS.labels(stage.processor), stage.spent_micros - before[_SPENT]))
    if stage.overrun_micros > before[_OVERRUN]:
        counts.append((metrics.OVERRUN_MICROS.labels(stage.processor), stage.overrun_micros - before[_OVERRUN]))
    return counts


def budgeted(run: RunRow, stage: StageRow) -> bool:
    """Whether any cap bounds what an item of this stage may cost."""
    return not (run.budget_micros is None and stage.budget_micros is None and stage.item_budget_micros is None)


def room(unit: RunUnit, stage: StageRow) -> int | None:
    """What the run's and the stage's caps leave; None: neither has one. Below nothing after overruns."""
    rows: tuple[RunRow | StageRow, ...] = (unit.run, stage)
    return min((left for left in map(_left, rows) if left is not None), default=None)


def _left(row: RunRow | StageRow) -> int | None:
    return None if row.budget_micros is None else row.budget_micros - row.spent_micros - row.reserved_micros


def price(unit: RunUnit, stage: StageRow, mode: Mode = Mode.WORK) -> int | None:
    """What is reserved for an item of the stage in this mode; None: nobody knows what it costs."""
    key = stage.stage, mode
    if key not in unit.prices:
        unit.prices[key] = _price(unit, stage, mode)
    return unit.prices[key]


def _price(unit: RunUnit, stage: StageRow, mode: Mode) -> int | None:
    rules = stage_rules(stage.rules)
    if mode is Mode.HEAL and rules.heal is not None and rules.heal.processor not in ("", stage.processor):
        found = _known(unit, rules.heal.processor, rules.heal.processor_version)
        # Where the stage's work costs money, its healing does too.
        paid = rules.heal.paid or stage.paid or found[1] is not None
        return price_of(paid=paid, history=found[:1], listed=found[1])
    if mode is Mode.CONFIRM and rules.confirm is not None:
        found = _known(unit, rules.confirm.processor, rules.confirm.processor_version)
        return price_of(paid=rules.confirm.paid or found[1] is not None, history=found[:1], listed=found[1])
    if not stage.paid:
        return 0
    own = Histogram.of(orjson.loads(stage.costs)) if stage.costs else Histogram()
    learned = own.price()
    if learned is not None:
        return learned
    history, listed = _known(unit, stage.processor, stage.processor_version)
    return price_of(paid=True, history=[own.merged(history)], listed=listed)


def _executes(stage: StageRow, mode: Mode) -> str:
    rules = stage_rules(stage.rules)
    special = {Mode.HEAL: rules.heal, Mode.CONFIRM: rules.confirm}.get(mode)
    return (special.processor if special is not None else "") or stage.processor


def _modes(stage: StageRow) -> list[Mode]:
    """What items of the stage are leased for."""
    rules = stage_rules(stage.rules)
    also = {Mode.HEAL: rules.heal, Mode.CONFIRM: rules.confirm}
    return [Mode.WORK, *(mode for mode, rule in also.items() if rule is not None)]


def _known(unit: RunUnit, processor: str, version: str) -> tuple[Histogram, int | None]:
    ((listed, kept),) = _KNOWN.rows(unit.connection, {"processor": processor, "version": version})
    return Histogram.of(orjson.loads(kept)) if kept else Histogram(), listed


def learn(unit: RunUnit, stage: StageRow) -> None:
    """At the end of a stage: what its items cost belongs to all stages of its processor."""
    if not stage.costs:
        return
    key = {"processor": stage.processor, "version": stage.processor_version}
    _BEGIN_COSTS.run(unit.connection, {**key, "none": b""})
    ((kept,),) = _LOCK_COSTS.rows(unit.connection, key)
    own = Histogram.of(orjson.loads(stage.costs))
    both = own.merged(Histogram.of(orjson.loads(kept))) if kept else own
    _LEARN.run(unit.connection, {**key, "histogram": orjson.dumps(both.rows())})
    stage.costs = b""


def affordable(unit: RunUnit, stage: StageRow, spent: int) -> bool:
    """Whether an item that has cost so much may cost what another attempt does, by its own cap."""
    if stage.item_budget_micros is None or spent <= 0:
        return True
    return stage.item_budget_micros - spent >= max(price(unit, stage) or 0, 1)


@dataclass(frozen=True)
class Short:
    """Why the next item can't be paid: in words, and how much it needs (None: nobody knows)."""

    text: str
    needs: int | None


def reserve(
    unit: RunUnit, stage: StageRow, proposals: Sequence[Proposal], rows: Mapping[int, ItemRow]
) -> tuple[list[int], Short | None]:
    """Reservations of the first of these that the caps have room for, and why not for the next. Budgets never pass
    over: where the head waits, all do."""
    capped = budgeted(unit.run, stage)
    left = room(unit, stage)
    of = "the run" if left is None or _left(unit.run) == left else f"stage {stage.stage}"
    found: list[int] = []
    if not rows:
        # All of them cost the same, mostly there is money for all.
        each = price(unit, stage)
        if each is not None and stage.item_budget_micros is not None:
            each = min(each, stage.item_budget_micros)
        if each is not None and (left is None or (left >= 0 and each * len(proposals) <= left)):
            return [each] * len(proposals), None
    for proposal in proposals:
        row = rows.get(proposal.seq)
        mode = Mode(row.mode) if row is not None else Mode.WORK
        wanted = row.promised_micros if row is not None and mode is Mode.HEAL else price(unit, stage, mode)
        if wanted is None:
            if capped:
                text = f"{BUDGET}nobody knows what an item of {_executes(stage, mode)} costs; set its price"
                return found, Short(text, None)
            wanted = 0
        if stage.item_budget_micros is not None:
            spent = row.cost_micros if row is not None else 0
            wanted = max(min(wanted, stage.item_budget_micros - spent), 0)
        if left is not None:
            # What costs nothing waits too while an overrun is not made up for.
            if wanted > left:
                text = f"{BUDGET}item {stage.stage}/{proposal.seq} needs {dollars(wanted)}, {dollars(left)} are left"
                text += f" of the cap of {of}"
                return found, Short(text, wanted)
            left -= wanted
        found.append(wanted)
    return found, None


def room_for_more(unit: RunUnit, stage: StageRow, row: ItemRow, micros: int) -> str:
    """Which cap has no room for so much more of a lease; "" when all have."""
    for name, owner in (("run_budget", unit.run), ("stage_budget", stage)):
        cap = owner.budget_micros
        if cap is not None and owner.spent_micros + owner.reserved_micros + micros > cap:
            return name
    cap = stage.item_budget_micros
    if cap is not None and row.cost_micros + row.reserved_micros + micros > cap:
        return "item_budget"
    heal = stage_rules(stage.rules).heal
    cap = heal.budget_micros if heal is not None and row.mode == Mode.HEAL else None
    return "heal_budget" if cap is not None and stage.heal_micros + micros > cap else ""


def hold(unit: RunUnit, short: Short) -> None:
    """The run starts nothing until there is money; it waits once nothing of it runs."""
    unit.run.waiting = short.text
    unit.run.needs_micros = short.needs
    unit.transitions += 1
    unit.emit("budget.held", reason=short.text, data={"needs_micros": short.needs})


def look_again(unit: RunUnit) -> bool:
    """Whether what a run waits for can be paid now."""
    for stage in unit.stages:
        if stage.state != StageState.RUNNING:
            continue
        left, needs = room(unit, stage), unit.run.needs_micros
        if needs is None and budgeted(unit.run, stage):
            # Nobody knew what the item costs that comes first, whatever it is leased for.
            prices = [price(unit, stage, mode) for mode in _modes(stage)]
            if None in prices:
                return False
            needs = prices[0]
        if left is not None and left < (needs or 0):
            return False
    return True


@dataclass
class Bill:
    """What ended attempts of one stage cost, until the transaction writes it: one row of the ledger."""

    unit: RunUnit
    stage: StageRow
    entries: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    micros: int = 0
    costs: Counter[int] = field(default_factory=Counter)
    overs: list[tuple[int, int, int]] = field(default_factory=list)
    uses: dict[str, tuple[int, float]] = field(default_factory=dict)

    def settle(self, row: ItemRow, cost: int) -> None:
        """An attempt whose cost is told."""
        self._enter("settled", row, cost)
        over = cost - row.reserved_micros
        if over > 0 and budgeted(self.unit.run, self.stage):
            self.overs.append((row.seq, row.attempt, over))

    def settle_all(self, told: Iterable[tuple[int, int, int, int]]) -> None:
        """Attempts of mode work whose cost is told: seq, attempt, cost, what was reserved."""
        spent = freed = 0
        capped = budgeted(self.unit.run, self.stage)
        for seq, attempt, cost, reserved in told:
            if cost or reserved:
                self.entries.append(("settled", seq, attempt, cost, reserved))
                spent += cost
                freed += reserved
                if cost > reserved and capped:
                    self.overs.append((seq, attempt, cost - reserved))
        self._add(spent)
        self.unit.run.reserved_micros -= freed
        self.stage.reserved_micros -= freed

    def unknown(self, row: ItemRow) -> None:
        """An attempt whose cost nobody told: what was reserved for it, until a late report tells."""
        self._enter("unknown", row, row.reserved_micros)
        self.unit.run.unknown_micros += row.reserved_micros
        self.stage.unknown_micros += row.reserved_micros

    def correct(self, seq: int, attempt: int, *, cost: int, reserved: int, heal: bool) -> None:
        """A late report tells what an attempt did cost."""
        more = cost - reserved
        self.unit.run.unknown_micros -= reserved
        self.stage.unknown_micros -= reserved
        if heal:
            self.stage.heal_micros += more
        if more:
            self._add(more)
        if more or reserved:
            self.entries.append(("corrected", seq, attempt, more, reserved))
        if more > 0 and budgeted(self.unit.run, self.stage):
            self.overs.append((seq, attempt, more))

    def learn(self, cost: int) -> None:
        """What an item cost, for the price of the next."""
        self.costs[cost] += 1

    def use(self, dimension: str, count: int, total: float) -> None:
        """What so many items used of a dimension, for the estimate of the next."""
        before, sum_ = self.uses.get(dimension, (0, 0.0))
        self.uses[dimension] = before + count, sum_ + total

    def _enter(self, kind: str, row: ItemRow, cost: int) -> None:
        reserved = row.reserved_micros
        if reserved:
            self.unit.run.reserved_micros -= reserved
            self.stage.reserved_micros -= reserved
        if row.mode == Mode.HEAL:
            self.stage.heal_micros += cost - reserved
        if cost:
            self._add(cost)
        if cost or reserved:
            self.entries.append((kind, row.seq, row.attempt, cost, reserved))

    def _add(self, micros: int) -> None:
        self.unit.run.spent_micros += micros
        self.stage.spent_micros += micros
        self.micros += micros

    def close(self) -> None:
        """Writes the ledger and what was learned; tells of overruns."""
        unit, stage = self.unit, self.stage
        if self.costs:
            history = Histogram.of(orjson.loads(stage.costs)) if stage.costs else Histogram()
            for cost, count in self.costs.items():
                history.add(cost, count)
            stage.costs = orjson.dumps(history.rows())
            self.costs = Counter()
        if self.uses:
            known = {name: Use(*use) for name, use in orjson.loads(stage.uses).items()} if stage.uses else {}
            for dimension, (count, total) in self.uses.items():
                known.setdefault(dimension, Use()).add(total, count)
            stage.uses = orjson.dumps({name: (use.samples, use.mean) for name, use in known.items()})
            self.uses = {}
        if self.overs:
            over = sum(more for _, _, more in self.overs)
            unit.run.overrun_micros += over
            stage.overrun_micros += over
            unit.emit(
                "budget.overrun",
                subject=f"stage:{stage.stage}",
                reason=f"{counted(len(self.overs), 'item')} cost {dollars(over)} more than was reserved for them",
                data={"micros": over, "items": len(self.overs), "examples": self.overs[:EXAMPLES]},
            )
            self.overs = []
        if self.entries:
            unit.run.ledger_number += 1
            _ENTER.run(
                unit.connection,
                {
                    "run": unit.run.number,
                    "number": unit.run.ledger_number,
                    "now": unit.now_ms,
                    "stage": stage.stage,
                    "micros": self.micros,
                    "entries": orjson.dumps(self.entries),
                },
            )
            self.entries, self.micros = [], 0
