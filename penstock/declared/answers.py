"""What came of a program: the outcome of its item, and what people are told of it. Pure.

Whatever a program does ends in exactly one outcome. Its output counts only when it is JSON that its schema allows; what
it cost counts however it ended, as far as its output tells. Where work must not be repeated, a program that did not end
by itself ends its item `unknown`.
"""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import orjson

from penstock.declared.declaration import Declaration
from penstock.declared.form import ExitRule
from penstock.declared.programs import Bounds, Ended
from penstock.declared.schemas import value_problems
from penstock.declared.templates import MissingValue, found
from penstock.processor import Deferred, Failure, Outcome, Result, Throttled, WorkItem
from penstock.words import MAX_AMOUNT, MICROS

__all__ = ["TAIL_CHARACTERS", "outcome_of", "plain_text", "with_logs"]

TAIL_CHARACTERS = 2_000
"""Of a log, in an error; the whole is kept when it is longer."""

_LINE_CHARACTERS = 300
_FINGERPRINT_CHARACTERS = 100
_DEFERRED_SECONDS = 60.0
"""When nobody says how long it waits."""
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_VARIES = re.compile(r"\"[^\"]*\"|'[^']*'|\S*[\d/]\S*")
_NO_MEMORY = re.compile(rb"MemoryError|[Cc]annot allocate memory|[Oo]ut of memory|bad_alloc|std::length_error")
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGTRAP)


@dataclass(frozen=True)
class _Money:
    micros: int = 0
    used: Mapping[str, int] | None = None
    problem: str = ""


def outcome_of(
    declaration: Declaration, item: WorkItem, parameters: Mapping[str, Any], ended: Ended, bounds: Bounds
) -> Outcome:
    """The outcome, without what is kept of its log."""
    form = declaration.form
    if ended.error:
        return Failure(ended.error, kind="refused", fingerprint=_fingerprint(ended.error))
    value, no_json = _value(ended)
    money = _money(declaration, value)
    if (killed := _killed(ended, bounds)) is not None:
        kind, what = killed
        if not form.repeatable:
            kind, what = "unknown", f"{what}; whether it took effect is not known"
        return _failed(declaration, _with_line(what, ended), kind, money, permanent=not form.repeatable)
    rule = form.exit.get(str(ended.code))
    if ended.code and (rule is None or rule.kind != "completed"):
        if rule is not None and rule.kind in ("throttled", "deferred"):
            return _waits(declaration, item, parameters, ended, rule, value, money)
        what = _with_line(f"it exited with {ended.code}", ended)
        kind = rule.kind if rule is not None else "unconfirmed" if item.mode == "confirm" else "item"
        return _failed(declaration, what, kind, money, permanent=rule is not None and rule.permanent)
    if item.mode == "confirm" and ended.output is not None and not ended.output.strip():
        return Result(None, cost_micros=money.micros, used=money.used)
    problem = no_json
    if not problem and form.result and item.mode != "confirm":
        problem = "; ".join(value_problems(form.result, value, "result"))
    if problem := problem or money.problem:
        return _failed(declaration, problem, "invalid_result", money)
    return Result(value, cost_micros=money.micros, used=money.used)


def _failed(declaration: Declaration, what: str, kind: str, money: _Money, *, permanent: bool = False) -> Failure:
    return Failure(
        what,
        kind,
        permanent,
        fingerprint=_fingerprint(what),
        cost_micros=money.micros,
        used=money.used,
        cost_unknown=declaration.form.paid and bool(money.problem),
    )


def _value(ended: Ended) -> tuple[Any, str]:
    """The output's JSON, or why there is none."""
    if ended.output is None:
        return None, ended.output_problem
    if not ended.output.strip():
        return None, "its output is empty, where JSON is expected"
    try:
        return orjson.loads(ended.output), ""
    except orjson.JSONDecodeError as error:
        begins = plain_text(ended.output[:200]).strip()[:100]
        return None, f"its output is no JSON: {error.msg} at character {error.pos}; it begins {begins!r}"


def _money(declaration: Declaration, value: Any) -> _Money:
    cost = declaration.form.cost
    if cost is None:
        return _Money()
    place, unit = (cost.dollars, MICROS) if cost.dollars is not None else (cost.micros or "", 1)
    amount = found(value, place.split("."))
    if amount is None:
        problem = f"its output does not tell what it cost, at {place}" if declaration.form.paid else ""
        micros = 0
    elif not _number(amount) or not 0 <= (micros := round(amount * unit)) <= MAX_AMOUNT:
        return _Money(problem=f"what it cost, at {place} of its output, is {str(amount)[:100]}")
    else:
        problem = ""
    used: dict[str, int] = {}
    for dimension, at in cost.used.items():
        amount = found(value, at.split("."))
        if amount is None:
            continue
        if not _number(amount) or amount != int(amount) or not 0 <= amount <= MAX_AMOUNT:
            return _Money(micros, problem=f"the {dimension} it used, at {at} of its output, are {str(amount)[:100]}")
        used[dimension] = int(amount)
    return _Money(micros, used or None, problem)


