"""The rules of a stage: checked, all that is wrong told at once, and filled in with what processors say.

A plan keeps rules as the JSON mapping of their message, without what is not set: the same rules, the same plan id. What
is refused here would else be found in the middle of a run, where nobody can change a plan any more.
"""

from __future__ import annotations

import math
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from google.protobuf.json_format import MessageToDict, ParseDict

from penstock.processor import Parameters, Processor, validate_parameters
from penstock.runtime.errors import PenstockError
from penstock.v1 import rules_pb2
from penstock.words import FAILURE_KINDS

__all__ = ["Filled", "Load", "as_message", "as_told", "filled_in", "gate_problems"]

Load = Callable[[str], type[Processor[Any]]]
"""An installed processor by its name. Raises PenstockError."""

MAX_MICROS = 10**15
"""A thousand million dollars."""

_DAY = 86_400.0
_MAX_RULES = 50
_GATE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MAX_FINGERPRINT = 100


@dataclass(frozen=True)
class Filled:
    """Rules as a plan keeps them, or sentences about all that is wrong; and whether healing may be repeated."""

    rules: Mapping[str, Any]
    problems: Sequence[str]
    repeatable: bool = True


_Chosen = tuple[type[Processor[Any]], Parameters]


def as_message(rules: Mapping[str, Any]) -> rules_pb2.StageRules:
    return ParseDict(dict(rules), rules_pb2.StageRules())


def as_told(rules: Mapping[str, Any]) -> dict[str, Any]:
    """The same for people: parameters as the objects that they are. The mapping of a message has them in base64."""
    return {
        name: {**rule, "parameters": orjson.loads(b64decode(rule["parameters"]))}
        if isinstance(rule, Mapping) and "parameters" in rule
        else rule
        for name, rule in rules.items()
    }


def filled_in(
    number: int,
    rules: rules_pb2.StageRules,
    *,
    processor: type[Processor[Any]] | None,
    parameters: Parameters | None,
    load: Load,
) -> Filled:
    """The rules checked and filled in.

    processor, parameters: the stage's own, None when they are wrong themselves.
    """
    kept = rules_pb2.StageRules.FromString(rules.SerializeToString())
    problems = [*_retry(kept.retry), *_tolerance(kept), *_valve(kept), *_gate(kept), *_budgets(kept)]
    if kept.run_when not in rules_pb2.RunWhen.values():
        problems.append(f"run_when is {kept.run_when}, which is unknown")
    elif number == 0 and kept.run_when not in (rules_pb2.RUN_WHEN_UNSPECIFIED, rules_pb2.RUN_WHEN_ANY):
        problems.append("run_when is set for the first stage, which always begins")
    healers: list[_Chosen] = []
    if kept.HasField("heal"):
        problems += _heal(kept.heal, processor, parameters, load, healers)
    if kept.HasField("confirm"):
        problems += _confirm(kept.confirm, load)
    if problems:
        return Filled({}, [f"stage {number}: {problem}" for problem in problems])
    repeatable = all(healer.is_repeatable(values) for healer, values in healers)
    return Filled(MessageToDict(kept, preserving_proto_field_name=True), (), repeatable)


def gate_problems(stages: Sequence[rules_pb2.StageRules]) -> list[str]:
    """Gates that could not be told apart."""
    names = [rules.gate.name for rules in stages if rules.gate.name]
    return [f"gate {name!r} stands twice in the plan" for name in sorted({n for n in names if names.count(n) > 1})]


def _retry(rules: Sequence[rules_pb2.RetryRule]) -> Iterator[str]:
    if len(rules) > _MAX_RULES:
        yield f"there are {len(rules)} retry rules, at most {_MAX_RULES} are read"
        return
    taken: set[str] = set()
    for place, rule in enumerate(rules):
        name = f"retry rule {place}"
        yield from _kinds(name, rule.kinds)
        if len(rule.fingerprint) > _MAX_FINGERPRINT:
            yield f"{name}: fingerprint has {len(rule.fingerprint)} characters, it may have {_MAX_FINGERPRINT}"
        if rule.HasField("max_tries") and not 1 <= rule.max_tries <= 100:
            yield f"{name}: max_tries is {rule.max_tries}, it may be 1-100 (1: never again)"
        yield from _range(f"{name}: first_seconds", rule.first_seconds, 0.01, 7 * _DAY, "the scheduler's")
        yield from _range(f"{name}: max_seconds", rule.max_seconds, 0.01, 7 * _DAY, "the scheduler's")
        if 0 < rule.max_seconds < rule.first_seconds:
            yield f"{name}: max_seconds {rule.max_seconds:g} is below first_seconds {rule.first_seconds:g}"
        yield from _range(f"{name}: factor", rule.factor, 1.0, 100.0, "2")
        kinds = set(rule.kinds or FAILURE_KINDS)
        if kinds <= taken:
            yield f"{name} is never reached: the rules before it take {'all of ' if rule.kinds else ''}its failures"
        if not rule.fingerprint:
            taken |= kinds


