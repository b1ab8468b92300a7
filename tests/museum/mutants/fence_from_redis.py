"""Attempts are numbered where leases are kept: they begin again when Redis is made anew."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/items.py",
            "    money = sum([lease.reserved_micros for lease in granted])\n",
            "    numbered = []\n"
            "    for lease in granted:\n"
            "        place = unit.run.run_id, stage.stage, lease.seq\n"
            "        FENCES[place] = FENCES.get(place, 0) + 1\n"
            "        numbered.append(lease._replace(attempt=FENCES[place]))\n"
            "        unit.connection.execute(\n"
            '            sa.text("UPDATE items SET attempt = :a WHERE run = :r AND stage = :s AND seq = :q"),\n'
            '            {"a": FENCES[place], "r": stage.run, "s": stage.stage, "q": lease.seq},\n'
            "        )\n"
            "    granted = numbered\n"
            "    money = sum([lease.reserved_micros for lease in granted])\n",
        ),
        Change(
            "scheduler/store/items.py", "class Stale(", "FENCES: dict[tuple[str, int, int], int] = {}\n\n\nclass Stale("
        ),
        Change(
            "scheduler/ready.py",
            '        meta = f"{self._prefix}:meta"\n        building',
            "        from scheduler.store.items import FENCES\n\n        FENCES.clear()\n"
            '        meta = f"{self._prefix}:meta"\n        building',
        ),
    ),
)
