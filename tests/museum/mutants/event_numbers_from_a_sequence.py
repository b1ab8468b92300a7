"""Numbers of events come from a sequence, which a rollback does not take back."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/unit.py",
            "        self.run.event_number += 1\n",
            "        _LAST[self.run.run_id] = max(_LAST.get(self.run.run_id, 0), self.run.event_number) + 1\n"
            "        self.run.event_number = _LAST[self.run.run_id]\n",
        ),
        Change(
            "scheduler/store/unit.py",
            "@lru_cache(maxsize=1_024)\n",
            "_LAST: dict[str, int] = {}\n\n\n@lru_cache(maxsize=1_024)\n",
        ),
    ),
)