def _kinds(name: str, kinds: Sequence[str]) -> Iterator[str]:
    unknown = [kind for kind in kinds if kind not in FAILURE_KINDS]
    if unknown:
        told = ", ".join(repr(kind[:40]) for kind in unknown[:5])
        yield f"{name}: {told} is no kind of failure; there are: {', '.join(FAILURE_KINDS)}"
    twice = sorted({kind for kind in kinds if list(kinds).count(kind) > 1})
    if twice:
        yield f"{name}: {', '.join(twice)[:100]} is named twice"


def _tolerance(rules: rules_pb2.StageRules) -> Iterator[str]:
    tolerance = rules.tolerance
    if not rules.HasField("tolerance"):
        return
    if not (tolerance.HasField("failures") or tolerance.HasField("share")):
        yield "tolerance says neither how many failures nor which share"
    if tolerance.HasField("failures") and tolerance.failures < 0:
        yield f"tolerance.failures is {tolerance.failures}, it may be 0 or more"
    if tolerance.HasField("share") and not 0 <= tolerance.share <= 1:
        yield f"tolerance.share is {tolerance.share:g}, it may be 0-1"


def _valve(rules: rules_pb2.StageRules) -> Iterator[str]:
    valve = rules.valve
    if not rules.HasField("valve"):
        return
    if not 1 <= valve.failures <= 1000:
        yield f"valve.failures is {valve.failures}, it may be 1-1000"
    yield from _range("valve.closed_seconds", valve.closed_seconds, 0.01, _DAY, "the scheduler's")
    yield from _range("valve.max_seconds", valve.max_seconds, 0.01, 7 * _DAY, "the scheduler's")
    if 0 < valve.max_seconds < valve.closed_seconds:
        yield f"valve.max_seconds {valve.max_seconds:g} is below valve.closed_seconds {valve.closed_seconds:g}"


def _gate(rules: rules_pb2.StageRules) -> Iterator[str]:
    gate = rules.gate
    if not rules.HasField("gate"):
        return
    if not _GATE.fullmatch(gate.name):
        yield f"gate.name is {gate.name[:100]!r}; it has 1-63 of a-z, 0-9, _ and -"
    yield from _range("gate.timeout_seconds", gate.timeout_seconds, 0.01, 366 * _DAY, "it waits for ever")
    if gate.default_answer not in rules_pb2.GateAnswer.values():
        yield f"gate.default_answer is {gate.default_answer}, which is unknown"
    elif gate.default_answer and not gate.timeout_seconds:
        yield "gate.default_answer needs a gate.timeout_seconds: a gate without one waits for ever"


def _budgets(rules: rules_pb2.StageRules) -> Iterator[str]:
    for name in ("budget_micros", "item_budget_micros"):
        if rules.HasField(name):
            yield from _micros(name, getattr(rules, name))
    if rules.HasField("heal") and rules.heal.HasField("budget_micros"):
        yield from _micros("heal.budget_micros", rules.heal.budget_micros)


def _micros(name: str, value: int) -> Iterator[str]:
    if not 0 <= value <= MAX_MICROS:
        yield f"{name} is {value:,}, it may be 0-{MAX_MICROS:,} (millionths of a dollar)"


def _heal(
    heal: rules_pb2.HealRules,
    processor: type[Processor[Any]] | None,
    own: Parameters | None,
    load: Load,
    named: list[_Chosen],
) -> Iterator[str]:
    if not 1 <= heal.attempts <= 5:
        yield f"heal.attempts is {heal.attempts}, it may be 1-5"
    yield from _kinds("heal", heal.kinds)
    if heal.processor:
        yield from _processor("heal", heal, load, named)
    elif heal.parameters and processor is not None:
        heal.processor = processor.name
        yield from _processor("heal", heal, load, named)
    elif processor is not None and own is not None:
        heal.processor, heal.processor_version = processor.name, processor.version
        heal.parameters, heal.paid = _canonical(own), processor.is_paid(own)


def _confirm(confirm: rules_pb2.ConfirmRules, load: Load) -> Iterator[str]:
    if confirm.processor:
        yield from _processor("confirm", confirm, load, [])
    else:
        yield "confirm.processor is empty: a second witness must be named"


def _processor(
    name: str, rules: rules_pb2.HealRules | rules_pb2.ConfirmRules, load: Load, named: list[_Chosen]
) -> Iterator[str]:
    """Fills in the version, the parameters, and whether it costs money."""
    try:
        values = orjson.loads(rules.parameters) if rules.parameters else {}
    except ValueError:
        values = None
    if not isinstance(values, dict):
        yield f"{name}.parameters are not a JSON object"
        return
    try:
        found = load(rules.processor)
        parameters = validate_parameters(found, values)
    except PenstockError as error:
        yield f"{name}: {error.message}"
        return
    rules.processor_version = found.version
    rules.parameters, rules.paid = _canonical(parameters), found.is_paid(parameters)
    named.append((found, parameters))


def _canonical(parameters: Parameters) -> bytes:
    return orjson.dumps(parameters.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)


def _range(name: str, value: float, least: float, most: float, zero: str) -> Iterator[str]:
    if value != 0 and not (math.isfinite(value) and least <= value <= most):
        yield f"{name} is {value:g}, it may be {least:g}-{most:g} (0: {zero})"
