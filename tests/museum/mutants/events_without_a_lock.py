"""The number of the next event is read before the lock: two transactions take the same."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/locking.py",
            "        answers = iter(together(self.connection, [*locking, *asked]))\n",
            "        for number in stages:\n"
            '            asks = "SELECT event_number FROM runs WHERE number = :n"\n'
            '            before = self.connection.execute(sa.text(asks), {"n": number}).one_or_none()\n'
            "            _BEFORE[id(self.connection), number] = before\n"
            "        answers = iter(together(self.connection, [*locking, *asked]))\n",
        ),
        Change(
            "scheduler/store/locking.py",
            "    return RunUnit(connection, run, stages, now_ms, last_seqs)\n",
            "    (run.event_number,) = _BEFORE[id(connection), run.number]\n"
            "    return RunUnit(connection, run, stages, now_ms, last_seqs)\n",
        ),
        Change("scheduler/store/locking.py", "\n\n\ndef lock(", "\n_BEFORE = {}\n\n\ndef lock("),
    ),
    pairs="pause-skip,raise_budget-pause",
    seeds=30,
    only_interleaved=True,
)
