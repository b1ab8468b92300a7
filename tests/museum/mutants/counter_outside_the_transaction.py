"""What waits for its next try is counted after the transaction, in memory: a rollback does not take it back."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/locking.py",
            "    return RunUnit(connection, run, stages, now_ms, last_seqs)\n",
            "    counters = COUNTERS.setdefault(run.number, {})\n"
            "    if run.event_number < 3:\n        counters.clear()\n"
            "    for stage in stages:\n        stage.completed = counters.get(stage.stage, stage.completed)\n"
            "    return RunUnit(connection, run, stages, now_ms, last_seqs)\n",
        ),
        Change(
            "scheduler/store/locking.py",
            "import LAST_SEQ, RunUnit, seq_of\n",
            "import COUNTERS, LAST_SEQ, RunUnit, seq_of\n",
        ),
        Change(
            "scheduler/store/unit.py",
            "    def unwritten(self, effects: Effects) -> list[Asked]:\n",
            "    def unwritten(self, effects: Effects) -> list[Asked]:\n"
            "        COUNTERS.setdefault(self.run.number, {}).update({s.stage: s.completed for s in self.stages})\n",
        ),
        Change(
            "scheduler/store/unit.py",
            "@lru_cache(maxsize=1_024)\n",
            "COUNTERS: dict[int, dict[int, int]] = {}\n\n\n@lru_cache(maxsize=1_024)\n",
        ),
    ),
)
