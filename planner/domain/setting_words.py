"""Settings under the words that people use for them: `budget $1.25`, not `rules.budget_micros 1250000`.

It takes a stage's settings, a selection and an order as a plan keeps them and gives them labels, money in dollars and
lists of one sort in words; `planner.domain.differences` tells what is set otherwise. Parameters keep their names, which
are a processor's own. A rule that is not known here keeps its name as well, so none is hidden. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock.words import dollars
from planner.domain.differences import Words

__all__ = ["selection_words", "stage_words"]


def stage_words(settings: Mapping[str, Any]) -> dict[str, object]:
    """Of a stage; `rules`: the JSON mapping of its message, with parameters as the objects that they are."""
    found: dict[str, object] = {}
    for name, value in settings.items():
        if name != "rules":
            _add(found, name, value, _STAGE)
    for name, rule in settings.get("rules", {}).items():
        if name in _RULES or not isinstance(rule, Mapping):
            _add(found, name, rule, _RULES)
        else:
            for part, value in rule.items():
                _add(found, f"{name}.{part}", value, _RULES)
    return found


def selection_words(selection: Mapping[str, Any]) -> dict[str, object]:
    """Of the JSON mapping of a Selection."""
    found = dict(selection)
    if isinstance(keys := found.get("keys"), Mapping):
        found["keys"] = keys.get("keys", [])
    if "limit" in found:
        found["limit"] = int(found["limit"])
    return found


def _add(found: dict[str, object], name: str, value: Any, words: Mapping[str, tuple[str, _Shown]]) -> None:
    label, shown = words.get(name, (name, _as_it_is))
    found[label] = shown(value)


_Shown = Callable[[Any], object]


def _as_it_is(value: Any) -> object:
    return value


def _money(micros: Any) -> Words:
    """A message's JSON has large numbers as texts."""
    return Words(dollars(int(micros)))


def _number(value: Any) -> int:
    return int(value)


def _seconds(seconds: Any) -> Words:
    return Words(f"{seconds:g} s")


def _yes(value: Any) -> Words:
    return Words("yes" if value else "no")


def _joined(names: Sequence[str]) -> Words:
    return Words(", ".join(names) or "all")


def _answer(name: str) -> Words:
    return Words(name.removeprefix("GATE_ANSWER_").lower())


def _share(share: Any) -> Words:
    return Words(f"{share:.4%}".replace(".0000%", "%"))


def _begins(name: str) -> Words:
    return Words(_RUN_WHEN.get(name, name.removeprefix("RUN_WHEN_").lower()))


def _retry(rules: Sequence[Mapping[str, Any]]) -> Words:
    return Words("; ".join(map(_retry_rule, rules)))


def _retry_rule(rule: Mapping[str, Any]) -> str:
    of = ", ".join(rule.get("kinds", ())) or "every failure"
    parts = [f"{of} like {rule['fingerprint']}" if rule.get("fingerprint") else of]
    if "max_tries" in rule:
        parts.append("never" if rule["max_tries"] == 1 else f"at most {rule['max_tries']} tries")
    parts += [f"first after {rule['first_seconds']:g} s"] if "first_seconds" in rule else []
    parts += [f"at most {rule['max_seconds']:g} s apart"] if "max_seconds" in rule else []
    parts += [f"{rule['factor']:g} times longer each"] if "factor" in rule else []
    return ", ".join(parts)


_RUN_WHEN = {
    "RUN_WHEN_ANY": "when an item of the stage before completed",
    "RUN_WHEN_ALL": "when every item of the stage before completed",
    "RUN_WHEN_ALWAYS": "however the stage before ended",
}
_STAGE: Mapping[str, tuple[str, _Shown]] = {
    "max_tries": ("tries", _as_it_is),
    "max_run_seconds": ("seconds of an item", _as_it_is),
    "paid": ("costs money", _yes),
    "repeatable": ("may be repeated", _yes),
}
_RULES: Mapping[str, tuple[str, _Shown]] = {
    "retry": ("retry", _retry),
    "budget_micros": ("budget", _money),
    "item_budget_micros": ("budget of an item", _money),
    "heal.attempts": ("attempts to heal", _as_it_is),
    "heal.processor": ("healer", _as_it_is),
    "heal.processor_version": ("version of the healer", _as_it_is),
    "heal.parameters": ("parameters of the healer", _as_it_is),
    "heal.kinds": ("failures that are healed", _joined),
    "heal.budget_micros": ("budget of all heals", _money),
    "heal.paid": ("the healer costs money", _yes),
    "confirm.processor": ("second witness", _as_it_is),
    "confirm.processor_version": ("version of the second witness", _as_it_is),
    "confirm.parameters": ("parameters of the second witness", _as_it_is),
    "confirm.paid": ("the second witness costs money", _yes),
    "gate.name": ("gate", _as_it_is),
    "gate.timeout_seconds": ("the gate waits", _seconds),
    "gate.default_answer": ("after that the gate answers", _answer),
    "run_when": ("begins", _begins),
    "tolerance.failures": ("failures that are tolerated", _number),
    "tolerance.share": ("share of failures that is tolerated", _share),
    "valve.failures": ("equal failures that close it", _as_it_is),
    "valve.closed_seconds": ("closed at first for", _seconds),
    "valve.max_seconds": ("closed at most for", _seconds),
}
