"""What an onlooker sees of a run and of answers, with nothing in it that differs from one scene to the next.

Two operations that are interleaved must look as if one had come wholly before the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from tests.interleaved.operations import Done, Scene

__all__ = ["Seen", "seen"]

Seen = dict[str, str]
"""Part -> what it looks like."""

_PARTS = {
    "run": "SELECT state, epoch, event_number, settle_number, waiting, budget_micros, spent_micros, reserved_micros,"
    " overrun_micros, unknown_micros, ledger_number, needs_micros FROM runs WHERE number = :n",
    "stages": "SELECT state, running, retry, deferred, completed, failed, skipped, stopped, spent_micros,"
    " reserved_micros, overrun_micros, unknown_micros, failing FROM stages WHERE run = :n ORDER BY stage",
    "items": "SELECT seq, state, attempt, tries, suspect, session, grant_number, settle_number, error_kind, error,"
    " digest, reserved_micros, cost_micros, rank FROM items WHERE run = :n ORDER BY stage, seq",
    "attempts": "SELECT seq, attempt, ended, session, digest, refused_digest, error_kind, cost_micros FROM attempts"
    " WHERE run = :n ORDER BY stage, seq, attempt",
    "events": "SELECT number, type, subject, actor, old_state, new_state, reason FROM events WHERE run = :n"
    " ORDER BY number",
    "ledger": "SELECT convert_from(entries, 'UTF8') FROM ledger WHERE run = :n ORDER BY number",
    "sessions": "SELECT session FROM sessions WHERE ended = 1 ORDER BY session",
}
# Each part as one text, all of them at once.
_SEEN = sa.text(
    "SELECT "
    + ", ".join(f"(SELECT json_agg(one)::text FROM ({part}) AS one) AS {name}" for name, part in _PARTS.items())
)
_OF_THE_MOMENT = ("grantedAfterSeconds", "runId", "actionId", "planId", "number", "payload", "run")
"""And the run as it is when the answer is made, which may be after the other operation."""


def seen(connection: sa.Connection, scene: Scene, done: Sequence[Done]) -> Seen:
    """The rows of the run, and what each operation was answered."""
    found = {name: str(told) for name, told in connection.execute(_SEEN, {"n": scene.number}).one()._asdict().items()}
    found["answers"] = "; ".join(_answer(one) for one in done)
    for name, session in (("one", scene.one.session), ("two", scene.two.session), ("RUN", scene.run_id)):
        found = {part: told.replace(session, name) for part, told in found.items()}
    return found


def _answer(done: Done) -> str:
    if done.error is not None:
        return f"{type(done.error).__name__}: {done.error}"
    if not isinstance(done.answer, Message):
        return repr(done.answer)
    return orjson.dumps(_lasting(MessageToDict(done.answer)), option=orjson.OPT_SORT_KEYS).decode()


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        lasting = {name for name in value if name not in _OF_THE_MOMENT and not name.endswith("Time")}
        return {name: _lasting(value[name]) for name in lasting}
    return [_lasting(one) for one in value] if isinstance(value, list) else value