def _killed(ended: Ended, bounds: Bounds) -> tuple[str, str] | None:
    """(kind, what) of a program that did not end by itself."""
    if ended.why == "wall":
        return "timeout", f"it was not done within {bounds.wall_seconds:.3g} s (wall_seconds) and was ended"
    if ended.why == "memory":
        bound = _mib(bounds.memory_bytes)
        return "item", f"it and what it started took more than {bound} of memory (memory_bytes) and were ended"
    if ended.why == "output":
        return "invalid_result", f"it printed more than {bounds.output_bytes:,} bytes (output_bytes) and was ended"
    if ended.why == "stopped":
        return "cancelled", "it was told to stop"
    if ended.why == "lost":
        return "item", "its watcher died, or could not keep what it wrote, and it was ended"
    if bounds.memory_bytes and (ended.signal in _CRASHES or ended.code) and _NO_MEMORY.search(ended.log[-8_192:]):
        return "item", f"it had no more memory: {_mib(bounds.memory_bytes)} are its bound (memory_bytes)"
    if ended.signal is None:
        return None
    if ended.signal == signal.SIGXCPU or (
        ended.signal == signal.SIGKILL and bounds.cpu_seconds and ended.cpu_seconds >= bounds.cpu_seconds
    ):
        return "timeout", f"it used more than {bounds.cpu_seconds} s of processor time (cpu_seconds) and was ended"
    if ended.signal == signal.SIGXFSZ:
        return "item", f"it wrote a file larger than {bounds.file_bytes:,} bytes (file_bytes) and was ended"
    if ended.signal == signal.SIGKILL:
        return "item", "it was killed (SIGKILL), as a system does that has no more memory"
    return "item", f"it was ended by {_signal_name(ended.signal)}"


def _waits(
    declaration: Declaration,
    item: WorkItem,
    parameters: Mapping[str, Any],
    ended: Ended,
    rule: ExitRule,
    value: Any,
    money: _Money,
) -> Outcome:
    told = found(value, rule.wait.split(".")) if rule.wait else None
    seconds = float(told) if _number(told) and told >= 0 else rule.wait_seconds
    if rule.kind == "deferred":
        saved = found(value, rule.saved.split(".")) if rule.saved else None
        wait = seconds or _DEFERRED_SECONDS
        return Deferred(after_seconds=wait, saved=saved, cost_micros=money.micros, used=money.used)
    what = _with_line(f"it exited with {ended.code}", ended)
    try:
        key = declaration.exit_limits[ended.code or 0].filled({"payload": item.payload, "parameters": parameters})
    except MissingValue:
        key = None
    if key is None:  # an item that is under no such limit
        return Failure(what, "throttled", cost_micros=money.micros, used=money.used)
    return Throttled(key, seconds, what[:_LINE_CHARACTERS], cost_micros=money.micros, used=money.used)


def with_logs(failure: Failure, ended: Ended, kept: Mapping[str, str]) -> Failure:
    """Its message with the end of the log, and where the whole is. kept: what -> where."""
    parts = [failure.message]
    log = plain_text(ended.log[-4 * TAIL_CHARACTERS :]).strip("\n")
    name = "log"
    if not log and ended.output:
        log, name = plain_text(ended.output[-4 * TAIL_CHARACTERS :]).strip("\n"), "output"
    if log and log not in failure.message:
        cut = "…" if len(log) > TAIL_CHARACTERS else ""
        parts.append(f"The end of its {name}:\n{cut}{log[-TAIL_CHARACTERS:]}")
    parts += [f"Its whole {what}: {where}" for what, where in kept.items()]
    return replace(failure, message="\n".join(parts))


def plain_text(data: bytes) -> str:
    """What a program wrote, without what moves a terminal's cursor."""
    return _CONTROL.sub("", data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n"))


def _with_line(what: str, ended: Ended) -> str:
    lines = [line for line in plain_text(ended.log[-8_192:]).splitlines() if line.strip()]
    return f"{what}: {lines[-1].strip()[:_LINE_CHARACTERS]}" if lines else what


def _fingerprint(what: str) -> str:
    """Failures are equal by what happened and by the last line of their log; the rest of the log differs."""
    return _VARIES.sub("_", what)[:_FINGERPRINT_CHARACTERS]


def _number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB" if size >= 1 << 20 else f"{size:,} bytes"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
