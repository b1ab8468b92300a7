"""No fence: a report counts whichever attempt runs by now."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change("scheduler/store/endings.py", "                or row.attempt != outcome.attempt\n", ""),
        Change("scheduler/store/endings.py", "                or row.session != session\n", ""),
        Change("scheduler/store/endings.py", "                and held.attempt == outcome.attempt\n", ""),
        Change("scheduler/store/endings.py", "                and held.session == session\n", ""),
        Change(
            "scheduler/store/items.py",
            "AND attempt = {attempt} AND state = 'running'\"",
            "AND {attempt} > 0 AND state = 'running'\"",
        ),
    ),
)
