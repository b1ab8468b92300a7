"""What is spent and reserved is read before the lock, and written after it."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/locking.py",
            "        answers = iter(together(self.connection, [*locking, *asked]))\n",
            "        for number in stages:\n"
            '            asks = "SELECT spent_micros, reserved_micros FROM runs WHERE number = :n"\n'
            '            before = self.connection.execute(sa.text(asks), {"n": number}).one_or_none()\n'
            "            _BEFORE[id(self.connection), number] = before\n"
            "        answers = iter(together(self.connection, [*locking, *asked]))\n",
        ),
        Change(
            "scheduler/store/locking.py",
            "    return RunUnit(connection, run, stages, now_ms, last_seqs)\n",
            "    run.spent_micros, run.reserved_micros = _BEFORE[id(connection), run.number]\n"
            "    return RunUnit(connection, run, stages, now_ms, last_seqs)\n",
        ),
        Change("scheduler/store/locking.py", "\n\n\ndef lock(", "\n_BEFORE = {}\n\n\ndef lock("),
    ),
    pairs="report-sweep,report-grant",
    seeds=30,
    only_interleaved=True,
)
